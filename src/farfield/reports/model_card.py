"""Model card of a published folder: the network, how to use it, its accuracy, and the command that measured it.

The card states only what the checkpoint and its test report contain. It does not name a licence.
"""

from __future__ import annotations

import json
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

from farfield.checkpoints.hub_folder import CONFIG, LABELS, WEIGHTS
from farfield.clip_spec import ClipSpec
from farfield.models.network import ActionNet
from farfield.models.operating_point import DEFAULT_THRESHOLD, class_thresholds
from farfield.models.summary import summarise
from farfield.reports.read_test_report import metrics_of
from farfield.reports.rendering import fenced_line, render
from farfield.task import split_heads


def model_card(
    network: ActionNet,
    name: str,
    *,
    data: dict[str, Any] | None = None,
    report: dict[str, Any] | None = None,
) -> str:
    """Render a network's model card as Markdown with YAML front matter, the format that model hubs read.

    Args:
        network: network to publish.
        name: name of the published folder.
        data: description of the training data, as stored in the checkpoint: {"train": {"manifest": ..., "hash": ...,
            ...}}; None for a card that does not describe the training data.
        report: content of the test's report.json; None for a card without accuracy.
    """
    clip = network.clip
    name_on_a_line = str(fenced_line(name))
    card = render(
        "model_card.md.j2",
        name=name,
        name_in_shell=shlex.quote(name_on_a_line),
        name_in_python=json.dumps(name_on_a_line, ensure_ascii=False),
        version=version("farfield"),
        labels=network.labels,
        config=network.config,
        clip=clip,
        pixels=f"{clip.test_side_px} x {clip.test_side_px} pixels, RGB",
        costs=summarise(network),
        files={"weights": WEIGHTS, "config": CONFIG, "labels": LABELS},
        train=_training_data(data),
        metrics=metrics_of(report or {}),
        multilabel=network.task == "multilabel",
        heads=split_heads(network.labels) if network.task == "multi_head" else None,
        thresholds=_chosen_thresholds(network),
        point=network.operating_point,
        timeline_point=network.timeline_operating_point,
        default_threshold=DEFAULT_THRESHOLD,
        model_index=_model_index(name, report),
        report=report,
        **_test_settings(report or {}, clip),
    )
    return card.encode("utf-8", errors="replace").decode()  # bytes of file names that are not UTF-8 become "?"


def _training_data(data: dict[str, Any] | None) -> dict[str, Any] | None:
    train = (data or {}).get("train")
    if not isinstance(train, dict):
        return None
    return {
        "videos": train.get("videos"),
        "classes": train.get("classes"),
        "manifest": Path(str(train.get("manifest"))).name,
        "hash": train.get("hash"),
    }


def _model_index(name: str, report: dict[str, Any] | None) -> list[dict[str, Any]] | None:
    """Build the entry model-index of the front matter, which lists the test's metrics for model hubs.

    Return None if there is no test report, or if the test scored only some of the classes.
    """
    if report is None or "scored_among" in report:  # among some of the classes, accuracy is higher
        return None
    metrics = [
        {"type": _metric_type(key), "name": shown, "value": round(100 * report[key]["value"], 2)}
        for key, shown in metrics_of(report).items()
        if report[key]["value"] is not None
    ]
    result = {
        "task": {"type": "video-classification"},
        "dataset": {"type": "video", "name": Path(str(report.get("manifest", "videos"))).name},
        "metrics": metrics,
    }
    return [{"name": name, "results": [result]}]


def _metric_type(key: str) -> str:
    """Return the type that model hubs give to a metric, such as "accuracy", for its key in report.json."""
    if key.endswith("average_precision"):
        return key if key == "mean_average_precision" else "average_precision"
    return "accuracy"


def _chosen_thresholds(network: ActionNet) -> list[tuple[str, float | None]]:
    """Return (class, threshold) pairs of a multilabel network.

    The list is empty for other networks, and if no thresholds were chosen.
    """
    point = network.operating_point
    if network.task != "multilabel" or point is None:
        return []
    return list(zip(network.labels, class_thresholds(network.labels, point, network.task), strict=True))


def _test_settings(report: dict[str, Any], clip: ClipSpec) -> dict[str, Any]:
    return {
        "num_clips": report.get("num_clips"),
        "num_crops": report.get("num_crops"),
        "manifest_hash": report.get("manifest_hash"),
        "scored_among": report.get("scored_among"),
        "command": _test_command(report, clip),
    }


def _test_command(report: dict[str, Any], clip: ClipSpec) -> str:
    """Rebuild the command of a test from its report, on one line.

    --checkpoint, --data.manifest, --num_clips and --num_crops are always included. Other options are included only if
    they differ from their defaults; the default of --views_aggregation is the method in `clip`, the network's clip
    settings.
    """
    words = ["farfield", "test", "--checkpoint", report.get("checkpoint"), "--data.manifest", report.get("manifest")]
    words += ["--data.root", report["root"]] if "root" in report else []
    words += ["--data.whole_videos", "true"] if report.get("whole_videos") else []
    words += ["--num_clips", report.get("num_clips"), "--num_crops", report.get("num_crops")]
    aggregation = report.get("views_aggregation", "mean")
    words += ["--views_aggregation", aggregation] if aggregation != clip.views_aggregation else []
    words += ["--precision", report["precision"]] if report.get("precision", "32-true") != "32-true" else []
    words += ["--restrict_labels"] if "scored_among" in report else []
    words += ["--calibrate_on", report["calibrated_on"]] if "calibrated_on" in report else []
    return " ".join(shlex.quote(fenced_line(word)) for word in words)  # quoted last: fenced_line makes quotes
