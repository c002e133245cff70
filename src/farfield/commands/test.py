"""`farfield validate` and `farfield test`: score a checkpoint on a manifest."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farfield.clip_spec import ViewsAggregation
from farfield.commands.console import quiet_libraries
from farfield.commands.timeline_options import timeline_options
from farfield.errors import FarfieldError
from farfield.video.decoder_names import Decoder


@dataclass(frozen=True)
class TestData:
    """The videos to score.

    Args:
        manifest: CSV of the videos.
        root: folder that the manifest's paths are relative to; None for the folder of the manifest.
        num_workers: decoding processes; None for one per CPU core, at most 8.
        batch_size: number of videos in a batch.
        whole_videos: treat all rows of a video as one: the whole video is tested, with the labels of all its rows (the
            protocol of Charades). Needs a multilabel network.
    """

    __test__ = False  # not a test of pytest's

    manifest: str
    root: str | None = None
    num_workers: int | None = None
    batch_size: int = 1
    whole_videos: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.num_workers or 0) < 0:
            raise FarfieldError(
                f"data.batch_size is {self.batch_size} and data.num_workers is {self.num_workers}. batch_size must be "
                "at least 1. num_workers must be null or at least 0."
            )


def test(
    checkpoint: str,
    data: TestData,
    *,
    num_clips: int | None = None,
    num_crops: int | None = None,
    views_aggregation: ViewsAggregation | None = None,
    out: str | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    precision: str = "32-true",
    decoder: Decoder = "pyav",
    view_batch_size: int | None = 16,
    restrict_labels: bool = False,
    calibrate_on: str | None = None,
    choose_threshold: str | None = None,
    timeline: bool = False,
    write_hard_negatives: str | None = None,
    json: bool = False,
    **options: Any,
) -> int:
    """Score a checkpoint on the videos of a manifest, and write a report. Scores of a video are aggregated over views.

    With --timeline, windows slide over whole videos instead, as with `farfield predict --timeline`, and the segments
    that are found are compared with the segments in the manifest.

    The network, its labels, sampling and normalisation come from the checkpoint. Every video is opened and decoded once
    for all of its views. `farfield test splits` averages the test results of a data set's official splits.

    Args:
        checkpoint: a .ckpt file, or the folder or name of a Hugging Face video encoder (docs/guides/encoders.md).
        data: the videos to score.
        num_clips: clips spread over each video; null for the checkpoint's own setting.
        num_crops: crops of each clip; null for 1 with --timeline, and for the checkpoint's own setting otherwise.
        views_aggregation: mean, or max (the highest probability of each class among the views, as PySlowFast does for
            Charades); null for the checkpoint's own setting.
        out: folder for report.json, report.md, predictions.csv, per_class.csv, plots, and scores.npz (the probabilities
            of all views and, for a single-label network, the confusion matrix), which `farfield compare` reads; null
            for the folder `test` in the run's folder. With --timeline: report.json, report.md, segments.csv, a plot of
            labelled and found segments, and timelines.npz (the probabilities of all windows); null for the folder
            `test_timeline` in the run's folder. For a Hugging Face encoder, the run's folder is runs/NAME, where NAME
            is the last part of the encoder's path or name.
        accelerator: where to run, as Lightning's Trainer takes it: auto, cpu, gpu.
        devices: number of devices. Each has its own process, which scores a share of the videos.
        precision: number format of the network, as Lightning's Trainer takes it: 32-true, bf16-mixed, 16-mixed.
        decoder: pyav or decord.
        view_batch_size: views per forward pass; null for all views of a batch.
        restrict_labels: consider only the classes of the manifest, and ignore the network's other classes; for example,
            test a network of Kinetics-400 on a subset of Kinetics. The network must have all classes of the manifest.
        calibrate_on: manifest of the validation videos. Their scores determine a temperature for the probabilities in
            the report (Guo et al., ICML 2017). The temperature does not change the ranking of the classes. Null for no
            temperature.
        choose_threshold: rule by which a threshold is chosen for each class on the videos of calibrate_on, and written
            into the checkpoint: f1 (highest F1), precision=0.95 (highest recall with a precision of at least 0.95),
            recall=0.9 (highest precision with a recall of at least 0.9) or false_alarms_per_hour=1 (highest recall with
            at most 1 false alarm of the class per hour of video). Other numbers can be given. The report has the
            precision and recall at these thresholds on the tested videos. With --timeline, thresholds for timelines are
            chosen instead, on the segments of calibrate_on. Null for the thresholds that the checkpoint has, if any.
        timeline: compare the segments found in whole videos with the manifest's segments. A video may have several
            rows.
        write_hard_negatives: CSV file for the windows that were scored wrongly; needs --timeline. In such a window, a
            class was predicted although none of the class's segments overlaps the window, or was not predicted although
            the class's segments cover the whole window. With this file as data.hard_negatives, training draws more
            clips from these windows. For this use, test on the manifest of the training videos.
        json: print the report as JSON.
        options: further options, those of `TimelineOptions`.
    """
    # Imported late, because they import PyTorch and Lightning: --help answers without them.
    from farfield.commands.test_summary import test_summary, thresholds_line
    from farfield.commands.timeline_summary import timeline_summary
    from farfield.evaluation.evaluate import evaluate
    from farfield.evaluation.hard_negatives import check_hard_negatives_file
    from farfield.evaluation.timeline_result import TimelineResult
    from farfield.lightning_compat import process_rank

    quiet_libraries()
    windows = timeline_options(timeline, **options)  # jsonargparse finds the options by this call
    if write_hard_negatives is not None and windows is None:
        raise FarfieldError("--write_hard_negatives needs the windows of a timeline. Add --timeline.")
    if write_hard_negatives is not None:
        check_hard_negatives_file(write_hard_negatives)
    folder = Path(out) if out else _run_folder(checkpoint) / ("test" if windows is None else "test_timeline")
    views: dict[str, Any] = {
        "num_clips": num_clips,
        "views_aggregation": views_aggregation,
        "whole_videos": data.whole_videos,
        "devices": devices,
        "batch_size": data.batch_size,
        "num_workers": data.num_workers,
        "restrict_labels": restrict_labels,
    }
    result = evaluate(
        checkpoint,
        data.manifest,
        root=data.root,
        num_crops=num_crops,
        timeline=windows or False,
        out=folder,
        accelerator=accelerator,
        precision=precision,
        view_batch_size=view_batch_size,
        calibrate_on=calibrate_on,
        choose_threshold=choose_threshold,
        decoder=decoder,
        **views,
    )
    if process_rank():
        return 0
    report = result.to_dict()
    if json:
        print(json_format.dumps(report, indent=2))
    elif isinstance(result, TimelineResult):
        print(timeline_summary(report, folder))
    else:
        print(test_summary(report, folder))
    if choose_threshold is not None and not json:
        print(thresholds_line(report["operating_point"], checkpoint))
    if write_hard_negatives is not None and isinstance(result, TimelineResult):
        count = result.write_hard_negatives(write_hard_negatives)
        print(f"{write_hard_negatives}: windows that were scored wrongly: {count}", file=sys.stderr)
    return 0


def validate(
    checkpoint: str, data: TestData, *, accelerator: str = "auto", decoder: Decoder = "pyav", json: bool = False
) -> int:
    """Score a checkpoint on one central view per video, as after a training epoch. `farfield test` uses all views.

    Args:
        checkpoint: a .ckpt file, or the folder or name of a Hugging Face video encoder (docs/guides/encoders.md).
        data: the videos to score.
        accelerator: where to run, as Lightning's Trainer takes it: auto, cpu, gpu.
        decoder: pyav or decord.
        json: print the report as JSON.
    """
    out = str(_run_folder(checkpoint) / "validate")
    return test(
        checkpoint, data, num_clips=1, num_crops=1, out=out, accelerator=accelerator, decoder=decoder, json=json
    )


def _run_folder(checkpoint: str) -> Path:
    """Return the run folder of a checkpoint: the parent of the folder `checkpoints`, or runs/NAME for Hugging Face."""
    from farfield.checkpoints.hugging_face_folder import is_hugging_face  # late: it imports PyTorch

    if is_hugging_face(checkpoint):
        return Path("runs") / Path(checkpoint).absolute().name  # a folder named as a model's owner would hide the model
    folder = Path(checkpoint).parent
    return folder.parent if folder.name == "checkpoints" else folder
