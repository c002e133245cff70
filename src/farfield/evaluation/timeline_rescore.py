"""Find segments again from the stored window scores of a test. This does not need the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from farfield.evaluation.timeline_result import TimelineResult
from farfield.evaluation.timelines_file import read_timelines
from farfield.evaluation.video_timeline import VideoTimeline
from farfield.timelines.cells import smooth, to_cells
from farfield.timelines.options import TimelineOptions
from farfield.timelines.timeline_segments import segments_at


def rescore(file: str | Path, options: TimelineOptions, thresholds: Sequence[float] | None = None) -> TimelineResult:
    """Find segments again from the window scores in a test's timelines.npz, with other thresholds or options.

    Args:
        file: timelines.npz from `write_timeline_report`.
        options: options for finding segments. The options of windows (`window_seconds`, `hop_seconds`) are not used.
        thresholds: threshold of each class. If None, `options.threshold` is used for all classes. If that is 0, the
            thresholds that the test used are kept.

    Raises:
        FarfieldError: if the file is missing or damaged.
    """
    stored = read_timelines(file)
    limits = stored.settings["thresholds"] if thresholds is None else list(thresholds)
    if thresholds is None and options.threshold:
        limits = [options.threshold] * len(stored.labels)
    videos = []
    for scored in stored.videos:
        starts, ends = scored.windows.T
        times, cells = to_cells(starts, ends, scored.probabilities, options.windows_aggregation)
        cells = smooth(times, cells, options.smooth_seconds)
        found = segments_at(times, cells, stored.labels, np.array(limits), stored.task, options)
        videos.append(
            VideoTimeline(scored.path, scored.truth, found, times, cells, scored.windows, scored.probabilities)
        )
    return TimelineResult(
        stored.labels, stored.task, videos, [], options, limits, about={"timelines": str(file)}, groups=stored.groups
    )
