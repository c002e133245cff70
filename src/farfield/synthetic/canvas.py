"""Small antialiased rasteriser that gives the same pixels on every machine, independent of graphics libraries."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

Point = tuple[float, float]
"""x, y in pixels from the upper left; y points down."""
Colour = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""


class Canvas:
    """Image on which shapes are drawn.

    Args:
        background: initial RGB pixels (h w 3) in [0, 1]; they are copied.
    """

    def __init__(self, background: Float[np.ndarray, "h w 3"]) -> None:
        self.pixels = background.astype(np.float64)
        height, width = self.pixels.shape[:2]
        self._y, self._x = np.arange(height)[:, None], np.arange(width)[None, :]

    def capsule(self, start: Point, end: Point, radius: float, colour: Colour) -> None:
        """Draw a line with round ends: all points closer than `radius` to the line from `start` to `end`.

        Points are (x, y) in pixels from the upper left. `radius` is in pixels.
        """
        (x0, y0), (x1, y1) = start, end
        rows, columns = self._around(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1), radius)
        x, y = self._x[:, columns] - x0, self._y[rows] - y0
        dx, dy = x1 - x0, y1 - y0
        along = _clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-12))
        distance = np.sqrt((x - along * dx) ** 2 + (y - along * dy) ** 2)
        self._blend(rows, columns, _clip(radius + 0.5 - distance), colour)

    def polygon(self, corners: list[Point], colour: Colour) -> None:
        """Fill a convex polygon.

        The corners are (x, y) in pixels from the upper left, in clockwise order on the screen.
        """
        xs, ys = zip(*corners, strict=True)
        rows, columns = self._around(min(xs), min(ys), max(xs), max(ys), 0)
        y, x = self._y[rows], self._x[:, columns]
        inside = np.full((y.shape[0], x.shape[1]), np.inf)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-12)
            inside = np.minimum(inside, ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) / length)
        self._blend(rows, columns, _clip(inside + 0.5), colour)

    def frame(self) -> UInt8[np.ndarray, "h w 3"]:
        """Return the image as uint8."""
        return np.round(np.clip(self.pixels, 0, 1) * 255).astype(np.uint8)

    def _around(self, left: float, top: float, right: float, bottom: float, margin: float) -> tuple[slice, slice]:
        height, width = self.pixels.shape[:2]
        first_row, first_column = max(int(top - margin) - 1, 0), max(int(left - margin) - 1, 0)
        last_row, last_column = min(int(bottom + margin) + 2, height), min(int(right + margin) + 2, width)
        return slice(first_row, max(last_row, first_row)), slice(first_column, max(last_column, first_column))

    def _blend(self, rows: slice, columns: slice, cover: np.ndarray, colour: Colour) -> None:
        part = self.pixels[rows, columns]
        part += cover[..., None] * (np.array(colour) - part)


def _clip(values: np.ndarray) -> np.ndarray:
    """Clip to [0, 1]. For small arrays, such as the pixels of a limb, `np.clip` is several times slower."""
    return np.minimum(np.maximum(values, 0), 1)


def textured_background(
    height: int, width: int, colour: Colour, strength: float, rng: np.random.Generator
) -> Float[np.ndarray, "h w 3"]:
    """Generate a background of one colour with smooth random variations.

    Pixels are in [0, 1]; they deviate from `colour` by at most `strength`.
    """
    coarse = rng.uniform(-strength, strength, (height // 12 + 2, width // 12 + 2, 3))
    y, x = np.arange(height) / 12, np.arange(width) / 12
    row, column = y.astype(int), x.astype(int)
    down, right = (y - row)[:, None, None], (x - column)[None, :, None]
    upper = coarse[row][:, column] * (1 - right) + coarse[row][:, column + 1] * right
    lower = coarse[row + 1][:, column] * (1 - right) + coarse[row + 1][:, column + 1] * right
    return np.clip(np.array(colour) + upper * (1 - down) + lower * down, 0, 1)
