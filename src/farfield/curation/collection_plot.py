"""Plot the durations, sizes, frame rates and classes of a verified collection of videos, by split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from farfield.curation.inspected_split import InspectedSplit
from farfield.curation.inspection import Inspected

_MEASURES: tuple[Callable[[Inspected], float], ...] = (
    lambda seen: seen.duration_seconds,
    lambda seen: min(seen.width, seen.height),
    lambda seen: seen.fps,
)


def plot_collection(splits: Sequence[InspectedSplit]) -> Figure:
    """Plot histograms of durations, short sides and frame rates, and the number of rows per class, for each split."""
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    axes = figure.subplots(2, 2)
    videos = [_videos(split) for split in splits]
    whole = [each for of_split in videos for each in of_split]
    bins = [np.histogram_bin_edges([measure(each) for each in whole], bins=40) for measure in _MEASURES]
    for split, seen in zip(splits, videos, strict=True):
        whole_rows = [row for row, each in zip(split.records, split.inspected, strict=True) if each]
        labels = Counter(label for row in whole_rows for label in row.labels)
        values = [[measure(each) for each in seen] for measure in _MEASURES]
        for axis, numbers, edges in zip(axes.flat[:3], values, bins, strict=True):
            axis.hist(numbers, bins=edges, histtype="stepfilled", alpha=0.5, label=split.name)
        counts = sorted(labels.values(), reverse=True)
        axes[1, 1].step(range(1, len(counts) + 1), counts, where="mid", label=split.name)
    names = ("duration in seconds", "short side in pixels", "frames per second", "classes, largest first")
    for axis, name in zip(axes.flat, names, strict=True):
        axis.set_xlabel(name)
        axis.set_ylabel("videos")
        axis.grid(alpha=0.3)
    axes[1, 1].set_ylabel("rows")
    axes[1, 1].set_ylim(bottom=0)
    axes[0, 0].legend()
    return figure


def _videos(split: InspectedSplit) -> list[Inspected]:
    """Return one inspection result per decodable video, even if the split has several rows for it."""
    results = {path: seen for path, seen in zip(split.paths, split.inspected, strict=True) if seen is not None}
    return list(results.values())
