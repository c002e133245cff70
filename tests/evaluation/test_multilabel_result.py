"""EvaluationResult and the report of a multilabel test, against scikit-learn and torchmetrics."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    label_ranking_average_precision_score,
    precision_score,
    recall_score,
    roc_auc_score,
)
from torch import Tensor
from torchmetrics.functional.classification import multilabel_exact_match

from evaluation.test_resampling import KINDS, scored
from farfield.errors import FarfieldError
from farfield.evaluation.result import EvaluationResult
from farfield.evaluation.scores_file import Scores, read_scores
from farfield.evaluation.test_report import write_report
from farfield.models.operating_point import OperatingPoint

LABELS = ["bow", "climb_wall", "<dive>", "jump", "run"]


def result_of(scores: Tensor, targets: Tensor, **options: object) -> EvaluationResult:
    views = scores[:, None] if scores.ndim == 2 else scores
    labels = LABELS[: views.shape[2]]
    paths = [f"{i}.mp4" for i in range(len(views))]
    kept = {name: options.pop(name) for name in ("segments", "views_aggregation") if name in options}
    return EvaluationResult(Scores(labels, paths, targets, views, task="multilabel", **kept), [], **options)


@pytest.mark.parametrize("kind", [*KINDS, "no positives of a class", "one class"])
def test_metrics_are_scikit_learns(kind: str) -> None:
    scores, targets = scored(kind)
    if kind == "no positives of a class":
        targets[:, 3] = False
    if kind == "one class":
        scores, targets = scores[:, :1], targets[:, :1]
    result = result_of(scores, targets)
    found, true, given = result.multilabel_metrics(), targets.numpy(), scores.numpy()
    with_positives = [c for c in range(true.shape[1]) if true[:, c].any()]
    per_class = [average_precision_score(true[:, c], given[:, c]) for c in with_positives]
    assert found.mean_average_precision.value == pytest.approx(np.mean(per_class), abs=1e-6)
    micro = average_precision_score(true.ravel(), given.ravel())
    assert found.micro_average_precision.value == pytest.approx(micro, abs=1e-6)
    if kind != "one class":  # scikit-learn takes one column for labels of several classes
        some = true.any(1)
        wanted = label_ranking_average_precision_score(true[some], given[some])
        assert found.sample_average_precision.value == pytest.approx(wanted, abs=1e-6)
        both = [c for c in with_positives if not true[:, c].all()]
        areas = [roc_auc_score(true[:, c], given[:, c]) for c in both]
        assert result.ranking_metrics().roc_auc.macro.value == pytest.approx(np.mean(areas), abs=1e-6)
    decided = given >= 0.5
    assert found.exact_match.value == pytest.approx(accuracy_score(true, decided), abs=1e-6)
    if kind != "one class":
        theirs = multilabel_exact_match(torch.from_numpy(decided).long(), targets.long(), num_labels=5)
        assert found.exact_match.value == pytest.approx(theirs.item(), abs=1e-6)
    assert found.share_without_class == pytest.approx((~true.any(1)).mean())
    assert found.share_without_decision == pytest.approx((~decided.any(1)).mean())
    for ours, metric in zip(
        result.decision_metrics().by_name.values(), (precision_score, recall_score, f1_score), strict=True
    ):
        wanted = metric(true[:, with_positives], decided[:, with_positives], average="macro", zero_division=np.nan)
        if kind != "one class":
            assert ours.macro.value == pytest.approx(wanted, abs=1e-6)


def test_a_score_at_the_threshold_counts_and_thresholds_are_the_chosen_ones() -> None:
    point = OperatingPoint("f1", {"bow": 0.2, LABELS[1]: None, "<dive>": 0.9, "jump": 0.5, "run": 0.4}, 7)
    scores = torch.tensor([[0.2, 0.5, 0.89, 0.49, 0.9], [0.1, 0.4, 0.9, 0.5, 0.3]], dtype=torch.float64)
    targets = torch.zeros(2, 5, dtype=torch.bool)
    chosen = result_of(scores, targets, operating_point=point)
    assert chosen.thresholds() == [0.2, 0.5, 0.9, 0.5, 0.4]
    assert chosen.scores.probabilities.dtype == torch.float32
    exact = torch.tensor(chosen.thresholds()) <= chosen.scores.probabilities
    assert torch.equal(chosen.decisions()[:, [0, 1, 3, 4]], exact[:, [0, 1, 3, 4]])
    assert result_of(scores, targets).decisions().tolist() == [
        [False, True, True, False, True],
        [False, False, True, True, False],
    ]


def test_views_are_aggregated_as_the_scores_say() -> None:
    views = torch.rand(7, 3, 5)
    targets = torch.rand(7, 5) < 0.5
    assert torch.equal(result_of(views, targets, views_aggregation="max").scores.probabilities, views.amax(1))
    torch.testing.assert_close(result_of(views, targets).scores.probabilities, views.mean(1))


def test_methods_of_the_other_task_name_their_counterpart() -> None:
    scores, targets = scored("random")
    result = result_of(scores, targets)
    for name, other in (
        ("metrics", "multilabel_metrics"),
        ("classes", r"decision_metrics\(\) and ranking_metrics"),
        ("calibrations", "pair_calibrations"),
        ("accuracy_by_views", "precision_by_views"),
    ):
        message = rf"^{name}\(\) is for 'single_label' tasks, but .* task is 'multilabel'\. Call {other}\(\)\."
        with pytest.raises(FarfieldError, match=message):
            getattr(result, name)()
    single = EvaluationResult(replace(result.scores, task="single_label", targets=torch.zeros(53).long()), [])
    for name, other in (
        ("multilabel_metrics", "metrics"),
        ("pair_calibrations", "calibrations"),
        ("precision_by_views", "accuracy_by_views"),
    ):
        message = rf"^{name}\(\) is for 'multilabel' tasks, .* task is 'single_label'\. Call {other}\(\)\."
        with pytest.raises(FarfieldError, match=message):
            getattr(single, name)()


@pytest.mark.slow
def test_the_report_has_what_the_task_has(tmp_path: Path) -> None:
    targets = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 1, 0], [0, 1, 0, 0, 0]]).bool()
    views = torch.tensor(
        [[0.9, 0.75, 0.1, 0.2, 0.3], [0.2, 0.1, 0.4, 0.3, 0.1], [0.1, 0.2, 0.3, 0.6, 0.5], [0.8, 0.7, 0.1, 0.2, 0.3]]
    )
    segments = torch.tensor([[0, 2.5], [torch.nan, torch.nan], [1, 2], [2, 3]]).double()
    point = OperatingPoint(
        "f1", dict.fromkeys(LABELS, 0.5) | {"<dive>": None, "jump": 0.55}, 7, dict.fromkeys(LABELS, 4)
    )
    result = result_of(
        torch.stack([views, views / 2], 1),
        targets,
        segments=segments,
        views_aggregation="max",
        temperature=2.0,
        operating_point=point,
        about={"checkpoint": "best.ckpt", "num_clips": 2},
    )
    content = write_report(result, tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report == content
    for name in ("top1", "top5", "mean_class_accuracy", "most_confused", "top1_by_views"):
        assert name not in report
    assert report["task"] == "multilabel"
    assert report["views_aggregation"] == "max"
    assert report["classes"][2] == {"label": "<dive>", "videos": 0}
    assert report["share_without_class"] == report["share_without_decision"] == 0.25
    assert report["exact_match"]["value"] == 0.5
    assert report["class_metrics"]["per_class"][2]["threshold"] == 0.5
    assert report["class_metrics"]["per_class"][3]["threshold"] == 0.55
    assert report["operating_point"] == {**point.to_dict(), "without_threshold": ["<dive>"]}
    assert set(report["calibration"]) == {"temperature", "as_trained", "with_temperature"}
    assert [each["views"] for each in report["mean_average_precision_by_views"]] == [1, 2]
    pictures = {"precision_recall.png", "roc.png", "reliability.png", "views.png"}
    others = {"report.json", "report.md", "predictions.csv", "per_class.csv", "scores.npz"}
    assert {each.name for each in tmp_path.iterdir()} == pictures | others
    kept = read_scores(tmp_path / "scores.npz")
    assert (kept.task, kept.views_aggregation) == ("multilabel", "max")
    assert torch.equal(kept.targets, targets)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [f"bow|{LABELS[1]}", "", "bow|jump", LABELS[1]]
    assert [row["predicted"] for row in rows] == [f"bow|{LABELS[1]}", "", "jump|run", f"bow|{LABELS[1]}"]
    assert rows[0]["probability"] == "|".join(
        f"{(p / (1 - p)) ** 0.5 / (1 + (p / (1 - p)) ** 0.5):.6f}" for p in (0.9, 0.75)
    )
    assert (rows[1]["probability"], rows[1]["probability_of_label"]) == ("", "")
    assert len(rows[2]["probability_of_label"].split("|")) == 2
    assert (rows[0]["start_seconds"], rows[0]["end_seconds"], rows[1]["end_seconds"]) == ("0", "2.5", "")
    with (tmp_path / "per_class.csv").open(newline="") as file:
        classes = list(csv.DictReader(file))
    assert [each["threshold"] for each in classes] == ["0.5", "0.5", "0.5", "0.55", "0.5"]
    assert [each["average_precision"] for each in classes][2:] == ["", "1.000000", ""]
    text = (tmp_path / "report.md").read_text()
    for part in (
        "| mAP | ",
        "videos without a class: 25.00%",
        "chosen by the rule `f1` on 7",
        "Number of validation videos that reached each threshold: bow 4, climb",
        "| bow | 2 |",
    ):
        assert part in text
    assert "left out of the macro averages: &#60;dive&#62;, run." in text
    assert "confusion" not in text


@pytest.mark.parametrize("positives", [False, True])
def test_a_test_without_or_with_positives_only_is_reported(positives: bool, tmp_path: Path) -> None:
    """No video has a class, or every video has all: what is not defined is null."""
    scores, targets = torch.rand(7, 5), torch.full((7, 5), positives)
    report = write_report(result_of(scores, targets), tmp_path)
    metric = report["mean_average_precision"]
    if positives:
        assert metric["value"] == 1
        assert report["class_metrics"]["macro"]["roc_auc"]["value"] is None
    else:
        assert metric == {"value": None, "low": None, "high": None}
        assert "| mAP | - |" in (tmp_path / "report.md").read_text()
    assert report["share_without_class"] == (0 if positives else 1)
    from farfield.reports.read_test_report import read_report

    assert read_report(tmp_path / "report.json") == report


def test_nan_is_named() -> None:
    scores = torch.rand(3, 5)
    scores[1, 2] = torch.nan
    with pytest.raises(FarfieldError, match=r"the network's scores of 1\.mp4 are not numbers"):
        result_of(scores, torch.ones(3, 5, dtype=torch.bool)).to_dict()
