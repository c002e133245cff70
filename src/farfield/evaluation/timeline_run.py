"""Run a network over the whole videos of a manifest, and pair the timelines with the labelled segments."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farfield.allocator import keep_freed_memory
from farfield.checkpoints.checkpoint import plain_network
from farfield.data.manifest import Manifest, read_manifest
from farfield.data.targets import WholeVideos
from farfield.device import find_device
from farfield.errors import FarfieldError, VideoError
from farfield.evaluation.test_inputs import describe_inputs, keep_operating_point, no_readable_video, warn_if_tested
from farfield.evaluation.threshold_choice import ThresholdRule, warn_of_few_detections
from farfield.evaluation.timeline_result import TimelineResult
from farfield.evaluation.timeline_threshold_choice import choose_timeline_thresholds
from farfield.evaluation.video_timeline import VideoTimeline
from farfield.models.inference_optimization import optimize_for_inference
from farfield.models.network import ActionNet
from farfield.models.operating_point import OperatingPoint
from farfield.plain_types import make_fields_plain
from farfield.precision import check_mixed_precision
from farfield.progress import VideoBars, progress_bars
from farfield.timelines.options import TimelineOptions
from farfield.timelines.segments import Segment
from farfield.timelines.timeline import Timeline, make_timeline
from farfield.timelines.timeline_segments import check_timeline_options, segments_at, timeline_thresholds
from farfield.timelines.window_lengths import check_window_lengths
from farfield.video.decoder_names import Decoder
from farfield.video.decoders import open_video

log = logging.getLogger("farfield")

_DEVICES = {"auto": "auto", "cpu": "cpu", "gpu": "cuda", "cuda": "cuda"}
"""PyTorch device of each supported accelerator of Lightning."""
_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class TimelineRun:
    """Options for making the timelines of a manifest's videos.

    Args:
        timeline: options of windows and segments.
        root: folder that the paths in the manifests are relative to; None for each manifest's own folder.
        num_crops: number of square crops of each window.
        view_batch_size: number of views (crops of windows) per forward pass.
        accelerator: auto, cpu or gpu.
        precision: 32-true, bf16-mixed or 16-mixed.
        decoder: "pyav" or "decord".
        progress: show progress bars.

    Raises:
        FarfieldError: for options out of range, or an unknown accelerator or precision.
    """

    timeline: TimelineOptions
    root: str | Path | None = None
    num_crops: int = 1
    view_batch_size: int = 16
    accelerator: str = "auto"
    precision: str = "32-true"
    decoder: Decoder = "pyav"
    progress: bool = True

    def __post_init__(self) -> None:
        make_fields_plain(self)
        for name in ("num_crops", "view_batch_size"):
            if getattr(self, name) < 1:
                raise FarfieldError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.accelerator not in _DEVICES:
            raise FarfieldError(f"accelerator is {self.accelerator!r}; with timeline, give auto, cpu or gpu.")
        check_mixed_precision(self.precision)


_INAPPLICABLE = {
    "num_clips": "windows slide over the whole video; hop_seconds sets their distance",
    "views_aggregation": "each window is scored by itself",
    "whole_videos": "timelines are always of whole videos",
    "devices": "timelines are made on one device",
    "batch_size": "videos are read one after the other; view_batch_size sets how many windows are scored together",
    "num_workers": "windows are decoded in the main process",
    "restrict_labels": "the labelled segments need not have all classes of the network",
    "calibrate_on": "without choose_threshold, there is nothing to choose on its videos",
}
"""Options of a test that do not apply to timelines, and why."""


def check_applicable_options(**given: bool) -> None:
    """Refuse options of a test that do not apply to timelines (those of `_INAPPLICABLE`).

    Args:
        given: keyword arguments named like options of `_INAPPLICABLE`; True if the user gave the option.

    Raises:
        FarfieldError: if an option was given; the message says why it does not apply.
    """
    for name, is_given in given.items():
        if is_given:
            raise FarfieldError(f"{name} does not apply with timeline: {_INAPPLICABLE[name]}. Leave {name} out.")


def evaluate_timelines(
    model: str | Path | ActionNet,
    manifest: str | Path,
    run: TimelineRun,
    *,
    calibrate_on: str | Path | None = None,
    rule: ThresholdRule | None = None,
) -> TimelineResult:
    """Find segments in the videos of a manifest, and compare them with the labelled ones. Each video is opened once.

    Args:
        model: a checkpoint, or a network.
        manifest: CSV file of videos and their labelled segments, with one row for each segment.
        run: options.
        calibrate_on: manifest of validation videos, needed to choose thresholds; None without `rule`.
        rule: rule for choosing thresholds on the timelines of the validation videos. The chosen thresholds are stored
            in the checkpoint or network. None to use the thresholds of the network or of `run.timeline`.

    Raises:
        FarfieldError: if a manifest has rows with labels, but none of them has a start or an end; if a label is not a
            class of the network; if `rule` is given and no validation video has a labelled segment; if `rule` is
            combined with `run.timeline.threshold`; if `run.timeline` does not fit the network; if the task is
            `multi_head`; or if no video of a manifest can be read.
    """
    network = plain_network(model)
    _check_network(network, run.timeline, rule)
    listed = _read(manifest, run, network)
    held_out = None if calibrate_on is None else _read(calibrate_on, run, network)
    if held_out is not None:
        warn_if_tested(calibrate_on, held_out, listed)
    fast = copy.copy(optimize_for_inference(network).to(find_device(_DEVICES[run.accelerator])))  # gets new thresholds
    if fast.device.type == "cpu":
        keep_freed_memory()
    if held_out is not None and rule is not None:
        given = run.timeline
        windows = TimelineOptions(
            given.hop_seconds, given.window_seconds, given.windows_aggregation, given.smooth_seconds
        )
        validation = _run_over(WholeVideos.of(held_out), fast, replace(run, timeline=windows), name="validation")
        for path, reason in validation.failures:
            log.warning("%s is not used to choose thresholds: %s", path, reason)
        fast.timeline_operating_point = _choose_thresholds(validation, rule, run.timeline)
    result = _run_over(WholeVideos.of(listed), fast, run, name="test")
    if rule is not None and fast.timeline_operating_point is not None:  # only now: a failed test changes nothing
        keep_operating_point(fast.timeline_operating_point, model, timeline=True)
    result.about.update(describe_inputs(model, manifest, listed, run.root) | _describe_run(network, run))
    return result


def _check_network(network: ActionNet, options: TimelineOptions, rule: ThresholdRule | None) -> None:
    if network.task == "multi_head":
        raise FarfieldError(
            "timeline does not support 'multi_head' networks, whose classes belong to several heads. Leave out "
            "timeline."
        )
    if rule is not None and options.threshold:
        raise FarfieldError(
            f"choose_threshold and threshold ({options.threshold:g}) are both set, but threshold would replace the "
            "chosen thresholds. Leave one of the two out."
        )
    check_window_lengths(network.clip, options.hop_seconds, options.window_seconds)
    check_timeline_options(options if rule is None else replace(options, threshold=_SOME_THRESHOLD), network)


_SOME_THRESHOLD = 0.5
"""Placeholder for thresholds that are not chosen yet, to check options that are valid only with a threshold."""


def _read(path: str | Path, run: TimelineRun, network: ActionNet) -> Manifest:
    """Read a manifest, and check its labels and segments.

    All labels must be classes of the network. If there are labels, at least one labelled row must be a segment.
    """
    listed = read_manifest(path, root=run.root)
    listed.target_matrix(network.labels)  # raises for a label that the network does not know
    if listed.labels and all(row.start_seconds is None and row.end_seconds is None for row in listed if row.labels):
        raise FarfieldError(
            f"{path} has no segments, but timelines are compared with labelled segments of whole videos. Give a "
            "manifest with the columns start_seconds and end_seconds, and a row for each segment. For a video in "
            "which nothing happens, add a row with an empty label."
        )
    return listed


def _run_over(videos: WholeVideos, model: ActionNet, run: TimelineRun, *, name: str) -> TimelineResult:
    """Make the timeline of each video. Videos that cannot be read to their end are listed as failures."""
    lines: list[VideoTimeline] = []
    failures: list[tuple[str, str]] = []
    groups: list[str | None] = []
    with progress_bars(run.progress), VideoBars(name, len(videos.segments)) as bars:
        for row, truth in enumerate(videos.segments):
            record = videos.manifest[row]
            try:
                line = _make_timeline(videos.manifest.path(row), record.fps, model, run, bars.parts)
            except VideoError as error:
                failures.append((record.path, error.reason))
            else:
                if line.error is None:
                    if late := sum(start >= line.times[-1] for start, _, labels in truth if labels):
                        log.warning(
                            "%s: %d labelled segment(s) begin after the end of the video, and are left out.",
                            record.path,
                            late,
                        )
                    lines.append(VideoTimeline.of(record.path, line, truth))
                    groups.append(record.group)
                else:
                    reason = f"can be read only up to {line.times[-1]:.1f} s: {line.error}"
                    failures.append((record.path, reason))
            bars.video()
    if not lines:
        raise no_readable_video(len(failures), str(videos.manifest.source), failures)
    return TimelineResult(
        list(model.labels),
        model.task,
        lines,
        failures,
        run.timeline,
        timeline_thresholds(model, model.labels, run.timeline.threshold).tolist(),
        model.timeline_operating_point,
        groups=groups if any(groups) else None,
    )


def _choose_thresholds(result: TimelineResult, rule: ThresholdRule, options: TimelineOptions) -> OperatingPoint:
    """Choose a threshold for each class on the timelines of validation videos.

    Args:
        result: timelines of the validation videos. Their found segments are not used.
        rule: how to choose.
        options: options for finding segments at each candidate threshold.
    """

    def find(times: np.ndarray, cells: np.ndarray, labels: list[str], thresholds: np.ndarray) -> list[Segment]:
        return segments_at(times, cells, labels, thresholds, result.task, options)

    point = choose_timeline_thresholds(result.cells, result.truth, result.labels, rule, find=find)
    warn_of_few_detections(point, rule)
    return point


def _make_timeline(
    path: Path, fps: float | None, model: ActionNet, run: TimelineRun, on_progress: Callable[[int, int], object]
) -> Timeline:
    """Open a video, and make its timeline.

    Args:
        path: the video.
        fps: frame rate of a folder of pictures; ignored for a file.
        model: the network.
        run: options.
        on_progress: called with (number of windows done, total number of windows).
    """
    clip, device = model.clip, model.device.type
    dtype = _DTYPES.get(run.precision)
    with (
        open_video(path, run.decoder, deinterlace=clip.deinterlace, tone_map=clip.tone_map, fps=fps) as video,
        torch.autocast(device, dtype, enabled=dtype is not None),
    ):
        return make_timeline(
            video,
            path,
            model,
            run.timeline,
            num_crops=run.num_crops,
            view_batch_size=run.view_batch_size,
            on_progress=on_progress,
        )


def _describe_run(network: ActionNet, run: TimelineRun) -> dict[str, Any]:
    """Return entries for the report that describe the network and the run.

    They are the network's backbone, inserted blocks and task, and the run's number of crops and numeric precision.
    """
    return {
        "backbone": network.config["backbone"],
        "inserted": network.config["insert"],
        "task": network.task,
        "num_crops": run.num_crops,
        "precision": run.precision,
    }
