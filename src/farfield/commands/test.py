"""`farfield validate` and `farfield test`: score a checkpoint on a manifest."""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farfield.clip_spec import ViewsAggregation
from farfield.commands.console import quiet_libraries
from farfield.errors import FarfieldError
from farfield.evaluation.evaluate import evaluate
from farfield.lightning_compat import process_rank
from farfield.reports.read_test_report import METRICS, metrics_of
from farfield.video.decoder_names import Decoder


@dataclass(frozen=True)
class TestData:
    """The videos to score.

    Args:
        manifest: CSV of the videos.
        root: folder that the manifest's paths are relative to; None for the folder of the manifest.
        num_workers: decoding processes; None for one per CPU core, at most 8.
        batch_size: number of videos in a batch.
        whole_videos: test whole videos, where the manifest has several labelled segments of a video: a video has the
            labels of all its rows (the protocol of Charades). Needs a multilabel network.
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
                "at least 1, and num_workers at least 0, or null."
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
    json: bool = False,
) -> int:
    """Score a checkpoint on the videos of a manifest, and write a report. Scores of a video are aggregated over views.

    The network, its labels, sampling and normalisation come from the checkpoint. Every video is opened and decoded
    once for all of its views. `farfield test splits` averages the tests of a data set's official splits.

    Args:
        checkpoint: a .ckpt file.
        data: the videos to score.
        num_clips: clips spread over each video; null for the checkpoint's own setting.
        num_crops: crops of each clip; null for the checkpoint's own setting.
        views_aggregation: mean, or max (the highest probability of each class among the views, as PySlowFast does for
            Charades); null for the checkpoint's own setting.
        out: folder for report.json, report.md, predictions.csv, per_class.csv, plots, and scores.npz (the probabilities
            of all views and, for a single-label network, the confusion matrix, for `farfield compare`); null for the
            folder `test` in the run's folder.
        accelerator: where to run, as Lightning's Trainer takes it: auto, cpu, gpu.
        devices: number of devices, each with a process of its own and a share of the videos.
        precision: number format of the network, as Lightning's Trainer takes it: 32-true, bf16-mixed, 16-mixed.
        decoder: pyav or decord.
        view_batch_size: views per forward pass; null for all views of a batch.
        restrict_labels: score only among the classes of the manifest. The network must know all of them, as a network
            of Kinetics-400 knows the classes of a Kinetics subset.
        calibrate_on: manifest of the validation videos. Their scores determine a temperature for the probabilities in
            the report (Guo et al., ICML 2017). The temperature does not change the ranking of the classes. Null for no
            temperature.
        choose_threshold: choose a threshold for each class on the videos of calibrate_on, and write the thresholds into
            the checkpoint: f1 (highest F1), precision=0.95 (highest recall with this precision), recall=0.9 (highest
            precision with this recall) or false_alarms_per_hour=1 (of each class, per hour of video), with any value.
            The report has the precision and recall at these thresholds on the tested videos. Null for the thresholds
            that the checkpoint has, if any.
        json: print the report as JSON.
    """
    quiet_libraries()
    folder = Path(out) if out else _run_folder(checkpoint) / "test"
    result = evaluate(
        checkpoint,
        data.manifest,
        root=data.root,
        num_clips=num_clips,
        num_crops=num_crops,
        views_aggregation=views_aggregation,
        whole_videos=data.whole_videos,
        out=folder,
        accelerator=accelerator,
        devices=devices,
        precision=precision,
        batch_size=data.batch_size,
        num_workers=data.num_workers,
        view_batch_size=view_batch_size,
        restrict_labels=restrict_labels,
        calibrate_on=calibrate_on,
        choose_threshold=choose_threshold,
        decoder=decoder,
    )
    if not process_rank():
        report = result.to_dict()
        print(json_format.dumps(report, indent=2) if json else _summary(report, folder))
        if choose_threshold is not None and not json:
            print(f"thresholds by the rule {choose_threshold}: kept in {checkpoint}")
    return 0


def validate(
    checkpoint: str, data: TestData, *, accelerator: str = "auto", decoder: Decoder = "pyav", json: bool = False
) -> int:
    """Score a checkpoint on one central view per video, as after a training epoch. `farfield test` uses all views.

    Args:
        checkpoint: a .ckpt file.
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
    folder = Path(checkpoint).parent
    return folder.parent if folder.name == "checkpoints" else folder


def _summary(report: dict[str, Any], folder: Path) -> str:
    lines = [f"{report['videos']} videos, {report['num_clips']} clips x {report['num_crops']} crops each"]
    if "scored_among" in report:
        lines.append(f"scored among {report['scored_among']}")
    if report.get("task") == "multi_head":
        return "\n".join([*lines, *_multi_head_rows(report), *_failures(report), f"report: {folder / 'report.md'}"])
    macro, point = report["class_metrics"]["macro"], report.get("operating_point", {})
    rows = {shown: report[name] for name, shown in metrics_of(report).items()}
    if report.get("task") == "multilabel":
        rows |= {f"macro {name}": macro[name] for name in ("precision", "recall")} | {"macro F1": macro["f1"]}
    else:
        rows |= {"mean average precision": macro["average_precision"], "macro F1": macro["f1"]}
    if "macro" in point:
        rows |= {f"{name} at thresholds": point["macro"][name] for name in ("precision", "recall")}
    width = max(23, *map(len, rows))
    lines += [_row(f"{shown:<{width}}", estimate) for shown, estimate in rows.items()]
    calibrated = report["calibration"]
    errors = [
        100 * calibrated[name]["expected_error"] for name in ("as_trained", "with_temperature") if name in calibrated
    ]
    lines.append(f"{'calibration error':<{width}} {' -> '.join(f'{error:6.2f}%' for error in errors)}")
    if calibrated["temperature"] is not None:
        lines[-1] += f"   with temperature {round(calibrated['temperature'], 4)}"
    return "\n".join([*lines, *_failures(report), f"report: {folder / 'report.md'}"])


def _multi_head_rows(report: dict[str, Any]) -> list[str]:
    rows = {shown: report[name] for name, shown in metrics_of(report).items()}
    for head, metrics in report["heads"].items():
        rows |= {f"{shown} of {head}": metrics[name] for name, shown in METRICS.items()}
    width = max(map(len, rows))
    return [_row(f"{shown:<{width}}", estimate) for shown, estimate in rows.items()]


def _failures(report: dict[str, Any]) -> list[str]:
    failures = report["undecodable_videos"]
    if not failures:
        return []
    named = [f"  {failure['path']}: {failure['reason']}" for failure in failures]
    return [f"{len(failures)} videos could not be decoded:", *named]


def _row(name: str, estimate: dict[str, float | None]) -> str:
    """Format a metric and its interval; both may be undefined (None)."""
    if estimate["value"] is None:
        return f"{name} undefined"
    row = f"{name} {100 * estimate['value']:6.2f}%"
    if estimate["low"] is None or estimate["high"] is None:
        return row
    return f"{row}   95% interval {100 * estimate['low']:.1f} to {100 * estimate['high']:.1f}"
