"""Attention maps against the equations written as loops, and their drawings against the expected pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from farfield import build_model
from farfield.errors import FarfieldError
from farfield.interpretability.attention_maps import AttentionMap, attention_maps, draw_attention, most_effective
from farfield.interpretability.block_activations import record_activations
from farfield.models.insertion import BLOCKS
from farfield.models.network import ActionNet
from layers.blocks import awake
from reference.non_local import non_local_loops

CLIP = (1, 3, 5, 40, 56)  # 5 x 5 x 7 positions in res3, 5 x 3 x 4 in res4


def network(block: str = "non_local", **options: Any) -> ActionNet:
    clip = {"num_frames": 5, "crop_px": 40}
    insert = {"res3": [1], "res4": [0]}
    made = build_model("tiny", num_classes=3, insert=insert, block=block, block_options=options, clip=clip)
    made.eval()
    for inserted in inserted_blocks(made).values():
        awake(inserted)
        if block == "non_local":
            inserted.register_forward_pre_hook(_spread)
    made(torch.randn(CLIP))
    for inserted in inserted_blocks(made).values():
        inserted._forward_pre_hooks.clear()
    return made


@torch.no_grad()
def _spread(block: Any, inputs: tuple[Tensor, ...]) -> None:
    """Scale theta and phi to affinities around 2, so that attention is neither uniform nor at one place."""
    theta, phi = (conv(inputs[0]).flatten(2)[0] for conv in (block.theta, block.phi))
    factor = (2 / float((block.scale * theta.mT @ phi).std())) ** 0.5
    for conv in (block.theta, block.phi):
        conv.weight.mul_(factor)
        conv.bias.mul_(factor)


def inserted_blocks(made: ActionNet) -> dict[str, nn.Module]:
    blocks: Any = made.backbone.blocks
    return {"res3[1]": blocks("res3")[1].inserted, "res4[0]": blocks("res4")[0].inserted}


def expected_weights(made: ActionNet, clip: Tensor, *, absolute: bool = False) -> dict[str, Tensor]:
    """Compute softmax(theta^T phi) of every position by loops in float64, averaged over heads: t h w, keys t h w."""
    given: dict[str, Tensor] = {}
    hooks = [
        block.register_forward_pre_hook(lambda m, inputs, name=name: given.update({name: inputs[0]}))
        for name, block in inserted_blocks(made).items()
    ]
    with torch.no_grad():
        made(clip)
    for hook in hooks:
        hook.remove()
    weights = {}
    for name, block in inserted_blocks(made).items():
        inner = block.theta.out_channels // block.heads  # type: ignore[union-attr,operator]
        scale = 1.0 if block.pairwise == "dot_product" else inner**-0.5
        with torch.no_grad():
            of_heads = non_local_loops(given[name][0].double(), block.double(), scale=scale)[1]
        block.float()
        each = of_heads.abs().mean(0)
        weights[name] = each / each.sum((3, 4, 5), keepdim=True)
    return weights


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"num_heads": 4}, {"scope": "space"}])
def test_a_map_agrees_with_the_softmax_written_as_loops(options: dict[str, Any]) -> None:
    made, clip = network(**options), torch.randn(CLIP)
    position = (0.55, 0.33, 0.77)  # (2, 1, 5) of 5 x 5 x 7, (2, 0, 3) of 5 x 3 x 4
    maps = attention_maps(made, clip, position=position)
    expected = expected_weights(made, clip)
    assert [each.block for each in maps] == ["res3[1]", "res4[0]"]
    for found, (t, h, w) in zip(maps, [(2, 1, 5), (2, 0, 3)], strict=True):
        weights = expected[found.block][t, h, w]
        torch.testing.assert_close(found.weights.double(), weights, rtol=1e-4, atol=1e-6)
        assert float(found.weights.sum()) == pytest.approx(1, abs=1e-5)
        bits = scipy.stats.entropy(weights.flatten().numpy(), base=2)
        assert found.entropy == pytest.approx(bits, abs=1e-3)
        assert bits < math.log2(weights.count_nonzero()) - 0.05  # not uniform, which would show nothing
    sizes = {"res3[1]": (5, 5, 7), "res4[0]": (5, 3, 4)}
    for found, place in zip(maps, [(2, 1, 5), (2, 0, 3)], strict=True):
        middle = tuple((at + 0.5) / size for at, size in zip(place, sizes[found.block], strict=True))
        assert found.query == pytest.approx(middle)


@pytest.mark.slow
def test_the_chosen_position_has_the_least_entropy_of_the_grid() -> None:
    made, clip = network(), torch.randn(CLIP)
    maps = attention_maps(made, clip)
    expected = expected_weights(made, clip)
    for found in maps:
        weights = expected[found.block]
        t, h, w = weights.shape[:3]
        entropies = {}
        for a, b, c in np.ndindex(4, 4, 4):
            place = int((a + 0.5) / 4 * t), int((b + 0.5) / 4 * h), int((c + 0.5) / 4 * w)
            entropies[place] = scipy.stats.entropy(weights[place].flatten().numpy(), base=2)
        least, next_least = sorted(entropies.values())[:2]
        assert next_least - least > 1e-5
        (best,) = [place for place, bits in entropies.items() if bits == least]
        assert found.query == pytest.approx([(at + 0.5) / size for at, size in zip(best, (t, h, w), strict=True)])
        assert found.entropy == pytest.approx(least, abs=1e-3)
        torch.testing.assert_close(found.weights.double(), weights[best], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_weights_of_other_forms_than_softmax_are_absolute() -> None:
    made, clip = network(pairwise="dot_product"), torch.randn(CLIP)
    maps = attention_maps(made, clip, position=(0.1, 0.5, 0.9))
    expected = expected_weights(made, clip)
    for found, place in zip(maps, [(0, 2, 6), (0, 1, 3)], strict=True):
        torch.testing.assert_close(found.weights.double(), expected[found.block][place], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("block", [name for name in BLOCKS if name != "coordinate_attention"])
def test_every_block_that_attends_to_positions_has_maps(block: str) -> None:
    maps = attention_maps(network(block), torch.randn(CLIP))
    assert [each.block for each in maps] == ["res3[1]", "res4[0]"]
    for each in maps:
        assert bool((each.weights >= 0).all())
        assert float(each.weights.sum()) == pytest.approx(1, abs=1e-5)
        assert 0 <= each.entropy <= math.log2(each.weights.numel()) + 1e-4
        assert each.entropy == pytest.approx(scipy.stats.entropy(each.weights.flatten().numpy(), base=2), abs=1e-3)


def test_a_block_without_attention_over_positions_has_no_map() -> None:
    assert attention_maps(network("coordinate_attention"), torch.randn(CLIP)) == []
    plain = build_model("tiny", num_classes=3, clip={"num_frames": 5, "crop_px": 40}).eval()
    assert attention_maps(plain, torch.randn(CLIP)) == []


def test_hooks_are_removed_after_an_error_too() -> None:
    made = network()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    attention_maps(made, torch.randn(CLIP))
    with pytest.raises(ValueError, match="a network needs clips"):
        attention_maps(made, torch.randn(1, 2, 5, 40, 56))
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in made.modules())
    assert not any(parameter.grad is not None for parameter in made.parameters())
    assert not made.training


def mosaic(figure: Any) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array()).astype(int)


def test_the_box_is_drawn_at_the_position_in_its_frame() -> None:
    """The frames are black, 60 x 91, drawn at twice their size; only the box is cyan."""
    weights = torch.full((3, 2, 5), 1 / 30)
    query = (0.5, 0.3, 0.7)  # frame 3 of 7
    picture = mosaic(draw_attention(np.zeros((7, 60, 91, 3), np.uint8), [AttentionMap("res3[1]", query, weights, 4.9)]))
    assert picture.shape == (2 * 60 + 4, 7 * (2 * 91 + 4), 3)
    rows, columns = np.nonzero((picture == (0, 255, 255)).all(-1))
    assert (rows.min() + rows.max()) / 2 == pytest.approx(2 + 0.3 * 120, abs=1)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(3 * 186 + 2 + 0.7 * 182, abs=1)
    assert 6 <= rows.max() - rows.min() == columns.max() - columns.min() <= 20


def test_places_with_more_attention_are_brighter() -> None:
    weights = torch.zeros(7, 4, 6)
    weights[5, 3, 0], weights[1, 0, 5] = 0.75, 0.25
    frames = np.full((7, 60, 90, 3), 200, np.uint8)
    maps = [
        AttentionMap("res3[1]", (0.01, 0.5, 0.5), weights, 0.8),
        AttentionMap("res4[0]", (0.99, 0, 1), weights, 0.8),
    ]
    figure = draw_attention(frames, maps, title="a title")
    picture = mosaic(figure)
    half = picture.shape[0] // 2
    width = 184
    red = [picture[2:half, k * width : (k + 1) * width, 0].astype(float) for k in range(7)]
    most = [float(each[100:118, 4:30].mean()) for each in red]  # lower left
    assert np.argmax(most) == 5
    upper_right = [float(each[4:20, 155:178].mean()) for each in red]
    assert np.argmax(upper_right) == 1
    assert red[3][4:20, 4:20].max() == 60  # 0.3 of 200 where there is none
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["res3[1]\n0.8 bits", "res4[0]\n0.8 bits"]
    assert figure.axes[0].get_title() == "a title"
    cyan = np.nonzero((picture == (0, 255, 255)).all(-1))
    assert cyan[1][cyan[0] < half].max() < width <= 6 * width <= cyan[1][cyan[0] >= half].min()  # within the frames


def two_pathways(**insert: list[int]) -> ActionNet:
    """Build a thin SlowFast with non-identity blocks for 16 frames: the slow pathway gets 0, 5, 10 and 15."""
    made = build_model(
        "slowfast_r50",
        num_classes=3,
        insert=insert,
        backbone_options={"width": 8},
        clip={"num_frames": 16, "crop_px": 48},
    ).eval()
    for stage, indices in insert.items():
        for index in indices:
            awake(made.backbone.blocks(stage)[index].inserted)  # type: ignore[arg-type]
    return made


@pytest.mark.slow
def test_a_slow_pathways_steps_lie_at_its_frames() -> None:
    made, clip = two_pathways(res4=[0], fast_res4=[0]), torch.randn(1, 3, 16, 48, 48)
    slow, fast = attention_maps(made, clip, position=(10.4 / 16, 0.5, 0.5))
    assert (slow.block, fast.block) == ("res4[0]", "fast_res4[0]")
    assert slow.middles[0] * 16 == pytest.approx([0.5, 5.5, 10.5, 15.5])
    assert fast.middles[0] * 16 == pytest.approx(np.arange(16) + 0.5)
    assert slow.query[0] * 16 == pytest.approx(10.5)
    assert fast.query[0] * 16 == pytest.approx(10.5)
    assert attention_maps(made, clip, position=(7.9 / 16, 0.5, 0.5))[0].query[0] * 16 == pytest.approx(5.5)
    assert attention_maps(made, clip, position=(8.1 / 16, 0.5, 0.5))[0].query[0] * 16 == pytest.approx(10.5)


def test_pooled_keys_lie_in_the_middle_of_their_window() -> None:
    """5 x 5 x 7 positions in res3 pooled by 2 x 2 over space: 5 x 2 x 3 keys, without the last row and column."""
    found = attention_maps(network(), torch.randn(CLIP), position=(0, 0, 0))[0]
    assert found.weights.shape == (5, 2, 3)
    assert found.middles[0] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert found.middles[1] == pytest.approx([1 / 5, 3 / 5])
    assert found.middles[2] == pytest.approx([1 / 7, 3 / 7, 5 / 7])


@pytest.mark.slow
def test_a_position_may_leave_axes_open() -> None:
    made, clip = network(), torch.randn(CLIP)
    expected = expected_weights(made, clip)
    for found in attention_maps(made, clip, position=(0.5, None, None)):
        weights = expected[found.block]
        _, h, w = weights.shape[:3]
        places = {(2, int((b + 0.5) / 4 * h), int((c + 0.5) / 4 * w)) for b, c in np.ndindex(4, 4)}
        least = min(scipy.stats.entropy(weights[place].flatten().numpy(), base=2) for place in places)
        assert found.query[0] == pytest.approx(0.5)
        assert found.entropy == pytest.approx(least, abs=1e-3)


@pytest.mark.parametrize("position", [(1.0, 0.5, 0.5), (0.5, -0.01, 0.5), (0.5, 0.5, float("nan"))])
def test_a_position_outside_of_the_clip_is_refused(position: tuple[float, float, float]) -> None:
    with pytest.raises(FarfieldError, match="fractions of the clip, at least 0 and below 1"):
        attention_maps(network(), torch.randn(CLIP), position=position)


def test_signs_are_kept_separately() -> None:
    made, clip = network(pairwise="dot_product", key_pool=None), torch.randn(CLIP)
    activation = record_activations(made, clip)[0]
    block: Any = activation.block
    with torch.no_grad():
        block.phi.bias -= block.phi(activation.x).mean((0, 2, 3, 4))  # affinities around 0
    found = attention_maps(made, clip, position=(0.1, 0.5, 0.9))[0]
    theta, phi = (conv(activation.x)[0].detach() for conv in (block.theta, block.phi))
    affinity = torch.einsum("c,cthw->thw", theta[:, 0, 2, 6], phi)
    assert found.signs is not None
    assert torch.equal(found.signs, affinity.sign())
    share = float(affinity.clamp(max=0).abs().sum() / affinity.abs().sum())
    assert 0.05 < share < 0.95
    assert found.negative_share == pytest.approx(share, rel=1e-3)
    softmax = attention_maps(network(), clip)[0]
    assert (softmax.signs, softmax.negative_share) == (None, 0.0)


@pytest.mark.parametrize(
    ("block", "options", "keys"),
    [
        ("non_local", {}, 5 * 2 * 3),
        ("non_local", {"scope": "space"}, 2 * 3),
        ("non_local", {"scope": "time"}, 5),
        ("criss_cross", {}, 5 + 5 + 7 - 2),
    ],
)
def test_a_position_reaches_the_keys_that_have_weight(block: str, options: dict[str, Any], keys: int) -> None:
    found = attention_maps(network(block, **options), torch.randn(CLIP), position=(0.5, 0.5, 0.5))[0]
    assert found.keys == keys
    reach = torch.ones_like(found.weights) if found.reach is None else found.reach
    assert float(found.weights[reach == 0].sum()) == 0
    assert not bool((found.weights > 0)[reach == 0].any())


@pytest.mark.slow
def test_the_most_effective_position_moves_the_score_the_most() -> None:
    """The oracle is the change of the score without a millionth of the block's contribution there, in float64."""
    made, clip = network().double(), torch.randn(1, 3, 5, 24, 32, dtype=torch.float64)  # 5 x 3 x 4 positions in res3
    with torch.no_grad():
        for activation in record_activations(made, clip, class_index=1):
            whole = made(clip)[0, 1]
            lost = torch.zeros(activation.x.shape[2:], dtype=torch.float64)
            for place in np.ndindex(*lost.shape):
                mask = torch.ones_like(lost)
                mask[place] = 1 - 1e-6
                hook = activation.block.register_forward_hook(lambda _, x, z, mask=mask: x[0] + mask * (z - x[0]))
                lost[place] = (whole - made(clip)[0, 1]).abs() * 1e6
                hook.remove()
            assert activation.effect is not None
            torch.testing.assert_close(activation.effect.double(), lost, rtol=2e-2, atol=float(lost.max()) * 1e-3)
            best = np.unravel_index(int(lost.argmax()), tuple(lost.shape))
            found = most_effective(activation)
            assert found.query == pytest.approx([(at + 0.5) / n for at, n in zip(best, lost.shape, strict=True)])
            lost[:, 1:] = -1
            best = np.unravel_index(int(lost.argmax()), tuple(lost.shape))
            found = most_effective(activation, (None, 0.01, None))
            assert found.query == pytest.approx([(at + 0.5) / n for at, n in zip(best, lost.shape, strict=True)])


def test_the_position_in_an_identity_block_is_chosen_by_entropy() -> None:
    made = build_model("tiny", num_classes=3, insert={"res3": [1]}, clip={"num_frames": 5, "crop_px": 40}).eval()
    clip = torch.randn(CLIP)
    (activation,) = record_activations(made, clip, class_index=0)
    assert activation.is_identity
    assert most_effective(activation).query == attention_maps(made, clip)[0].query
    assert not record_activations(network(), clip)[0].is_identity
