from __future__ import annotations

import numpy as np
import pytest
import torch

from farfield.interpretability.attention_maps import AttentionMap
from farfield.interpretability.attention_spread import (
    Spread,
    ascending_times,
    mean_spread,
    measure_spread,
    seconds_at,
    uniform_attention,
)

SECONDS = np.array([0.0, 0.1, 0.2, 0.5, 1.0, 1.1])


def some_map() -> AttentionMap:
    weights = torch.rand(3, 2, 5)
    weights /= weights.sum()
    entropy = float(-(weights * weights.log2()).sum())
    places = (np.array([1, 3, 5]) / 6, np.array([0.2, 0.6]), np.arange(5) / 5 + 0.1)
    return AttentionMap("res3[1]", (0.5, 0.6, 0.1), weights, entropy, places)


def test_distances_agree_with_loops() -> None:
    attention = some_map()
    frames = seconds = px = 0.0
    moments = [(0.0 + 0.1) / 2, (0.2 + 0.5) / 2, (1.0 + 1.1) / 2]  # between the frames at 1/6, 3/6 and 5/6 of six
    for t, h, w in np.ndindex(3, 2, 5):
        weight = float(attention.weights[t, h, w])
        at = [float(middles[i]) for middles, i in zip(attention.middles, (t, h, w), strict=True)]
        frames += weight * 6 * abs(at[0] - 0.5)
        seconds += weight * abs(moments[t] - 0.35)
        px += weight * np.hypot(40 * (at[1] - 0.6), 70 * (at[2] - 0.1))
    found = measure_spread(attention, SECONDS, (40, 70))
    assert found.frames == pytest.approx(frames, rel=1e-5)
    assert found.seconds == pytest.approx(seconds, rel=1e-5)
    assert found.px == pytest.approx(px, rel=1e-5)
    assert found.entropy_bits == attention.entropy
    assert found.entropy_share == pytest.approx(attention.entropy / np.log2(30))


def test_uniform_attention_is_uniform_over_the_keys_in_scope() -> None:
    everywhere = uniform_attention(some_map())
    assert everywhere.weights.flatten().tolist() == pytest.approx([1 / 30] * 30)
    assert measure_spread(everywhere, SECONDS, (40, 70)).entropy_share == pytest.approx(1)
    reach = torch.zeros(3, 2, 5, dtype=torch.bool)
    reach[1] = True
    attention = some_map()
    frame = uniform_attention(AttentionMap("a", (0.5, 0.6, 0.1), attention.weights, 1.0, attention.places, None, reach))
    assert frame.entropy == pytest.approx(np.log2(10))
    found = measure_spread(frame, SECONDS, (40, 70))
    assert (found.entropy_share, found.frames, found.seconds) == (pytest.approx(1), pytest.approx(0), pytest.approx(0))
    assert found.px > 20


def test_each_measure_is_averaged() -> None:
    assert mean_spread([Spread(1, 2, 3, 4, 5), Spread(3, 4, 5, 6, 7)]) == Spread(2, 3, 4, 5, 6)


def test_times_between_frames_and_of_looped_videos() -> None:
    assert seconds_at(np.array([0.5 / 6, 4.5 / 6, 0.5, 0]), SECONDS) == pytest.approx([0, 1, 0.35, 0])
    assert ascending_times(SECONDS) is SECONDS
    assert ascending_times(np.array([0.0, 0.2, 0.4, 0.0, 0.2])) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert ascending_times(np.array([3.0])).tolist() == [3.0]
