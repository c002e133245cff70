"""Rotate and mirror pictures by the container's display matrix.

Phones store pictures as the sensor takes them. They also store a matrix by which players turn the pictures upright.
Quarter turns and mirroring are applied as FFmpeg's command line applies them. Any other angle is rounded to the nearest
quarter turn, as in browsers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from jaxtyping import Shaped


class Orientation(NamedTuple):
    """Rotation followed by mirroring that makes a stored picture upright.

    Attributes:
        quarter_turns: quarter turns counter-clockwise.
        mirror: whether left and right are swapped after the rotation.
    """

    quarter_turns: int = 0
    mirror: bool = False

    def apply(self, picture: Shaped[np.ndarray, "h w ..."]) -> Shaped[np.ndarray, "h w ..."]:
        """Return the upright picture, as a view."""
        if self.quarter_turns:
            picture = np.rot90(picture, self.quarter_turns)
        return picture[:, ::-1] if self.mirror else picture


UPRIGHT = Orientation()


def orientation_of(frame: VideoFrame) -> Orientation:
    """Read a frame's display matrix; return `UPRIGHT` if it has none.

    `frame.rotation` is not enough: it is the same for a horizontal flip and half a turn.
    """
    side_data: Any = frame.side_data
    data = side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].astype(float).tolist()
    if not math.hypot(a, c) or not math.hypot(b, d):
        return UPRIGHT
    # Rows are the images of the picture's x and y axes; y points down, so that (0, 1, -1, 0) is clockwise.
    is_mirrored = a * d - b * c < 0
    x_axis = (-a if is_mirrored else a, b)  # before mirroring
    degrees = math.degrees(math.atan2(-x_axis[1], x_axis[0]))
    return Orientation(round(degrees / 90) % 4, is_mirrored)
