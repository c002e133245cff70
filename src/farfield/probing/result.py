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
    """The best configuration of one head, chosen on the validation videos.

    Attributes:
        name: which head.
        configuration: learning rate and weight decay.
        figures: its validation figures, by name, as those of `farfield fit`.
        test: its test; None without test videos.
    """

    name: HeadName
    configuration: Configuration
    figures: Mapping[str, float]
    test: EvaluationResult | None


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe.

    Attributes:
        checkpoint: the frozen network with the best head.
        head: the best head.
        heads: the best configuration of each head, by name.
        configurations: a row for each configuration: head, lr, weight_decay, steps that it was trained for, train/loss,
            figures, and whether it is the best of its head.
        monitor: validation figure that chose.
        curve: accuracy against videos per class, of the best head's configuration; empty without one.
        curve_on: "test" or "validation": the videos on which the curve is measured.
        num_videos: number of training, validation and test videos that could be read.
        failures: (path, reason) of every video that could not be read.
        seconds: time that features, heads and the curve took.
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
        """The best head."""
        return self.heads[self.head]

    @property
    def test(self) -> EvaluationResult | None:
        """The test of the best head; None without test videos."""
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
    """Return the name and the value, with its interval, of a test's main metric."""
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
