"""Cells of a timeline: short time intervals, whose class probabilities come from the windows that overlap them."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float

WindowsAggregation = Literal["mean", "nearest"]


def to_cells(
    starts: Float[np.ndarray, " windows"],
    ends: Float[np.ndarray, " windows"],
    found: Float[np.ndarray, "windows k"],
    aggregation: WindowsAggregation = "mean",
) -> tuple[Float[np.ndarray, " cells+1"], Float[np.ndarray, "cells k"]]:
    """Cut time into cells, and compute their class probabilities from the windows that overlap them.

    With "mean", a new cell begins at the start of each window. The probabilities of a cell are the average over all
    windows that overlap the cell, weighted by the length of the overlap. The last window is cut into cells whose length
    is the median time between the starts of consecutive windows.

    With "nearest", there is one cell for each window, with the window's probabilities. Two neighbouring cells meet
    halfway between the middles of their windows. The first cell begins with the first window, and the last cell ends
    when all windows have ended.

    Args:
        starts: start of each window in seconds, ascending.
        ends: end of each window in seconds.
        found: class probabilities of each window.
        aggregation: "mean" or "nearest".

    Returns:
        The bounds of the cells in seconds, and the class probabilities of each cell.

    Raises:
        ValueError: if a window does not start later than the previous one, or does not end after its start.
    """
    if np.any(np.diff(starts) <= 0) or np.any(ends <= starts):
        raise ValueError(
            "windows are out of order or empty; each window must start later than the previous one, and end after its "
            "own start. Sort the windows."
        )
    if aggregation == "nearest":
        middles = (starts + ends) / 2
        between = np.maximum.accumulate((middles[1:] + middles[:-1]) / 2)
        return np.concatenate([starts[:1], between, [ends.max()]]), found
    end = float(ends.max())
    hop = float(np.median(np.diff(starts))) if len(starts) > 1 else end - float(starts[0])
    rest = np.arange(1, max(math.ceil((end - starts[-1]) / hop - 1e-6), 1)) * hop
    bounds = np.concatenate([starts, starts[-1] + rest, [end]])
    sums = np.zeros((len(bounds) - 1, found.shape[1]))
    weights = np.zeros(len(bounds) - 1)
    beyond = np.searchsorted(bounds, ends, side="left")
    for first, (stop, start, last, probabilities) in enumerate(zip(beyond, starts, ends, found, strict=True)):
        stop = max(int(stop), first + 1)
        overlap = np.minimum(bounds[first + 1 : stop + 1], last) - np.maximum(bounds[first:stop], start)
        sums[first:stop] += overlap[:, None] * probabilities
        weights[first:stop] += overlap
    return bounds, sums / weights[:, None]


def smooth(
    times: Float[np.ndarray, " cells+1"], cells: Float[np.ndarray, "cells k"], seconds: float
) -> Float[np.ndarray, "cells k"]:
    """Average probabilities over a span of `seconds` around each cell's middle.

    A cell that is only partly in the span counts in proportion to that part.
    """
    if seconds == 0:
        return cells
    integral = np.concatenate([np.zeros((1, cells.shape[1])), np.cumsum(cells * np.diff(times)[:, None], axis=0)])
    middles = (times[:-1] + times[1:]) / 2
    bounds = np.clip([middles - seconds / 2, middles + seconds / 2], times[0], times[-1])
    low, high = (_at(bound, times, integral) for bound in bounds)
    return (high - low) / (bounds[1] - bounds[0])[:, None]


def _at(moments: np.ndarray, times: np.ndarray, integral: np.ndarray) -> np.ndarray:
    """Interpolate the integral of each class's probability linearly at the given moments.

    Args:
        moments: times at which the integral is wanted.
        times: times at which the integral is known, ascending.
        integral: integral up to each of `times`, one row for each time and one column for each class.
    """
    place = np.clip(np.searchsorted(times, moments, side="right") - 1, 0, len(times) - 2)
    part = ((moments - times[place]) / (times[place + 1] - times[place]))[:, None]
    return integral[place] * (1 - part) + integral[place + 1] * part
