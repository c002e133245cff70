"""Turns and mirrors pictures as a container's display matrix says.

Phones store what the sensor saw, and a matrix that tells players how to show it. Quarter turns, mirrored or not, are
what FFmpeg's command line makes of them. Any other angle is rounded to the nearest quarter turn, as browsers show no
others.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from jaxtyping import Shaped


class Orientation(NamedTuple):
    """How a stored picture becomes an upright one: first turned, then mirrored.

    Attributes:
        quarter_turns: counter-clockwise.
        mirror: left and right change places.
    """

    quarter_turns: int = 0
    mirror: bool = False

    def apply(self, picture: Shaped[np.ndarray, "h w ..."]) -> Shaped[np.ndarray, "h w ..."]:
        """Returns the upright picture, as a view."""
        if self.quarter_turns:
            picture = np.rot90(picture, self.quarter_turns)
        return picture[:, ::-1] if self.mirror else picture


UPRIGHT = Orientation()


def orientation_of(frame: VideoFrame) -> Orientation:
    """Reads a frame's display matrix; `UPRIGHT` where it has none.

    `frame.rotation` does not tell: a horizontal flip and half a turn look the same to it.
    """
    side_data: Any = frame.side_data
    data = side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].astype(float).tolist()
    if not math.hypot(a, c) or not math.hypot(b, d):
        return UPRIGHT
    # Rows of the matrix say where the picture's x and y axes go; y points down, so that (0, 1, -1, 0) is clockwise.
    is_mirrored = a * d - b * c < 0
    x_axis = (-a if is_mirrored else a, b)  # before it was mirrored
    degrees = math.degrees(math.atan2(-x_axis[1], x_axis[0]))
    return Orientation(round(degrees / 90) % 4, is_mirrored)
