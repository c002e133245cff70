"""How far and how widely positions attend, in numbers.

The entropy of attention says how many keys it is spread over: 2^bits of them, if they were alike. Its mean distance,
sum_j a_ij d(i, j), says whether the block looks far: in time |t_j - t_i|, in space the Euclidean distance. Attention
that is uniform over the keys in reach has both, too, and is what to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from farfield.interpretability.attention_maps import AttentionMap, entropy_bits


@dataclass(frozen=True)
class Spread:
    """How widely one position attends, or several on average.

    Attributes:
        entropy_bits: of the attention.
        entropy_share: of the entropy that uniform attention over the keys in reach has.
        frames: the mean distance in time, in frames of the clip.
        seconds: the same in seconds of the video.
        px: the mean distance in space, in pixels of the clip.
    """

    entropy_bits: float
    entropy_share: float
    frames: float
    seconds: float
    px: float


def spread(attention: AttentionMap, seconds: Float[np.ndarray, " t"], size_px: tuple[int, int]) -> Spread:
    """Measures one position's attention.

    Args:
        attention: of the position.
        seconds: when each frame of the clip is shown, ascending.
        size_px: height and width of the clip.
    """
    weights = attention.weights.double().numpy()
    t, h, w = attention.middles
    own = attention.query
    moments = seconds_at(t, seconds)
    in_frames = np.abs(t - own[0]) * len(seconds)
    in_seconds = np.abs(moments - seconds_at(np.array([own[0]]), seconds))
    in_px = np.hypot((h - own[1])[:, None] * size_px[0], (w - own[2])[None] * size_px[1])
    of_time = weights.sum((1, 2))
    most = np.log2(attention.keys)
    return Spread(
        attention.entropy,
        attention.entropy / most if most else 1.0,
        float(of_time @ in_frames),
        float(of_time @ in_seconds),
        float((weights.sum(0) * in_px).sum()),
    )


def uniform(attention: AttentionMap) -> AttentionMap:
    """The same position attending to every key in its reach alike."""
    reach = torch.ones_like(attention.weights) if attention.reach is None else attention.reach.float()
    weights = reach / reach.sum()
    entropy = float(entropy_bits(weights[None])[0])
    return replace(attention, weights=weights, entropy=entropy, signs=None)


def mean_spread(spreads: Sequence[Spread]) -> Spread:
    """The mean of each figure."""
    return Spread(*(float(np.mean([getattr(each, name) for each in spreads])) for name in Spread.__dataclass_fields__))


def seconds_at(middles: Float[np.ndarray, " n"], seconds: Float[np.ndarray, " t"]) -> Float[np.ndarray, " n"]:
    """When places along a clip, in [0, 1), are shown; between two frames in proportion."""
    return np.interp(middles * len(seconds) - 0.5, np.arange(len(seconds)), seconds)


def ascending(seconds: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """The times of a clip as they are, or, where a short video was repeated to fill it, counted on."""
    steps = np.diff(seconds)
    if not len(steps) or steps.min() >= 0:
        return seconds
    return seconds[0] + np.arange(len(seconds)) * float(np.median(steps[steps > 0]) if (steps > 0).any() else 1.0)
