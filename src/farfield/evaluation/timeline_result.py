"""The result of a timeline test: metrics of the segments that were found in whole videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from farfield.data.hard_negatives import HardWindow
from farfield.evaluation.alarms import (
    DetectionDelays,
    FalseAlarms,
    ScoredWindows,
    detection_delays,
    false_alarms_per_hour,
)
from farfield.evaluation.class_metrics import Averaged, DecisionMetrics, Resampling
from farfield.evaluation.frame_metrics import FrameAccuracy, ScoredCells, frame_accuracy, frame_map, frame_resampling
from farfield.evaluation.hard_negatives import (
    find_hard_negatives,
    predicted_classes,
    write_hard_negatives,
)
from farfield.evaluation.segment_arrays import Segments, predicted_segments, true_segments
from farfield.evaluation.segment_precision import (
    ACTIVITYNET_TIOUS,
    DetectionMap,
    detection_map,
    detection_resampling,
    segment_precision_recall,
)
from farfield.evaluation.timeline_content import timeline_content
from farfield.evaluation.video_timeline import VideoTimeline
from farfield.models.operating_point import OperatingPoint
from farfield.task import Task
from farfield.timelines.options import TimelineOptions


@dataclass(frozen=True)
class TimelineResult:
    """Timelines of a test's videos, and methods that compute metrics from them.

    Attributes:
        labels: class names.
        task: task of the network.
        videos: timeline and labelled segments of each video, in the order of the manifest.
        failures: (path, reason) of every video that could not be read to its end. Metrics do not include these videos.
        options: options of the windows and segments.
        thresholds: threshold with which the segments of each class were found, in the order of `labels`.
        operating_point: `timeline_operating_point` of the tested network; None if the network has none, or if the
            result is from `rescore`. It was not used for this result if `options.threshold` is set.
        about: what was tested and how: checkpoint, manifest, numeric precision, ...
        groups: group of each video in the manifest (None for a video without a group), or None if no video has a group.
    """

    labels: list[str]
    task: Task
    videos: list[VideoTimeline]
    failures: Sequence[tuple[str, str]]
    options: TimelineOptions
    thresholds: list[float]
    operating_point: OperatingPoint | None = None
    about: dict[str, Any] = field(default_factory=dict)
    groups: Sequence[str | None] | None = None

    @property
    def hours(self) -> float:
        """Total length of the videos, in hours."""
        return sum(video.duration_seconds for video in self.videos) / 3600

    @cached_property
    def truth(self) -> Segments:
        """The labelled segments of all videos, as arrays."""
        rows = [
            [(each.start_seconds, each.end_seconds, (each.label,)) for each in video.truth] for video in self.videos
        ]
        return true_segments(rows, self.labels, [video.end_seconds for video in self.videos])

    @cached_property
    def found(self) -> Segments:
        """The segments that were found in all videos, as arrays."""
        return predicted_segments([video.segments for video in self.videos], self.labels)

    @cached_property
    def cells(self) -> list[ScoredCells]:
        """Class probabilities of each video over time, as one row for each cell (time interval) of its timeline."""
        return [ScoredCells(video.times, video.probabilities) for video in self.videos]

    @cached_property
    def resampling(self) -> Resampling:
        """Bootstrap settings for the confidence intervals."""
        return detection_resampling(self.groups, len(self.videos), self.truth, self.found)

    def average_precision(self, tious: Sequence[float] = ACTIVITYNET_TIOUS) -> DetectionMap:
        """Return the average precision of the found segments per class and tIoU threshold, and its means (mAP).

        The means have 95% confidence intervals.

        Args:
            tious: thresholds of temporal intersection over union (tIoU), such as `ACTIVITYNET_TIOUS` (0.5 to 0.95) or
                `THUMOS_TIOUS` (0.3 to 0.7). To be correct, a found segment must have at least this tIoU with a labelled
                segment of its class (see `segment_matching`).
        """
        return detection_map(self.truth, self.found, len(self.labels), tious, resampling=self.resampling)

    def segment_metrics(self, tiou: float = 0.5) -> DecisionMetrics:
        """Return precision, recall and F1 of each class's found segments at a tIoU threshold, with 95% intervals."""
        return segment_precision_recall(self.truth, self.found, len(self.labels), tiou=tiou, resampling=self.resampling)

    def frame_average_precision(self) -> Averaged:
        """Return the frame-wise average precision of each class, and the averages.

        For each class, all moments of all videos are ranked by the probability of the class. A moment is a positive if
        the class is labelled there. Time is not sampled: every part of a video is weighted by its length in seconds.
        The macro average is the frame-wise mAP.
        """
        resampling = frame_resampling(self.groups, self.cells, len(self.labels))
        return frame_map(self.cells, self.truth, resampling=resampling)

    def frame_accuracy(self) -> FrameAccuracy:
        """Return the share of time in which the found classes are exactly the labelled ones.

        Time without a labelled class counts as correct if no class was found.
        """
        durations = [video.end_seconds for video in self.videos]
        return frame_accuracy(self.truth, self.found, durations, len(self.labels), resampling=self.resampling)

    def false_alarms(self) -> FalseAlarms:
        """Return the number of false alarms of each class, and the hours of video.

        A false alarm is a found segment that overlaps no labelled segment of its class.
        """
        return false_alarms_per_hour(self.truth, self.found, len(self.labels), self.hours)

    def delays(self) -> DetectionDelays:
        """Return the detection delay of each labelled segment, in seconds.

        The delay is the time from the start of the segment to the end of the first window that overlaps the segment and
        in which the segment's class is predicted. It is NaN if there is no such window.
        """
        windows = [
            ScoredWindows(
                video.windows[:, 0],
                video.windows[:, 1],
                np.where(self._predicted(video), video.window_probabilities, -1.0),  # of single_label: the best only
            )
            for video in self.videos
        ]
        return detection_delays(self.truth, windows, self.thresholds)

    def worst_first(self) -> list[VideoTimeline]:
        """Return the videos, sorted by the agreement of labelled and found segments, lowest first."""
        return sorted(self.videos, key=VideoTimeline.agreement)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of report.json, as plain Python types."""
        return dict(self._content)

    @cached_property
    def _content(self) -> dict[str, Any]:
        return timeline_content(self)

    def hard_negatives(self) -> list[HardWindow]:
        """Return the windows with a wrong prediction for a class, in the order of `videos`, then of time.

        There is one entry for each window and class with an error. False positive: the class was predicted, but no
        labelled segment of the class overlaps the window. Missed: the class was not predicted, although labelled
        segments of the class cover the whole window.
        """
        return [
            each for video in self.videos for each in find_hard_negatives(video, self.labels, self._predicted(video))
        ]

    def _predicted(self, video: VideoTimeline) -> Bool[np.ndarray, "windows classes"]:
        return predicted_classes(video.window_probabilities, np.array(self.thresholds), self.task)

    def write_hard_negatives(self, path: str | Path) -> int:
        """Write the result of `hard_negatives` to a CSV file, and return the number of its rows.

        The columns are the fields of `HardWindow`.

        Raises:
            FarfieldError: if the file cannot be written.
        """
        found = self.hard_negatives()
        write_hard_negatives(found, path)
        return len(found)
