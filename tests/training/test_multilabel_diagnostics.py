"""What a run of a multilabel network reports: tables, plots, captions and curves."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.metrics import average_precision_score, precision_score

from evaluation.test_resampling import scored
from farfield.data.manifest import read_manifest, write_manifest
from farfield.training.multilabel_diagnostics import MultilabelDiagnostics
from farfield.training.run_folder import RunFiles, plot_curves
from training.test_fit import arguments

LABELS = ["bow", "climb", "dive", "jump", "run"]
TEXTS = ["bow", "", "bow|run", "run"]
TARGETS = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 1, 0], [1, 1, 1, 1, 1]]).float()
PROBABILITIES = torch.tensor(
    [[0.9, 0.7, 0.1, 0.2, 0.3], [0.2, 0.1, 0.44, 0.3, 0.1], [0.1, 0.8, 0.3, 0.6, 0.5], [0.2, 0.2, 0.2, 0.2, 0.2]]
)


def test_tables_are_scikit_learns() -> None:
    scores, targets = scored("ties")
    targets[:, 1] = False
    found = MultilabelDiagnostics(scores, targets.float(), LABELS)
    table = found.class_table()
    assert table.columns == ["class", "videos", "average precision", "precision at 0.5", "recall at 0.5"]
    assert [row[2] for row in table.rows] == sorted(row[2] for row in table.rows)
    assert {row[0] for row in table.rows} == {"bow", "dive", "jump", "run"}
    for name, videos, precision, at_half, _ in table.rows:
        c = LABELS.index(name)
        column = targets[:, c].numpy(), scores[:, c].numpy()
        assert videos == targets[:, c].sum()
        assert precision == pytest.approx(average_precision_score(*column), abs=1e-4)
        assert at_half == pytest.approx(precision_score(column[0], column[1] >= 0.5), abs=1e-4)
    rows = {row[0]: row[1:] for row in found.validation_table().rows}
    value = sum(row[2] for row in table.rows) / 4
    assert float(rows["mAP"][0].removesuffix("%")) == pytest.approx(100 * value, abs=0.02)
    low, high = map(float, rows["mAP"][1].split(" to "))
    assert low < 100 * value < high
    assert rows["videos without a class"][0] == f"{100 * (~targets.any(1)).float().mean():.2f}%"


def test_captions_have_every_label() -> None:
    found = MultilabelDiagnostics(PROBABILITIES, TARGETS, LABELS)
    assert found.caption(0) == "bow, climb, predicted as bow (90%), climb (70%)"
    assert found.caption(1) == "no class, predicted as no class (most probable: dive, 44%)"
    assert found.caption(2) == "bow, jump, predicted as climb (80%), jump (60%), run (50%)"


def test_most_confidently_wrong_are_the_most_probable_classes_that_a_video_lacks() -> None:
    found = MultilabelDiagnostics(PROBABILITIES, TARGETS, LABELS)
    wanted = [
        (2, "bow, jump, but climb has 80%"),
        (1, "no class, but dive has 44%"),
        (0, "bow, climb, but run has 30%"),
    ]
    assert found.most_confidently_wrong(2) == wanted[:2]
    assert found.most_confidently_wrong(7) == wanted  # the last video lacks no class


@pytest.mark.parametrize("targets", [torch.zeros(4, 5), torch.ones(4, 5)])
def test_a_validation_without_or_with_positives_only_has_a_report(targets: torch.Tensor) -> None:
    found = MultilabelDiagnostics(PROBABILITIES, targets, LABELS)
    assert found.validation_table().rows[0][1] == ("100.00%" if targets.any() else "-")
    assert set(found.plots()) == {"precision_recall", "roc", "reliability"}
    assert len(found.class_table().rows) == (5 if targets.any() else 0)


@pytest.mark.parametrize(
    ("figures", "label", "lines"),
    [
        (
            {"train/top1": "0.5", "val/top1": "0.4", "val/map": "0.3"},
            "accuracy",
            ["training top-1", "validation top-1"],
        ),
        ({"val/map": "0.3"}, "mean average precision", ["validation"]),
        ({}, "accuracy", []),
    ],
)
def test_curves_show_what_the_task_has(tmp_path: Path, figures: dict[str, str], label: str, lines: list[str]) -> None:
    row = {"epoch": "0", "train/loss": "2.5", **figures}
    cells = ",".join(row.get(name, "") for name in RunFiles.EPOCH_COLUMNS)
    (tmp_path / "metrics.csv").write_text(",".join(RunFiles.EPOCH_COLUMNS) + f"\n{cells}\n")
    axes = plot_curves(tmp_path / "metrics.csv").axes[1]
    assert axes.get_ylabel() == label
    assert [line.get_label() for line in axes.lines] == lines
    assert (axes.get_legend() is None) == (not lines)


@pytest.mark.slow
def test_a_run_has_a_report_of_its_task(figures: Path, tmp_path: Path, run_farfield: Callable[..., int]) -> None:
    for name in ("train", "val"):
        rows = [replace(row, label=TEXTS[i % 4]) for i, row in enumerate(read_manifest(figures / f"{name}.csv"))]
        write_manifest(tmp_path / f"{name}.csv", rows)
    run_dir = tmp_path / "run"
    words = [word for word in arguments(tmp_path, run_dir) if not word.startswith("--report")]
    assert run_farfield(*words, f"--data.root={figures}", "--model.task=multilabel", "--report.num_clips=2") == 0
    page = (run_dir / "report.html").read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    plots = ["Curves", "Classes, hardest first", "Precision and recall", "ROC", "Reliability", "Most confidently wrong"]
    assert headings[:6] == plots
    assert "<td>mAP</td>" in page
    assert len(re.findall(r"<figcaption>(?:no class|bow|run|bow, run), (?:but|predicted as) ", page)) == 4
    assert not (run_dir / "confusion_matrix.png").exists()
