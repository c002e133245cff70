"""Self-attention, DANet, CCNet, Coordinate Attention, OCRNet, each against its paper's equations as loops."""

from __future__ import annotations

import pytest
import torch

from farfield.layers import (
    CoordinateAttention,
    CrissCrossAttention,
    DualAttention,
    ObjectContext,
    SelfAttention,
    channel_attention,
)
from farfield.layers.self_attention import softmax_concatenation
from layers.blocks import awake
from reference import attention as loops
from reference.non_local import positions

SIZES = {2: (3, 5), 3: (2, 3, 5)}
both = pytest.mark.parametrize("ndim", [2, 3])


def clip(ndim: int, channels: int = 8) -> torch.Tensor:
    return torch.randn(2, channels, *SIZES[ndim], dtype=torch.float64) * 0.5


def close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-11)


@both
@pytest.mark.parametrize("similarity", ["dot_product", "concatenation", "perceptron"])
@torch.no_grad()
def test_self_attention(ndim: int, similarity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = awake(SelfAttention(8, similarity=similarity, reduction=3, ndim=ndim)).double()
    x = clip(ndim)
    expected = torch.stack([c + layer.gamma * loops.self_attention(c, layer, similarity) for c in x])
    close(layer(x), expected)
    y, attention = layer(x, return_attention=True)
    close(y, expected)
    close(attention.sum(-1), torch.ones_like(attention[..., 0]))
    maps = layer.attention(x, torch.tensor(positions(SIZES[ndim])))
    close(maps.flatten(3)[:, 0], attention)
    monkeypatch.setattr("farfield.layers.self_attention.SLICE", 1)
    close(layer(x), expected)


def test_concatenation_softmax_holds_large_affinities() -> None:
    a, b, value = torch.randn(1, 17) * 300, torch.randn(1, 13) * 300, torch.randn(1, 13, 3)
    a, b, value = a.double(), b.double(), value.double()
    expected = (a.unsqueeze(2) + b.unsqueeze(1)).relu().softmax(-1) @ value
    close(softmax_concatenation(a, b, value), expected)
    close(softmax_concatenation(a - 5000, b, value), value.mean(1, keepdim=True).expand_as(expected))


@both
@torch.no_grad()
def test_dual_attention(ndim: int) -> None:
    layer = awake(DualAttention(8, reduction=2, ndim=ndim)).double()
    paper = DualAttention(8, reduction=2, ndim=ndim, identity_at_init=False).double()
    paper.load_state_dict(layer.state_dict())
    x = clip(ndim)
    p = torch.stack([loops.self_attention(c, layer.position) for c in x])
    c = torch.stack([loops.channel_attention(c) for c in x])
    close(layer(x), x + layer.position.gamma * p + layer.gamma_c * c)
    large = torch.randn(1, 8, *{2: (64, 64), 3: (16, 16, 16)}[ndim]) * 4
    with torch.autocast("cpu", dtype=torch.bfloat16):  # energies in the thousands keep all their bits
        torch.testing.assert_close(
            channel_attention(large.flatten(2).mT), channel_attention(large.flatten(2).mT.float())
        )
    close(paper(x), (x + layer.position.gamma * p) + (x + layer.gamma_c * c))
    maps = layer.attention(x, torch.tensor(positions(SIZES[ndim])))
    gathered = maps.flatten(3)[:, 0] @ layer.position.value(x).flatten(2).mT
    close(gathered.mT.reshape(p.shape), p)


@both
@torch.no_grad()
def test_criss_cross(ndim: int) -> None:
    x = clip(ndim)
    for passes in (1, 2):
        layer = awake(CrissCrossAttention(8, passes=passes, ndim=ndim)).double()
        close(layer(x), torch.stack([loops.criss_cross(c, layer) for c in x]))
    paper = CrissCrossAttention(8, passes=2, ndim=ndim, identity_at_init=False).double()
    paper.load_state_dict({k: v for k, v in layer.state_dict().items() if k != "gamma"})
    torch.nn.init.ones_(layer.gamma)
    close(paper(x), layer(x))
    one = awake(CrissCrossAttention(8, passes=1, ndim=ndim)).double()
    maps = one.attention(x, torch.tensor(positions(SIZES[ndim])))
    gathered = (maps.flatten(3)[:, 0] @ one.value(x).flatten(2).mT).mT.reshape(x.shape)
    close(x + one.gamma * gathered, one(x))
    assert (maps[0, 0] > 0).flatten(1).sum(1).tolist() == [sum(SIZES[ndim]) - ndim + 1] * len(maps[0, 0])


@both
def test_criss_cross_reaches_everywhere_in_as_many_passes_as_axes(ndim: int) -> None:
    x = clip(ndim)[:1]
    changed = x.clone()
    changed[(0, slice(None), *(0,) * ndim)] += 1
    for passes in range(1, ndim + 1):
        layer = awake(CrissCrossAttention(8, passes=passes, ndim=ndim)).double()
        reached = (layer(changed) - layer(x)).abs().amax((0, 1)) > 0
        expected = torch.tensor([sum(c > 0 for c in i) <= passes for i in positions(SIZES[ndim])])
        assert torch.equal(reached.flatten(), expected)


@both
@torch.no_grad()
def test_coordinate_attention(ndim: int) -> None:
    layer = awake(CoordinateAttention(8, ndim=ndim)).double().eval()
    paper = CoordinateAttention(8, ndim=ndim, identity_at_init=False).double().eval()
    paper.load_state_dict({k: v for k, v in layer.state_dict().items() if k != "gamma"})
    x = clip(ndim)
    b = torch.stack([loops.coordinate(c, layer) for c in x])
    close(layer(x), x + layer.gamma * (b - x))
    close(paper(x), b)
    assert [tuple(gate.shape) for gate in layer.gates(x)] == [(2, 8, size) for size in SIZES[ndim]]


@both
@torch.no_grad()
def test_object_context(ndim: int) -> None:
    for scale, factor in ((True, 5**-0.5), (False, 1.0)):
        layer = awake(ObjectContext(8, 3, key_channels=5, ndim=ndim, scale=scale)).double().eval()
        x = clip(ndim)
        b = torch.stack([loops.object_context(c, layer, scale=factor)[0] for c in x])
        close(layer(x), x + layer.gamma * (b - x))
    layer = awake(ObjectContext(8, 3, key_channels=5, ndim=ndim)).double().eval()
    paper = ObjectContext(8, 3, key_channels=5, ndim=ndim, identity_at_init=False).double().eval()
    paper.load_state_dict({k: v for k, v in layer.state_dict().items() if k != "gamma"})
    x = clip(ndim)
    found = [loops.object_context(c, layer, scale=5**-0.5) for c in x]
    b = torch.stack([b for b, _ in found])
    close(layer(x), x + layer.gamma * (b - x))
    close(paper(x), b)
    y, regions = layer(x, return_regions=True)
    close(y, layer(x))
    close(regions, layer.regions(x))
    assert regions.shape == (2, 3, *SIZES[ndim])
    maps = layer.attention(x, torch.tensor(positions(SIZES[ndim])))
    close(maps[:, 0], torch.stack([gathers.flatten(0, ndim - 1) for _, gathers in found]))


def test_narrow_features_keep_one_channel_to_compare() -> None:
    for layer in (SelfAttention(3), DualAttention(3).position, CrissCrossAttention(3)):
        assert layer.query.out_channels == 1


def test_invalid_options_are_refused(types_unchecked: None) -> None:
    with pytest.raises(ValueError, match="similarity is 'cosine'; choose among dot_product, concatenation, perceptron"):
        SelfAttention(8, similarity="cosine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"ndim is the number of position axes: 3 for .*, 2 for b c h w; given 4"):
        DualAttention(8, ndim=4)
    for sizes in ({"channels": 0}, {"channels": 8, "reduction": 0}):
        with pytest.raises(ValueError, match="channels and reduction must be at least 1; given"):
            SelfAttention(**sizes)
    with pytest.raises(ValueError, match="passes is 0; give at least 1"):
        CrissCrossAttention(8, passes=0)
    with pytest.raises(ValueError, match=r"num_regions is 0; give at least 1 \(for classification, one per class\)"):
        ObjectContext(8, 0)
