from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pytorchvideo.layers.nonlocal_net import create_nonlocal
from torch import nn
from torch.nn.utils import prune

from farfield.layers import NonLocalBlock1d, NonLocalBlock2d, NonLocalBlock3d
from layers.blocks import awake
from reference.non_local import non_local_loops, positions

PAIRWISE = ["gaussian", "embedded_gaussian", "dot_product", "concatenation"]
BLOCKS = {1: NonLocalBlock1d, 2: NonLocalBlock2d, 3: NonLocalBlock3d}
SIZES = {1: (7,), 2: (3, 5), 3: (2, 3, 5)}

FORMS: dict[str, tuple[int, dict[str, Any]]] = {
    f"{pairwise} {words}": (3, {"pairwise": pairwise, **options})
    for pairwise in PAIRWISE
    for words, options in {
        "paper": {},
        "unpooled": {"key_pool": None},
        "pooled over time": {"key_pool": (2, 1, 2)},
        "pooled after": {"pool_after_projection": True},
        "space": {"scope": "space"},
        "time": {"scope": "time"},
        "heads": {"num_heads": 3},
        "groups": {"groups": 3, "key_pool": None},
        "heads in groups": {"groups": 3, "num_heads": 6, "out_bias": False},
        "wide": {"inner_channels": 12},
    }.items()
}
FORMS |= {f"{pairwise} {ndim}d": (ndim, {"pairwise": pairwise}) for pairwise in PAIRWISE for ndim in (1, 2)}
FORMS |= {
    f"{pairwise} scale {scale}": (3, {"pairwise": pairwise, "scale": scale})
    for pairwise in PAIRWISE[:3]
    for scale in (True, False)
}


def scale_of(options: dict[str, Any], channels: int) -> float:
    """1/sqrt(width of what is compared), where asked for; the embedded Gaussian has it unless told otherwise."""
    pairwise = options["pairwise"]
    width = channels if pairwise == "gaussian" else options.get("inner_channels", channels // 2)
    width //= options.get("num_heads", options.get("groups", 1))
    asked = options.get("scale", pairwise == "embedded_gaussian")
    return width**-0.5 if asked else 1.0


@pytest.mark.parametrize("form", FORMS)
def test_agrees_with_the_equations_as_loops(form: str) -> None:
    ndim, options = FORMS[form]
    block = awake(BLOCKS[ndim](12, **options)).double().eval()
    x = torch.randn(2, 12, *SIZES[ndim], dtype=torch.float64) * 0.5
    queries = torch.tensor(positions(SIZES[ndim]))
    with torch.no_grad():
        loops = [non_local_loops(clip, block, scale=scale_of(options, 12)) for clip in x]
        torch.testing.assert_close(block(x), x + block.norm(torch.stack([y for y, _ in loops])), rtol=1e-11, atol=1e-12)
        weights = torch.stack([weights.flatten(1, ndim) for _, weights in loops])
        torch.testing.assert_close(block.attention(x, queries), weights, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("pairwise", ["softmax", "dot_product"])
@pytest.mark.parametrize("key_pool", [(1, 1, 1), (1, 2, 2)])
@pytest.mark.parametrize("training", [False, True])
def test_agrees_with_pytorchvideo_in_values_and_gradients(
    pairwise: str, key_pool: tuple[int, int, int], training: bool
) -> None:
    form = {"softmax": "embedded_gaussian", "dot_product": "dot_product"}[pairwise]
    ours = awake(NonLocalBlock3d(6, pairwise=form, key_pool=key_pool)).double().train(training)
    theirs = create_nonlocal(dim_in=6, dim_inner=3, pool_size=key_pool, instantiation=pairwise)
    theirs = theirs.double().train(training)
    names = {"theta": "conv_theta", "phi": "conv_phi", "g": "conv_g", "w_z": "conv_out", "norm": "norm"}
    state = {names[key.split(".")[0]] + "." + key.split(".")[1]: value for key, value in ours.state_dict().items()}
    theirs.load_state_dict(state)
    x = torch.randn(2, 6, 3, 5, 4, dtype=torch.float64)
    x_ours, x_theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y_ours, y_theirs = ours(x_ours), theirs(x_theirs)
    torch.testing.assert_close(y_ours, y_theirs, rtol=1e-10, atol=1e-10)
    cotangent = torch.randn_like(y_ours)
    (y_ours * cotangent).sum().backward()
    (y_theirs * cotangent).sum().backward()
    torch.testing.assert_close(x_ours.grad, x_theirs.grad, rtol=1e-8, atol=1e-9)
    for name, parameter in ours.named_parameters():
        other = theirs.get_parameter(f"{names[name.split('.')[0]]}.{name.split('.')[1]}")
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-8, atol=1e-9, msg=name)


def test_every_output_depends_on_the_whole_clip() -> None:
    """A change at one corner of the clip reaches the opposite one, unless the scope says otherwise."""
    x = torch.randn(1, 4, 5, 3, 7, dtype=torch.float64)
    changed = x.clone()
    changed[0, :, 0, 0, 0] += 1
    reached = {}
    for scope in ("spacetime", "space", "time"):
        block = awake(NonLocalBlock3d(4, key_pool=None, scope=scope)).double().eval()
        reached[scope] = (block(changed) - block(x))[0].abs().amax(0) > 1e-9
    everywhere = torch.ones(5, 3, 7, dtype=torch.bool)
    first_frame, first_place = torch.zeros_like(everywhere), torch.zeros_like(everywhere)
    first_frame[0], first_place[:, 0, 0] = True, True
    assert torch.equal(reached["spacetime"], everywhere)
    assert torch.equal(reached["space"], first_frame)
    assert torch.equal(reached["time"], first_place)


@pytest.mark.parametrize("pairwise", PAIRWISE)
def test_is_equivariant_to_permutations_of_positions(pairwise: str) -> None:
    block = awake(NonLocalBlock3d(4, pairwise=pairwise, key_pool=None)).double().eval()
    x = torch.randn(1, 4, 3, 2, 5, dtype=torch.float64)
    order = torch.randperm(30)
    shuffled = x.flatten(2)[:, :, order].view_as(x)
    expected = block(x).flatten(2)[:, :, order].view_as(x)
    torch.testing.assert_close(block(shuffled), expected, rtol=1e-10, atol=1e-10)


def test_pooling_before_and_after_the_projection_differ() -> None:
    """A maximum does not commute with a projection, so that a checkpoint needs the order it was trained in."""
    before = awake(NonLocalBlock3d(4)).eval()
    after = NonLocalBlock3d(4, pool_after_projection=True).eval()
    after.load_state_dict(before.state_dict())
    x = torch.randn(1, 4, 2, 4, 4)
    assert (before(x) - after(x)).abs().max() > 1e-3


def test_parameters_are_the_papers() -> None:
    """7,358,464 parameters in five blocks, two at C = 512 and three at 1024, with a bias in W_z."""
    blocks = [NonLocalBlock3d(channels) for channels in (512, 512, 1024, 1024, 1024)]
    assert sum(p.numel() for block in blocks for p in block.parameters()) == 7_358_464
    assert {key.split(".")[0] for key in blocks[0].state_dict()} == {"theta", "phi", "g", "w_z", "norm"}
    gaussian = NonLocalBlock3d(4, pairwise="gaussian").state_dict()
    assert {key.split(".")[0] for key in gaussian} == {"g", "w_z", "norm"}
    assert "w_z.bias" not in NonLocalBlock3d(4, out_bias=False).state_dict()
    assert "w_f" in NonLocalBlock3d(4, pairwise="concatenation").state_dict()


def test_a_reset_makes_it_the_identity_again() -> None:
    for options in ({}, {"norm": False}):
        block = awake(NonLocalBlock3d(4, **options))
        block.reset_parameters()
        x = torch.randn(2, 4, 2, 2, 2)
        assert torch.equal(block(x), x)


def test_is_an_instance_of_pytorchs_convolution() -> None:
    assert isinstance(NonLocalBlock3d(4).theta, nn.Conv3d)
    assert NonLocalBlock3d(4).theta.weight.shape == (2, 4, 1, 1, 1)


def test_concatenation_calls_its_projections() -> None:
    """An adapter that has the weight of what it wraps, a hook, and pruning by a hook change the block's output."""
    block, x = awake(NonLocalBlock3d(8, pairwise="concatenation")).eval(), torch.randn(1, 8, 2, 4, 4)
    before = block(x)

    class Shifted(nn.Conv3d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 1

    theta = block.theta
    block.theta = Shifted(8, 4, 1)
    block.theta.load_state_dict(theta.state_dict())
    expected = copy.deepcopy(block)
    expected.theta = nn.Conv3d(8, 4, 1)
    expected.theta.load_state_dict(theta.state_dict())
    with torch.no_grad():
        expected.theta.bias.add_(1)
    torch.testing.assert_close(block(x), expected(x))
    block.theta = theta
    torch.testing.assert_close(block(x), before)
    prune.l1_unstructured(block.phi, "weight", 0.5)
    pruned = block(x)
    with torch.no_grad():
        block.phi.weight_orig.zero_()
    assert not torch.allclose(block(x), pruned)


def test_an_input_smaller_than_the_pool_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"is \(2, 1, 5\), which is smaller than the key_pool \(1, 2, 2\).*set key_pool"
    ):
        NonLocalBlock3d(4)(torch.randn(1, 4, 2, 1, 5))


@pytest.mark.parametrize(
    ("block", "options", "message"),
    [
        (NonLocalBlock3d, {"channels": 1}, "given channels=1 and inner_channels=0. Set inner_channels"),
        (NonLocalBlock3d, {"channels": 4, "pairwise": "softmax"}, "pairwise is 'softmax'; choose among gaussian, emb"),
        (NonLocalBlock3d, {"channels": 4, "scope": "frame"}, "scope is 'frame'; give 'spacetime', 'space' or 'time'"),
        (NonLocalBlock2d, {"channels": 4, "scope": "time"}, "scope is 'time', but NonLocalBlock2d has only 'space"),
        (NonLocalBlock3d, {"channels": 8, "num_heads": 3}, r"num_heads is 3 .* must divide inner_channels \(4\)"),
        (
            NonLocalBlock3d,
            {"channels": 8, "groups": 2, "num_heads": 1},
            r"num_heads is 1 and groups is 2; .* groups must divide num_heads and channels \(8\)",
        ),
        (NonLocalBlock3d, {"channels": 4, "key_pool": 2}, "key_pool is 2; give 3 positive window sizes"),
        (NonLocalBlock3d, {"channels": 4, "key_pool": (2, 2)}, r"key_pool is \(2, 2\); give 3 positive window sizes"),
        (
            NonLocalBlock3d,
            {"channels": 4, "scope": "time", "key_pool": (1, 2, 2)},
            "do not attend to each other with scope 'time'",
        ),
        (
            NonLocalBlock3d,
            {"channels": 4, "scope": "space", "key_pool": (2, 1, 1)},
            "do not attend to each other with scope 'space'",
        ),
        (NonLocalBlock3d, {"channels": 4, "pairwise": "concatenation", "scale": True}, "has no scale. Leave scale out"),
    ],
)
def test_invalid_options_are_refused(
    block: type[nn.Module], options: dict[str, Any], message: str, types_unchecked: None
) -> None:
    with pytest.raises(ValueError, match=message):
        block(**options)


def test_a_query_outside_is_refused(types_unchecked: None) -> None:
    block = NonLocalBlock3d(4)
    with pytest.raises(ValueError, match=r"query \[0, 5, 0\] lies outside of the input, whose size is \(2, 3, 4\)"):
        block.attention(torch.randn(1, 4, 2, 3, 4), torch.tensor([[0, 0, 0], [0, 5, 0]]))
    for queries in (torch.tensor([0, 0, 0]), torch.zeros(1, 3), [[0, 0, 0]]):
        with pytest.raises(ValueError, match=r"queries must be an integer tensor \(q, 3\), one row per position"):
            block.attention(torch.randn(1, 4, 2, 3, 4), queries)
    with pytest.raises(ValueError, match=r"each query needs 3 coordinates, one per axis of \(2, 3, 4\); given 2"):
        block.attention(torch.randn(1, 4, 2, 3, 4), torch.tensor([[0, 0]]))
