from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.patches import FancyArrowPatch, Rectangle

from farfield.errors import FarfieldError
from farfield.interpretability.attention_maps import AttentionMap
from farfield.interpretability.strongest_connections import GAP, draw_connections, shown_frames, strongest_connections


def one_map(**changes: Any) -> AttentionMap:
    """Build a map over 3 x 2 x 5 keys, for a position at the left of the first frame."""
    weights = torch.zeros(3, 2, 5)
    weights[2, 1, 4], weights[0, 0, 1], weights[1, 1, 0] = 0.6, 0.3, 0.1
    return AttentionMap("res3[1]", (1 / 6, 0.5, 0.1), weights, 1.3, **changes)


def test_the_strongest_come_first_with_their_middles() -> None:
    found = strongest_connections(one_map(), 20)
    assert [c.weight for c in found] == pytest.approx([0.6, 0.3, 0.1])
    assert [(c.t, c.h, c.w) for c in found] == [
        pytest.approx((5 / 6, 3 / 4, 0.9)),
        pytest.approx((1 / 6, 1 / 4, 0.3)),
        pytest.approx((1 / 2, 3 / 4, 0.1)),
    ]
    assert [c.weight for c in strongest_connections(one_map(), 2)] == pytest.approx([0.6, 0.3])


def test_places_and_signs_of_the_map_are_used() -> None:
    places = (np.array([0.05, 0.4, 0.95]), np.array([0.2, 0.6]), np.array([0.1, 0.3, 0.5, 0.7, 0.8]))
    signs = torch.ones(3, 2, 5)
    signs[0, 0, 1] = -1
    found = strongest_connections(one_map(places=places, signs=signs), 3)
    assert (found[0].t, found[0].h, found[0].w) == (0.95, 0.6, 0.8)
    assert [c.weight for c in found] == pytest.approx([0.6, -0.3, 0.1])


@pytest.mark.parametrize("count", [0, -3])
def test_less_than_one_connection_is_refused(count: int) -> None:
    with pytest.raises(FarfieldError, match=f"count is {count}; it must be at least 1. The non-local paper shows 20."):
        strongest_connections(one_map(), count)


def arrows(axes: Any) -> list[tuple[tuple[float, float], tuple[float, float], Any]]:
    patches = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    return [(*patch._posA_posB, patch) for patch in patches]  # type: ignore[attr-defined,misc]


def test_arrows_lead_from_the_box_to_the_places_in_their_frames() -> None:
    frames = np.zeros((6, 30, 60, 3), np.uint8)
    axes = draw_connections(frames, [one_map()]).axes[0]
    (box,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    start = box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2
    step = 1 + GAP
    assert start == pytest.approx((1 * step + 0.1, 0.25))  # frame 1 of 6; pictures are 1 wide and 0.5 high
    found = arrows(axes)
    assert all(origin == pytest.approx(start) for origin, _, _ in found)
    ends = [end for _, end, _ in found]
    assert ends == [  # the weakest first, so that the strongest is on top
        pytest.approx((3 * step + 0.1, 0.375)),
        pytest.approx((1 * step + 0.3, 0.125)),
        pytest.approx((5 * step + 0.9, 0.375)),
    ]
    widths = [patch.get_linewidth() for _, _, patch in found]
    assert widths == sorted(widths)
    assert widths[2] > 2 * widths[0]


def test_negative_affinities_are_dashed_and_zero_weights_are_not_drawn() -> None:
    attention = one_map()
    attention.weights[0, 1, 1] = 0.6 * 0.009
    signs = torch.ones(3, 2, 5)
    signs[2, 1, 4] = -1
    attention = AttentionMap("a", attention.query, attention.weights, 1.3, signs=signs)
    found = arrows(draw_connections(np.zeros((6, 30, 60, 3), np.uint8), [attention]).axes[0])
    assert [patch.get_linestyle() for _, _, patch in found] == ["-", "-", "--"]


def test_nearly_uniform_attention_is_drawn_thin() -> None:
    even = torch.full((3, 2, 5), 1 / 30)
    flat = AttentionMap("a", (0.2, 0.5, 0.1), even, 0.998 * np.log2(30))
    frames = np.zeros((6, 30, 60, 3), np.uint8)
    widest = [
        max(patch.get_linewidth() for _, _, patch in arrows(draw_connections(frames, [each]).axes[0]))
        for each in (flat, one_map())
    ]
    assert widest[0] < 1.1 < 2.5 < widest[1]


def test_uniform_attention_and_a_block_without_effect_are_named_in_the_picture() -> None:
    """At initialisation a block returns its input, and its arrows would look like a result."""
    even = torch.full((3, 2, 5), 1 / 30)
    flat = AttentionMap("res4[1], 3 passes", (0.2, 0.5, 0.1), even, 0.9995 * np.log2(30))
    frames = np.zeros((6, 30, 60, 3), np.uint8)
    both, plain, other = draw_connections(frames, [flat, one_map(), flat], unchanged=["res4[1]", "res3[1]"]).axes
    uniform = "uniform attention: no arrows are drawn"
    effect = "this block returns its input unchanged: its attention has no effect"
    notes = [axes.texts[-1].get_text() for axes in (both, plain, other)]
    assert notes == [f"{uniform}\n{effect}", effect, f"{uniform}\n{effect}"]
    assert [len(arrows(axes)) for axes in (both, plain, other)] == [0, 3, 0]
    (trained,) = draw_connections(frames, [flat]).axes
    assert trained.texts[-1].get_text() == uniform
    (sharp,) = draw_connections(frames, [one_map()]).axes
    assert sharp.texts[-1].get_text().startswith("res3[1]")


def test_the_most_important_frames_are_shown() -> None:
    assert shown_frames(5, [3], 8) == [0, 1, 2, 3, 4]
    assert shown_frames(100, [50, 7, 93, 51, 52, 53, 54], 4) == [7, 28, 50, 93]  # three wanted, one far from all
    assert shown_frames(9, [4, 4, 4], 3) == [0, 4, 8]


def test_rows_are_named_and_labels_are_not_parsed_as_formulas() -> None:
    figure = draw_connections(
        np.zeros((6, 30, 60, 3), np.uint8), [one_map(), one_map()], seconds=[0.1 * i for i in range(6)], title="a $ b $"
    )
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert texts == ["0.00 s", "0.10 s", "0.20 s", "0.30 s", "0.40 s", "0.50 s", texts[-1]]
    assert texts[-1] == "res3[1]\n1.3 bits of 4.9\nstrongest 60.0%"
    figure.canvas.draw()  # dollars would be read as mathematics
    assert [text.get_text() for text in figure.texts] == ["a $ b $"]


@pytest.mark.parametrize("h", [0.05, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("backwards", [False, True])
def test_arrows_stay_inside_their_row(h: float, backwards: bool) -> None:
    weights = torch.zeros(8, 20, 1)
    weights[0 if backwards else 7, int(h * 20)] = 1
    attention = AttentionMap("a", (0.99 if backwards else 0.01, h, 0.5), weights, 0.0)
    figure = draw_connections(np.zeros((8, 30, 60, 3), np.uint8), [attention])
    figure.canvas.draw()
    axes = figure.axes[0]
    ((_, _, patch),) = arrows(axes)
    inside = axes.get_window_extent()
    drawn = patch.get_path().get_extents(patch.get_transform())
    assert inside.y0 - 6 <= drawn.y0
    assert drawn.y1 <= inside.y1 + 6
