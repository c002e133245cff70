"""A video's average frame rate."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def frame_rate(times: Float[np.ndarray, " frames"]) -> float:
    """Frames per second, on average; 1 for a single frame, or frames of one time."""
    seconds = float(times[-1] - times[0])
    return (len(times) - 1) / seconds if seconds > 0 else 1.0
