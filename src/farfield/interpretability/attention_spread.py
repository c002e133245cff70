"""Measures of attention: its entropy, and its mean distance in time and space.

The entropy measures how many keys the attention is spread over: attention spread equally over n keys has log2(n) bits.
The mean distance of the keys j that position i attends to is sum_j a_ij d(i, j), with attention weights a_ij. The
distance d(i, j) is |t_j - t_i| in time, and the Euclidean distance in space. The baseline of both measures is uniform
attention over the keys that the position can attend to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float

from farfield.interpretability.attention_maps import AttentionMap, entropy_bits


@dataclass(frozen=True)
class Spread:
    """Spread of the attention of one position, or the mean spread of several positions.

    Attributes:
        entropy_bits: entropy of the attention weights in bits.
        entropy_share: entropy divided by the entropy of uniform attention over the keys that the position can attend
            to.
        frames: mean distance in time, in frames of the clip.
        seconds: mean distance in time, in seconds of the video.
        px: mean distance in space, in pixels of the clip.
    """

    entropy_bits: float
    entropy_share: float
    frames: float
    seconds: float
    px: float


def measure_spread(attention: AttentionMap, seconds: Float[np.ndarray, " t"], size_px: tuple[int, int]) -> Spread:
    """Measure the spread of one position's attention.

    Args:
        attention: attention map of the position.
        seconds: time of each frame of the clip in seconds, ascending.
        size_px: height and width of the clip in pixels.
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


UNIFORM_SHARE = 0.999
"""Attention counts as uniform if its entropy, divided by the entropy of uniform attention, is above this value."""


def is_uniform(attention: AttentionMap) -> bool:
    """Return whether a position attends about equally to all keys that it can attend to.

    If so, its strongest keys are not meaningful. The result is False if the position can attend to only one key.
    """
    return attention.entropy > UNIFORM_SHARE * float(np.log2(max(attention.keys, 1)))


def uniform_attention(attention: AttentionMap) -> AttentionMap:
    """Return the map of the same position with uniform attention over the keys that it can attend to."""
    reach = torch.ones_like(attention.weights) if attention.reach is None else attention.reach.float()
    weights = reach / reach.sum()
    entropy = float(entropy_bits(weights[None])[0])
    return replace(attention, weights=weights, entropy=entropy, signs=None)


def mean_spread(spreads: Sequence[Spread]) -> Spread:
    """Average each measure over several positions."""
    names = [field.name for field in fields(Spread)]
    return Spread(*(float(np.mean([getattr(each, name) for each in spreads])) for name in names))


def seconds_at(middles: Float[np.ndarray, " n"], seconds: Float[np.ndarray, " t"]) -> Float[np.ndarray, " n"]:
    """Convert positions along a clip to seconds, interpolated between the times of the frames.

    Args:
        middles: positions as fractions of the clip's length, in [0, 1).
        seconds: time of each frame of the clip in seconds.
    """
    return np.interp(middles * len(seconds) - 0.5, np.arange(len(seconds)), seconds)


def ascending_times(seconds: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Make the times of a clip's frames, in seconds, ascending.

    Only the times of a clip that loops a short video are changed: they are replaced by evenly spaced times, at the
    video's median frame interval. All other clips have ascending times already.
    """
    steps = np.diff(seconds)
    if not len(steps) or steps.min() >= 0:
        return seconds
    return seconds[0] + np.arange(len(seconds)) * float(np.median(steps[steps > 0]) if (steps > 0).any() else 1.0)
