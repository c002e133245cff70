"""A video's average frame rate."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def frame_rate(times: Float[np.ndarray, " frames"]) -> float:
    """Return the average frames per second; 1 for a single frame, or if all times are equal."""
    seconds = float(times[-1] - times[0])
    return (len(times) - 1) / seconds if seconds > 0 else 1.0
