from __future__ import annotations

import numpy as np

from farfield.synthetic.canvas import Canvas


def test_a_polygon_covers_each_pixel_by_its_distance_to_the_edge() -> None:
    """Compared with the share of 9 x 9 points of each pixel that lie inside."""
    corners = [(20.0, 6.0), (34.0, 17.0), (23.0, 31.0), (9.0, 20.0)]  # a square, turned; far from the origin
    canvas = Canvas(np.zeros((40, 44, 3)))
    canvas.polygon(corners, (1.0, 1.0, 1.0))
    steps = (np.arange(9) - 4) / 9
    y = (np.arange(40)[:, None] + steps).reshape(-1, 1)
    x = (np.arange(44)[:, None] + steps).reshape(1, -1)
    inside = np.ones((y.size, x.size), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= 0
    share = inside.reshape(40, 9, 44, 9).mean((1, 3))
    difference = np.abs(canvas.frame()[..., 0] / 255 - share)
    for x, y in corners:  # where two edges meet, the distance to the nearer one is not the share
        difference[int(y) - 1 : int(y) + 3, int(x) - 1 : int(x) + 3] = 0
    assert difference.max() < 0.1
