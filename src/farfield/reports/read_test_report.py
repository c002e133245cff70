"""Find, read and check the test report that a model card quotes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farfield.errors import FarfieldError, damage
from farfield.models.network import ActionNet
from farfield.task import DEFAULT_TASK
from farfield.untrusted_json import parse_json

log = logging.getLogger("farfield")

METRICS = {"top1": "top-1", "top5": "top-5", "mean_class_accuracy": "mean class accuracy"}
"""Metrics of a single-label network: from the key in report.json to the name that reports show."""
MULTILABEL_METRICS = {
    "mean_average_precision": "mAP",
    "micro_average_precision": "micro average precision",
    "sample_average_precision": "sample-wise mAP",
    "exact_match": "videos with exactly the right classes",
}
"""Metrics of a multilabel network, as in `METRICS`. Their values and interval bounds may be None (undefined)."""
MULTI_HEAD_METRICS = {"top1": "top-1 of all heads together", "top5": "top-5 of all heads together"}
"""Metrics of a multi_head network, as in `METRICS`."""


def metrics_of(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the metrics of a report's task, as a dict from the metric's key in report.json to its display name."""
    return {"multilabel": MULTILABEL_METRICS, "multi_head": MULTI_HEAD_METRICS}.get(str(_task(report)), METRICS)


def _task(report: Mapping[str, Any]) -> object:
    return report.get("task", DEFAULT_TASK)  # reports of single-label networks do not name it


def find_report(checkpoint: str | Path, weights: str) -> Path | None:
    """Find the test report in a checkpoint's run folder, <run>/test/report.json.

    A report that cannot be read is logged and ignored, because the user did not name it.

    Args:
        checkpoint: path of the checkpoint.
        weights: the checkpoint's `network_hash`.

    Returns:
        The path of the report; None if the report is missing, cannot be read, or is of a network with other weights.
    """
    folder = Path(checkpoint).absolute().parent
    run = folder.parent if folder.name == "checkpoints" else folder
    path = run / "test" / "report.json"
    if not path.is_file():
        return None
    try:
        return path if read_report(path).get("weights") == weights else None
    except FarfieldError as error:
        log.warning("the test report beside the checkpoint is ignored: %s", error)
        return None


def read_report(path: str | Path) -> dict[str, Any]:
    """Read a report.json that `farfield test` wrote.

    Raises:
        FarfieldError: if the file is missing, or is not a test report.
    """
    path = Path(path)
    if not path.is_file():
        raise FarfieldError(
            f"there is no test report at {path}. Give a report of `farfield test`, such as <run>/test/report.json."
        )
    try:
        content = parse_json(path.read_bytes())
        multilabel = _task(content) == "multilabel"
        for name in metrics_of(content):
            for value in (content[name][bound] for bound in ("value", "low", "high")):
                if value is not None or not multilabel:
                    float(value)
        int(content["videos"])
        [each["label"] for each in content.get("classes", [])]
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise FarfieldError(
            f"{path} is not a report of `farfield test`: {damage(error)}. Give the report.json that the test wrote."
        ) from error
    return content


def check_report(report: dict[str, Any], network: ActionNet, path: str | Path, weights: str) -> None:
    """Check that a test report belongs to a network and its weights.

    Args:
        report: content of report.json.
        network: network to publish.
        path: path of the report, for messages.
        weights: the checkpoint's `network_hash`.

    Raises:
        FarfieldError: if backbone, blocks, task, classes or weights differ.
    """
    ours = {
        "weights": weights,
        "backbone": network.config["backbone"],
        "inserted": network.config["insert"],
        "task": network.task,
        "classes": list(network.labels),
    }
    theirs = {
        "weights": report.get("weights"),
        "backbone": report.get("backbone"),
        "inserted": report.get("inserted"),
        "task": _task(report),
        "classes": [each.get("label") for each in report.get("classes", [])],
    }
    if "scored_among" in report:  # the report lists only some of the classes
        del ours["classes"]
    for name, value in ours.items():
        if theirs[name] != value:
            raise FarfieldError(
                f"{path} is the report of another network: {name} = {_shortened(theirs[name])} in the report, but "
                f"{_shortened(value)} in the checkpoint. Test the checkpoint with `farfield test`, or leave --report "
                "out."
            )


def _shortened(value: object) -> str:
    text = str(value)
    return text if len(text) < 80 else text[:77] + "..."
