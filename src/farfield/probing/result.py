"""The result of a probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from farfield.evaluation.metrics import Estimate
from farfield.evaluation.result import EvaluationResult
from farfield.probing.curve import CurvePoint
from farfield.probing.options import Configuration, HeadName


@dataclass(frozen=True)
class HeadResult:
    """Result of one head, with its best configuration, which was chosen on the validation videos.

    Attributes:
        name: kind of head: "linear", "attentive" or "non_local".
        configuration: best learning rate and weight decay.
        figures: validation metrics of the head, by name. The names are those that `farfield fit` uses.
        test: result of the head on the test videos; None without test videos.
    """

    name: HeadName
    configuration: Configuration
    figures: Mapping[str, float]
    test: EvaluationResult | None


@dataclass(frozen=True)
class ProbeResult:
    """Trained heads, metrics and checkpoint of a probe.

    Attributes:
        checkpoint: file with the frozen network and the best head.
        head: kind of the best head.
        heads: result of each head, by the head's name.
        configurations: a row for each configuration of each head, with these entries:
            - head, lr, weight_decay;
            - steps: number of training steps;
            - coarse_maps: whether the configuration was trained only in the search by successive halving, see
              `farfield.probing.halving`. The row's loss and metrics are then those on coarse feature maps, see
              `FeatureSet.coarse`;
            - train/loss, and each validation metric by its name;
            - best: whether this is the best configuration of its head.
        monitor: name of the validation metric by which the best head was chosen.
        curve: accuracy against training videos per class, for the best head and configuration; empty if not measured.
        curve_on: "test" or "validation": the videos on which the curve is measured.
        num_videos: number of videos that could be read, for "training", "validation" and "test".
        failures: (path, reason) of every video that could not be read.
        seconds: duration of each step: computing "features", training "heads", and measuring the "curve".
    """

    checkpoint: Path
    head: HeadName
    heads: Mapping[HeadName, HeadResult]
    configurations: Sequence[Mapping[str, Any]]
    monitor: str
    curve: Sequence[CurvePoint]
    curve_on: str
    num_videos: Mapping[str, int]
    failures: Sequence[tuple[str, str]]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def best(self) -> HeadResult:
        """Result of the best head."""
        return self.heads[self.head]

    @property
    def test(self) -> EvaluationResult | None:
        """Result of the best head on the test videos; None without test videos."""
        return self.best.test

    def to_dict(self) -> dict[str, Any]:
        """Return the content of probe.json, as plain types."""
        return {
            "checkpoint": str(self.checkpoint),
            "head": self.head,
            "monitor": self.monitor,
            "heads": {name: _head_content(each) for name, each in self.heads.items()},
            "configurations": [dict(each) for each in self.configurations],
            "curve": [asdict(each) | {"mean": each.mean} for each in self.curve],
            "curve_on": self.curve_on,
            "num_videos": dict(self.num_videos),
            "failures": [{"path": path, "reason": reason} for path, reason in self.failures],
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }


def headline(test: EvaluationResult) -> tuple[str, Estimate]:
    """Return the name of the main metric in a test result, and the metric's value with its confidence interval."""
    if test.task == "multilabel":
        return "mean average precision", test.multilabel_metrics().mean_average_precision
    if test.task == "multi_head":
        return "top-1 of combinations", test.joint_metrics().top1
    return "top-1", test.metrics().top1


def _head_content(head: HeadResult) -> dict[str, Any]:
    content: dict[str, Any] = {**head.configuration._asdict(), "figures": dict(head.figures)}
    if head.test is not None:
        name, estimate = headline(head.test)
        content["test"] = {
            "metric": name,
            **asdict(estimate),
            "confidence": 0.95,
            "videos": len(head.test.scores.paths),
        }
    return content
