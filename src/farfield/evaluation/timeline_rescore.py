"""Find segments again in scored timelines, with other thresholds or options, without the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Float

from farfield.evaluation.timeline_result import TimelineResult
from farfield.evaluation.timelines_file import read_timelines
from farfield.evaluation.video_timeline import VideoTimeline
from farfield.models.operating_point import OperatingPoint
from farfield.scoring.load import InferenceModel
from farfield.task import Task
from farfield.timelines.cells import smooth, to_cells
from farfield.timelines.options import TimelineOptions
from farfield.timelines.segments import Segment
from farfield.timelines.timeline_segments import timeline_segments


@dataclass(frozen=True)
class _Thresholds:
    """What `timeline_segments` needs to know of a network."""

    labels: list[str]
    task: Task
    timeline_operating_point: OperatingPoint
    operating_point: None = None


def segments_at(
    times: Float[np.ndarray, " cells+1"],
    cells: Float[np.ndarray, "cells classes"],
    labels: Sequence[str],
    thresholds: Float[np.ndarray, " classes"],
    task: Task,
    options: TimelineOptions,
) -> list[Segment]:
    """Find the segments of a timeline with a threshold for each class, instead of those of the network or the options.

    Args:
        times: bounds of the cells in seconds.
        cells: class probabilities of each cell.
        labels: class names.
        thresholds: threshold of each class; infinite for a class that is never found.
        task: task of the network.
        options: options of the segments, without their threshold.
    """
    reachable = np.minimum(thresholds, _NEVER).tolist()
    point = OperatingPoint("given", dict(zip(labels, reachable, strict=True)), 0)
    network = cast(InferenceModel, _Thresholds(list(labels), task, point))
    return timeline_segments(times, cells, network, replace(options, threshold=0.0))


_NEVER = 2.0
"""A threshold that no probability reaches."""


def rescore(file: str | Path, options: TimelineOptions, thresholds: Sequence[float] | None = None) -> TimelineResult:
    """Read timelines.npz of a test, and find segments again with other options, without the network.

    Args:
        file: timelines.npz, which `write_timeline_report` wrote.
        options: options of the segments. The length and the hop of windows cannot be changed any more.
        thresholds: threshold of each class; None for the options' one or, if that is 0, for those of the test.

    Raises:
        FarfieldError: if the file is missing or damaged.
    """
    stored = read_timelines(file)
    limits = stored.settings["thresholds"] if thresholds is None else list(thresholds)
    if thresholds is None and options.threshold:
        limits = [options.threshold] * len(stored.labels)
    videos = []
    for scored in stored.videos:
        times, cells = to_cells(*scored.windows.T, scored.probabilities, options.windows_aggregation)
        cells = smooth(times, cells, options.smooth_seconds)
        found = segments_at(times, cells, stored.labels, np.array(limits), stored.task, options)
        videos.append(
            VideoTimeline(
                scored.path,
                float(times[0]),
                float(times[-1]),
                scored.truth,
                found,
                times,
                cells,
                scored.windows,
                scored.probabilities,
            )
        )
    return TimelineResult(stored.labels, stored.task, videos, [], options, limits, about={"timelines": str(file)})
