"""Evaluate a network on the videos of a manifest."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal, overload

from farfield.argument_types import checked_arguments
from farfield.checkpoints.checkpoint import plain_network
from farfield.checkpoints.hugging_face_folder import is_hugging_face
from farfield.clip_spec import ViewsAggregation
from farfield.data.evaluation_datamodule import TestDataModule
from farfield.data.manifest import Manifest, read_manifest
from farfield.data.targets import whole_videos_of
from farfield.errors import FarfieldError
from farfield.evaluation.calibration import fit_temperature
from farfield.evaluation.manifest_scores import make_trainer, score_manifest
from farfield.evaluation.multilabel_calibration import fit_pair_temperature
from farfield.evaluation.result import EvaluationResult
from farfield.evaluation.scores_file import Scores, check_numbers
from farfield.evaluation.scoring_module import ScoringModule
from farfield.evaluation.test_inputs import describe_inputs, keep_operating_point, warn_if_tested
from farfield.evaluation.test_report import write_report
from farfield.evaluation.threshold_choice import (
    ThresholdRule,
    choose_thresholds,
    hours_of_video,
    warn_of_few_detections,
)
from farfield.evaluation.timeline_report import write_timeline_report
from farfield.evaluation.timeline_result import TimelineResult
from farfield.evaluation.timeline_run import TimelineRun, check_applicable_options, evaluate_timelines
from farfield.memory_errors import out_of_memory_as_ours
from farfield.models.class_subset import restrict_labels as restrict_network
from farfield.models.network import ActionNet
from farfield.models.operating_point import OperatingPoint
from farfield.models.summary import summarise
from farfield.precision import check_mixed_precision
from farfield.progress import progress_bars, progress_bars_shown
from farfield.timelines.options import TimelineOptions
from farfield.video.decoder_names import Decoder

log = logging.getLogger("farfield")


@overload
def evaluate(
    model: str | Path | ActionNet,
    manifest: str | Path,
    *,
    root: str | Path | None = None,
    num_clips: int | None = None,
    num_crops: int | None = None,
    views_aggregation: ViewsAggregation | None = None,
    whole_videos: bool = False,
    timeline: Literal[False] = False,
    out: str | Path | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    precision: str = "32-true",
    batch_size: int = 1,
    num_workers: int | None = None,
    view_batch_size: int | None = 16,
    restrict_labels: bool = False,
    calibrate_on: str | Path | None = None,
    choose_threshold: str | ThresholdRule | None = None,
    decoder: Decoder = "pyav",
    progress: bool = True,
) -> EvaluationResult: ...
@overload
def evaluate(
    model: str | Path | ActionNet,
    manifest: str | Path,
    *,
    timeline: Literal[True] | TimelineOptions,
    root: str | Path | None = None,
    num_crops: int | None = None,
    out: str | Path | None = None,
    accelerator: str = "auto",
    precision: str = "32-true",
    view_batch_size: int | None = 16,
    calibrate_on: str | Path | None = None,
    choose_threshold: str | ThresholdRule | None = None,
    decoder: Decoder = "pyav",
    progress: bool = True,
) -> TimelineResult: ...
@out_of_memory_as_ours(
    "Give fewer views or videos at once (view_batch_size, batch_size), or a smaller num_workers.",
    on_gpu="Give fewer views or videos at once (view_batch_size, batch_size), or run on the CPU: accelerator cpu.",
)
@checked_arguments
def evaluate(
    model: str | Path | ActionNet,
    manifest: str | Path,
    *,
    root: str | Path | None = None,
    num_clips: int | None = None,
    num_crops: int | None = None,
    views_aggregation: ViewsAggregation | None = None,
    whole_videos: bool = False,
    timeline: bool | TimelineOptions = False,
    out: str | Path | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    precision: str = "32-true",
    batch_size: int = 1,
    num_workers: int | None = None,
    view_batch_size: int | None = 16,
    restrict_labels: bool = False,
    calibrate_on: str | Path | None = None,
    choose_threshold: str | ThresholdRule | None = None,
    decoder: Decoder = "pyav",
    progress: bool = True,
) -> EvaluationResult | TimelineResult:
    """Test a network on the videos of a manifest, with the scores of each video aggregated over its views.

    Each video is opened and decoded once for all of its views. Videos that cannot be read are listed in the result.

    Args:
        model: a checkpoint, or a network from `build_model` or `load_model`.
        manifest: CSV file that lists the videos and their classes.
        root: folder that the paths in `manifest` and `calibrate_on` are relative to; None for each manifest's own
            folder.
        num_clips: clips spread over each video; None for the network's test setting.
        num_crops: crops of each clip. None for the network's test setting or, with a timeline, 1.
        views_aggregation: how the class probabilities of a video's views are aggregated: "mean", or "max" as PySlowFast
            does for Charades. None for the network's test setting.
        whole_videos: merge the rows of each video, and test the whole video with the labels of all its rows (the
            protocol of Charades). Needs a multilabel network. If false, each row is tested separately.
        timeline: find segments in whole videos, as `predict` does with a timeline, and compare them with the labelled
            segments of the manifest, which may have several rows for a video. True for the default options of windows
            and segments; a `TimelineOptions` to set them. With a timeline, these options must keep their
            defaults: num_clips, views_aggregation, whole_videos, devices, batch_size, num_workers (0 is allowed, too)
            and restrict_labels.
        out: folder for the report, see `write_report` or, for a timeline, `write_timeline_report`; None to write no
            report.
        accelerator: accelerator of Lightning's Trainer: auto, cpu or gpu.
        devices: number of devices. Each runs its own process, which scores a share of the videos.
        precision: precision of Lightning's Trainer: 32-true, bf16-mixed or 16-mixed.
        batch_size: videos per batch.
        num_workers: decoding processes; None for one per CPU core, at most 8. 0 decodes in the main process.
        view_batch_size: views per forward pass, to limit memory. None for all views of a batch or, with a timeline, 16.
        restrict_labels: predict only the manifest's classes, which must be a subset of the network's classes.
        calibrate_on: manifest of validation videos. Without a timeline, a temperature for the probabilities is fitted
            on these videos (Guo et al., ICML 2017). The temperature does not change the ranking of the classes. With a
            timeline, there is no temperature; the videos are only used for `choose_threshold`, which must then be set.
            None for no validation videos.
        choose_threshold: rule by which to choose a threshold for each class on the videos of `calibrate_on` or, with a
            timeline, on the timelines of these videos. The rule is "f1", "precision=P", "recall=R" or
            "false_alarms_per_hour=N", such as "recall=0.9"; see `ThresholdRule`. None to use the model's own
            thresholds, if any; with a timeline, a `threshold` above 0 in the `TimelineOptions` replaces them. If
            `model` is a checkpoint, the chosen thresholds are written into it, which changes the checkpoint's hash. If
            `model` is a network, they are set as `model.operating_point` or, with a timeline, as
            `model.timeline_operating_point`.
        decoder: "pyav" or "decord".
        progress: show a progress bar.

    Returns:
        An `EvaluationResult`, or a `TimelineResult` with a timeline.

    Raises:
        FarfieldError: if the checkpoint or a manifest cannot be read, options are out of range or do not fit the task,
            or no video can be read.
        KeyboardInterrupt: if interrupted.

    Example:
        result = farfield.evaluate("best.ckpt", "test.csv", num_clips=10, num_crops=3)
        print(result.metrics().top1)  # 74.0% [72.1, 75.8]; for a multilabel network, use multilabel_metrics()
        result = farfield.evaluate("best.ckpt", "untrimmed.csv", timeline=True)
        print(result.average_precision().mean)  # over tIoU 0.5 to 0.95
    """
    if view_batch_size is not None and view_batch_size < 1:
        raise FarfieldError(f"view_batch_size is {view_batch_size}; it must be at least 1, or null.")
    if batch_size < 1 or (num_workers or 0) < 0:
        raise FarfieldError(
            f"batch_size is {batch_size} and num_workers is {num_workers}. batch_size must be at least 1. num_workers "
            "must be null or at least 0."
        )
    if out is not None and Path(out).exists() and not Path(out).is_dir():
        raise FarfieldError(f"out is {out}, which is a file. Give a folder.")
    check_mixed_precision(precision)
    rule = ThresholdRule.parse(choose_threshold) if isinstance(choose_threshold, str) else choose_threshold
    if rule is not None:
        _check_threshold_options(rule, model, calibrate_on, restrict_labels)
    if timeline is not False:
        check_applicable_options(
            num_clips=num_clips is not None,
            views_aggregation=views_aggregation is not None,
            whole_videos=whole_videos,
            devices=devices != 1,
            batch_size=batch_size != 1,
            num_workers=bool(num_workers),
            restrict_labels=restrict_labels,
            calibrate_on=calibrate_on is not None and rule is None,
        )
        run = TimelineRun(
            TimelineOptions() if timeline is True else timeline,
            root=root,
            num_crops=TimelineRun.num_crops if num_crops is None else num_crops,
            view_batch_size=view_batch_size or TimelineRun.view_batch_size,
            accelerator=accelerator,
            precision=precision,
            decoder=decoder,
            progress=progress,
        )
        tested = evaluate_timelines(model, manifest, run, calibrate_on=calibrate_on, rule=rule)
        if out is not None:
            write_timeline_report(tested, out)
        return tested
    network = plain_network(model)
    if network.task == "multi_head" and (calibrate_on is not None or restrict_labels):
        given = {"restrict_labels": restrict_labels, "calibrate_on": calibrate_on, "choose_threshold": choose_threshold}
        names = " and ".join(name for name, value in given.items() if value)
        raise FarfieldError(
            f"{names} cannot be combined with a 'multi_head' network, whose classes belong to several heads. Leave out "
            f"{names}."
        )
    if rule is not None and views_aggregation not in (None, network.clip.views_aggregation):
        raise FarfieldError(
            "choose_threshold stores thresholds for the network's own views_aggregation, "
            f"{network.clip.views_aggregation!r}, but views_aggregation is {views_aggregation!r}. Leave out "
            "views_aggregation."
        )
    listed = read_manifest(manifest, root=root)
    held_out = None if calibrate_on is None else read_manifest(calibrate_on, root=root)
    if held_out is not None:
        warn_if_tested(calibrate_on, held_out, listed)
    videos = listed
    if whole_videos:
        videos = whole_videos_of(listed, network.task, option="whole_videos").manifest
        held_out = held_out and whole_videos_of(held_out, network.task, option="whole_videos").manifest
    elif network.task == "multilabel" and len({record.path for record in videos}) < len(videos):
        log.warning(
            "%s has several rows for some videos, and each row is tested by itself. If the network was trained with "
            "whole_videos, test it with whole_videos, too.",
            manifest,
        )
    restricted: dict[str, Any] = {}
    if restrict_labels and not videos.labels:
        raise FarfieldError(f"restrict_labels needs the classes of {manifest}, but no row has a label. Add labels.")
    if restrict_labels:
        restricted = {"scored_among": f"{len(videos.labels)} of the network's {len(network.labels)} classes"}
        network = restrict_network(network, videos.labels)
    changes = {"num_clips": num_clips, "num_crops": num_crops, "views_aggregation": views_aggregation}
    clip = network.clip.replace(**{name: value for name, value in changes.items() if value is not None})
    chosen_for = network.clip.views_aggregation
    if rule is None and network.operating_point is not None and clip.views_aggregation != chosen_for:
        log.warning(
            "the thresholds of the classes were chosen with views_aggregation %r, and this test uses %r: at the "
            "thresholds, the rule %s need not hold. Leave out views_aggregation to apply them as they were chosen.",
            chosen_for,
            clip.views_aggregation,
            network.operating_point.rule,
        )
    cost = summarise(network, side_px=clip.test_side_px).multiply_adds / 1e9
    module = ScoringModule(network, view_batch_size=view_batch_size)
    trainer = make_trainer(accelerator, devices, precision, progress=progress and progress_bars_shown())

    def data_of(part: Manifest) -> TestDataModule:
        return TestDataModule(
            part,
            network.labels,
            clip,
            num_clips=clip.num_clips,
            num_crops=clip.num_crops,
            batch_size=batch_size,
            num_workers=num_workers,
            decoder=decoder,
            task=network.task,
        )

    temperature, point = None, network.operating_point
    if held_out is not None:
        calibration_scores, calibration_rows = score_manifest(trainer, module, data_of(held_out), str(calibrate_on))
        for path, reason in module.failures if trainer.is_global_zero else []:
            log.warning("%s is left out of the calibration: %s", path, reason)
        check_numbers(calibration_scores)
        fit = fit_pair_temperature if network.task == "multilabel" else fit_temperature
        temperature = fit(calibration_scores.probabilities, calibration_scores.targets)
        if rule is not None:
            point = _choose_thresholds(calibration_scores, calibration_rows, rule, held_out)
    scores, rows = score_manifest(trainer, module, data_of(videos), str(manifest))
    if rule is not None and point is not None and (isinstance(model, ActionNet) or trainer.is_global_zero):
        keep_operating_point(point, model)  # only now, so that a failed test leaves the checkpoint as it was
    about = {
        **describe_inputs(model, manifest, listed, root),
        "missing_videos": listed.provenance()["missing"],
        **({"whole_videos": True} if whole_videos else {}),
        "backbone": network.config["backbone"],
        "inserted": network.config["insert"],
        **restricted,
        **({} if temperature is None else {"calibrated_on": str(calibrate_on), "temperature": round(temperature, 4)}),
        "num_clips": clip.num_clips,
        "num_crops": clip.num_crops,
        "precision": precision,
    }
    groups = [videos[row].group for row in rows]
    result = EvaluationResult(
        scores,
        list(module.failures),
        temperature,
        cost,
        about,
        groups=groups if any(groups) else None,
        operating_point=point,
    )
    if out is not None and trainer.is_global_zero:
        with progress_bars(progress):
            write_report(result, out)
    return result


def _check_threshold_options(
    rule: ThresholdRule, model: str | Path | ActionNet, calibrate_on: str | Path | None, restrict_labels: bool
) -> None:
    """Check, before anything is loaded, that thresholds can be chosen and stored."""
    if calibrate_on is None:
        raise FarfieldError(
            f"choose_threshold is '{rule}', but calibrate_on is not set. Set it to the manifest of the validation "
            "videos, on which thresholds are chosen."
        )
    if restrict_labels:
        raise FarfieldError(
            "choose_threshold and restrict_labels are both set, but thresholds chosen for scores over a subset of "
            "the classes do not fit scores over all classes. Leave one of the two out."
        )
    if isinstance(model, str | Path) and (Path(model).is_dir() or is_hugging_face(model)):
        raise FarfieldError(f"choose_threshold writes into a checkpoint, but {model} is a folder. Give a .ckpt file.")


def _choose_thresholds(scores: Scores, rows: list[int], rule: ThresholdRule, manifest: Manifest) -> OperatingPoint:
    """Choose thresholds on scored validation videos; `rows` are the videos' rows in the manifest."""
    hours = hours_of_video(manifest, rows) if rule.kind == "false_alarms_per_hour" else None
    point = choose_thresholds(scores.probabilities, scores.target_matrix(), scores.labels, rule, hours=hours)
    warn_of_few_detections(point, rule)
    return point
