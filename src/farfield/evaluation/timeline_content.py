"""Convert the result of a timeline test to plain types for report.json."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from farfield.evaluation.alarms import DelaySummary
from farfield.evaluation.class_metrics_content import chosen_thresholds_content, plain_estimate
from farfield.evaluation.segment_precision import ACTIVITYNET_TIOUS, THUMOS_TIOUS, DetectionMap
from farfield.evaluation.timelines_file import FILE
from farfield.evaluation.video_timeline import VideoTimeline

if TYPE_CHECKING:
    from farfield.evaluation.timeline_result import TimelineResult

PROTOCOLS = {"activitynet": ACTIVITYNET_TIOUS, "thumos": THUMOS_TIOUS}
SEGMENT_TIOU = 0.5
"""tIoU threshold of precision and recall of segments."""


def timeline_content(result: TimelineResult) -> dict[str, Any]:
    """Return the content of report.json. Values that are not defined are None."""
    detection = {name: result.average_precision(tious) for name, tious in PROTOCOLS.items()}
    segments = result.segment_metrics(SEGMENT_TIOU)
    decisions = {"precision": segments.precision, "recall": segments.recall, "f1": segments.f1}
    frames, accuracy = result.frame_average_precision(), result.frame_accuracy()
    alarms, delays = result.false_alarms(), result.delays()
    point = result.operating_point
    return {
        **result.about,
        "timeline": result.options.settings() | _windows(result.videos),
        "videos": len(result.videos),
        "hours": result.hours,
        "labelled_segments": len(result.truth),
        "found_segments": len(result.found),
        "confidence": 0.95,
        "resamples": result.resampling.draws,
        "no_intervals": result.resampling.why_no_intervals("videos" if result.groups is None else "groups"),
        "average_precision": {name: _detection(found) for name, found in detection.items()},
        "segments": {
            "tiou": SEGMENT_TIOU,
            "macro": {name: plain_estimate(each.macro) for name, each in decisions.items()},
            "micro": {name: plain_estimate(each.micro) for name, each in decisions.items()},
        },
        "frames": {
            "mean_average_precision": plain_estimate(frames.macro),
            "accuracy": plain_estimate(accuracy.accuracy),
            "accuracy_in_actions": plain_estimate(accuracy.in_actions),
        },
        "false_alarms_per_hour": alarms.total,
        "delay": _delay(delays.all),
        "classes": [
            {
                "label": label,
                "threshold": result.thresholds[c],
                "labelled_segments": int((result.truth.classes == c).sum()),
                "found_segments": int((result.found.classes == c).sum()),
                "average_precision": {name: plain_estimate(each.per_class[c]) for name, each in detection.items()},
                **{name: plain_estimate(each.per_class[c]) for name, each in decisions.items()},
                "frame_average_precision": plain_estimate(frames.per_class[c]),
                "false_alarms_per_hour": float(alarms.per_class[c]),
                "delay": _delay(delays.per_class[c]),
            }
            for c, label in enumerate(result.labels)
        ],
        **({} if point is None else {"operating_point": chosen_thresholds_content(point)}),
        "per_video": [_video(video) for video in result.worst_first()],
        "arrays": {"file": FILE, "scores_of_windows": "window_probabilities"},
        "undecodable_videos": [{"path": path, "reason": reason} for path, reason in result.failures],
    }


def _windows(videos: list[VideoTimeline]) -> dict[str, Any]:
    """Return three entries of report.json: "windows" (how many), "window_seconds" (median length) and "hop_seconds".

    "hop_seconds" is the median time from one window's start to the next; None if no video has two windows.
    """
    lengths = np.concatenate([np.diff(video.windows)[:, 0] for video in videos])
    hops = np.concatenate([np.diff(video.windows[:, 0]) for video in videos])
    return {
        "windows": len(lengths),
        "window_seconds": float(np.median(lengths)),
        "hop_seconds": float(np.median(hops)) if len(hops) else None,
    }


def _detection(found: DetectionMap) -> dict[str, Any]:
    return {
        "mean": plain_estimate(found.mean),
        "at_tiou": [
            {"tiou": round(tiou, 6), **plain_estimate(estimate)}
            for tiou, estimate in zip(found.tious, found.at_tiou, strict=True)
        ],
    }


def _video(video: VideoTimeline) -> dict[str, Any]:
    return {
        "path": video.path,
        "duration_seconds": video.duration_seconds,
        "labelled_segments": len(video.truth),
        "found_segments": len(video.segments),
        "agreement": video.agreement(),
    }


def _delay(found: DelaySummary) -> dict[str, float | None]:
    """Convert a summary of delays to a dict for JSON. NaN, which JSON does not support, becomes None."""
    return {name: None if math.isnan(value) else value for name, value in found._asdict().items()}
