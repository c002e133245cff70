"""What happens when in a long video: probabilities over time, and the segments that they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from farfield.errors import FarfieldError, VideoError
from farfield.inference.segments import Segment, find_segments
from farfield.inference.sliding_windows import Window, check_lengths, sliding_windows
from farfield.scoring.aggregation import average_views
from farfield.scoring.load import InferenceModel
from farfield.scoring.score_views import score_views


@dataclass(frozen=True)
class Timeline:
    """A video's classes over time.

    Attributes:
        path: the file.
        labels: class names, in the order of `probabilities`.
        times: bounds of cells in seconds, see `to_cells`.
        probabilities: of each class in each cell.
        segments: neighbouring cells of one class, in order. Where none is probable enough, there is a gap.
        error: why the video could not be read to its end; None where it could.
        windows: start and end of each window, in seconds.
        features: what the classifier sees of each window; None where not asked for.
    """

    path: str
    labels: list[str]
    times: Float[np.ndarray, " cells+1"]
    probabilities: Float[np.ndarray, "cells classes"]
    segments: list[Segment]
    windows: Float[np.ndarray, "windows 2"]
    error: str | None = None
    features: Float[np.ndarray, "windows c"] | None = None

    @property
    def mean(self) -> Float[np.ndarray, " classes"]:
        """Probabilities of the whole video: the average over time."""
        return np.average(self.probabilities, axis=0, weights=np.diff(self.times))


def timeline(
    path: str | Path,
    model: InferenceModel,
    *,
    hop_seconds: float | None = None,
    window_seconds: float | None = None,
    smooth_seconds: float = 0.0,
    min_seconds: float = 0.0,
    threshold: float = 0.0,
    num_crops: int = 1,
    view_batch_size: int = 8,
    features: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Timeline:
    """Recognises what happens when in a video of any length, in memory that does not grow with its frames.

    Args:
        path: the file.
        model: from `load_model` or `load_network`.
        hop_seconds: from one window to the next; None for half a window.
        window_seconds: length of a window; None for the network's own.
        smooth_seconds: probabilities are averaged over so much time around each moment.
        min_seconds: shorter segments join the neighbour that they are more like.
        threshold: cells whose best class is less probable belong to no segment.
        num_crops: square crops of each window.
        view_batch_size: windows x crops that go through the network at once; bounds memory.
        features: keep what the classifier sees of each window, too.
        progress: is told (windows done, windows in all).

    Raises:
        FarfieldError: for options that make no sense.
        VideoError: where the file cannot be opened, or breaks off in the first window.
    """
    check_options(
        hop_seconds=hop_seconds,
        window_seconds=window_seconds,
        smooth_seconds=smooth_seconds,
        min_seconds=min_seconds,
        threshold=threshold,
        num_crops=num_crops,
    )
    error: str | None = None
    found: list[Recognised] = []
    with sliding_windows(
        path, model.clip, hop_seconds=hop_seconds, window_seconds=window_seconds, num_crops=num_crops
    ) as windows:
        try:
            for window in recognise(windows, model, view_batch_size=view_batch_size, features=features):
                found.append(window)
                if progress is not None:
                    progress(len(found), len(windows))
        except VideoError as failed:
            if not found:
                raise
            error = failed.reason
        starts, ends = windows.starts[: len(found)], windows.ends[: len(found)]
    times, cells = to_cells(starts, ends, np.stack([window.probabilities for window in found]))
    cells = smooth(times, cells, smooth_seconds)
    segments = find_segments(times, cells, model.labels, min_seconds=min_seconds, threshold=threshold)
    vectors = np.stack([window.features for window in found if window.features is not None]) if features else None
    spans = np.stack([starts, ends], 1)
    return Timeline(str(path), list(model.labels), times, cells, segments, spans, error, vectors)


def check_options(
    *,
    hop_seconds: float | None = None,
    window_seconds: float | None = None,
    smooth_seconds: float | None = None,
    min_seconds: float | None = None,
    threshold: float | None = None,
    num_crops: int | None = None,
) -> None:
    """Refuses what makes no sense, of the options of `timeline` that are given, before a video is opened."""
    check_lengths(hop_seconds, window_seconds)
    for name, given in (("smooth_seconds", smooth_seconds), ("min_seconds", min_seconds)):
        if given is not None and not given >= 0:
            raise FarfieldError(f"{name} is {given}; it must be 0 or more.")
    if threshold is not None and not 0 <= threshold < 1:
        raise FarfieldError(f"threshold is {threshold}; it is a probability, at least 0 and below 1.")
    if num_crops is not None and num_crops < 1:
        raise FarfieldError(f"num_crops is {num_crops}; it must be at least 1.")


class Recognised(NamedTuple):
    """One window's probabilities and, where asked for, its features; crops averaged."""

    probabilities: Float[np.ndarray, " classes"]
    features: Float[np.ndarray, " c"] | None


def recognise(
    windows: Iterable[Window], model: InferenceModel, *, view_batch_size: int = 8, features: bool = False
) -> Iterator[Recognised]:
    """Yields what each window shows; windows go through the network in batches.

    What was read before a frame that cannot be decoded is still recognised, before the error is raised.
    """
    for batch in _batches(windows, view_batch_size):
        crops = len(batch[0].frames)
        views = torch.cat([window.frames for window in batch])
        scored = score_views(model, views, batch_size=view_batch_size, features=features)
        probabilities = average_views(scored.logits, len(batch)).cpu().numpy()
        vectors = None if scored.features is None else scored.features.unflatten(0, (-1, crops)).mean(1).cpu().numpy()
        for i, each in enumerate(probabilities):
            yield Recognised(each, None if vectors is None else vectors[i])


def _batches(windows: Iterable[Window], view_batch_size: int) -> Iterator[list[Window]]:
    batch: list[Window] = []
    try:
        for window in windows:
            batch.append(window)
            if len(batch) * len(window.frames) >= view_batch_size:
                yield batch
                batch = []
    except VideoError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def to_cells(
    starts: Float[np.ndarray, " windows"], ends: Float[np.ndarray, " windows"], found: Float[np.ndarray, "windows k"]
) -> tuple[Float[np.ndarray, " cells+1"], Float[np.ndarray, "cells k"]]:
    """Cuts time where windows begin, and averages in each cell over the windows that reach into it, by how far.

    After the start of the last window, cells go on at the same hop to its end.

    Raises:
        ValueError: where a window does not start later than the one before, or does not end later than it starts.
    """
    if np.any(np.diff(starts) <= 0) or np.any(ends <= starts):
        raise ValueError("windows must start one after the other, and have a length.")
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
    """The average over `seconds` around the middle of each cell, parts of cells counted as parts."""
    if seconds == 0:
        return cells
    integral = np.concatenate([np.zeros((1, cells.shape[1])), np.cumsum(cells * np.diff(times)[:, None], axis=0)])
    middles = (times[:-1] + times[1:]) / 2
    bounds = np.clip([middles - seconds / 2, middles + seconds / 2], times[0], times[-1])
    low, high = (_at(bound, times, integral) for bound in bounds)
    return (high - low) / (bounds[1] - bounds[0])[:, None]


def _at(moments: np.ndarray, times: np.ndarray, integral: np.ndarray) -> np.ndarray:
    """A piecewise linear function of time, for all classes at once."""
    place = np.clip(np.searchsorted(times, moments, side="right") - 1, 0, len(times) - 2)
    part = ((moments - times[place]) / (times[place + 1] - times[place]))[:, None]
    return integral[place] * (1 - part) + integral[place + 1] * part
