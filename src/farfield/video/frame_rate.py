"""Compute a video's average frame rate and its duration."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def frame_rate(times: Float[np.ndarray, " frames"]) -> float:
    """Return the average frames per second, from display times in seconds; 1 if all frames have the same time."""
    seconds = float(times[-1] - times[0])
    return (len(times) - 1) / seconds if seconds > 0 else 1.0


def duration_seconds(times: Float[np.ndarray, " frames"]) -> float:
    """Return a video's duration in seconds, assuming that its last frame lasts as long as the average of the others."""
    return float(times[-1] - times[0]) * (len(times) / max(len(times) - 1, 1))
