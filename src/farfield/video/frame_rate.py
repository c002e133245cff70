"""A video's average frame rate and its duration."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def frame_rate(times: Float[np.ndarray, " frames"]) -> float:
    """Return the average frames per second; 1 for a single frame, or frames of one time."""
    seconds = float(times[-1] - times[0])
    return (len(times) - 1) / seconds if seconds > 0 else 1.0


def duration_seconds(times: Float[np.ndarray, " frames"]) -> float:
    """Return a video's length: the last frame is shown as long as the others on average."""
    return float(times[-1] - times[0]) * (len(times) / max(len(times) - 1, 1))
