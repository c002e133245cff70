"""Training on several labels a video, or none, as a user runs it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn import functional as F

from farfield.checkpoints.checkpoint import load_network
from farfield.errors import FarfieldError
from farfield.evaluation.multilabel_calibration import pair_calibration
from farfield.synthetic.synthesize import synthesize
from farfield.training.config import make_run
from farfield.training.monitor import best_monitor
from farfield.training.train import train_run
from farfield.training.validation_metrics import multilabel_figures, single_label_figures


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crowd")
    synthesize("crowd", folder, num_train=12, num_val=8, num_test=5, num_workers=0)
    return folder


@pytest.fixture
def arguments(crowd: Path, tmp_path: Path) -> Callable[..., list[str]]:
    def make(*more: str) -> list[str]:
        return [
            f"--run_dir={tmp_path / 'run'}",
            "--model.task=multilabel",
            "--model.backbone=tiny",
            "--model.clip={num_frames: 4, crop_px: 24}",
            f"--data.train={crowd / 'train.csv'}",
            f"--data.val={crowd / 'val.csv'}",
            "--data.num_workers=0",
            "--data.batch_size=4",
            "--trainer.max_epochs=1",
            "--trainer.accelerator=cpu",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
            "--report.every_n_epochs=0",
            *more,
        ]

    return make


@pytest.mark.slow
def test_a_run_is_validated_by_mean_average_precision(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    run = make_run(arguments("--model.loss.pos_weight=balanced", "--data.augmentation={mixup: 0.8}"))
    train_run(run)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    rows, labels, probabilities = (torch.cat(parts) for parts in zip(*run.model.val_scores, strict=True))
    wanted = run.datamodule.val_manifest.target_matrix(run.datamodule.labels)[rows]
    assert np.array_equal(labels.numpy(), wanted)
    present = wanted.any(0)
    expected = np.mean([average_precision_score(wanted[:, c], probabilities[:, c]) for c in np.flatnonzero(present)])
    assert float(row["val/map"]) == pytest.approx(expected, abs=1e-5)
    assert float(row["val/loss"]) == pytest.approx(float(F.binary_cross_entropy(probabilities, labels)), rel=1e-5)
    assert (row["val/top1"], row["train/top1"]) == ("", "")
    network = load_network(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert (network.task, network.labels) == ("multilabel", run.datamodule.labels)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--monitor=val/top1"], r"monitor is 'val/top1', which is not a metric of task 'multilabel'"),
        (
            ["--model.loss.class_weights=inverse"],
            r"loss.class_weights is for networks of task 'single_label'.* loss.pos_weight",
        ),
        (
            ["--model.loss.pos_weight=balanced", "--data.whole_videos=true"],
            r"loss.pos_weight is 'balanced', which counts positive videos. With data.whole_videos",
        ),
        (["--model.task=single_label"], r"but a single-label network needs exactly one class"),
    ],
)
def test_settings_of_the_other_task_are_refused(
    arguments: Callable[..., list[str]], more: list[str], message: str
) -> None:
    with pytest.raises(FarfieldError, match=message):
        make_run(arguments(*more))


def test_the_metric_that_chooses_the_best_epoch() -> None:
    assert best_monitor(None, "single_label") == "val/top1"
    assert best_monitor(None, "multilabel") == "val/map"
    assert best_monitor("val/loss", "multilabel") == "val/loss"
    assert best_monitor("val/map", "single_label") == "val/map"


def test_figures_of_a_single_label_validation() -> None:
    probabilities = torch.randn(40, 7).softmax(1)
    targets = torch.randint(5, (40,))  # classes 5 and 6 have no video
    figures, metrics = single_label_figures(probabilities, targets)
    is_class = F.one_hot(targets, 7).numpy()
    expected = np.mean([average_precision_score(is_class[:, c], probabilities[:, c]) for c in range(5)])
    assert figures["val/map"] == pytest.approx(expected, abs=1e-5)
    assert figures["val/top1"] == pytest.approx(float((probabilities.argmax(1) == targets).float().mean()))
    assert figures["val/loss"] == pytest.approx(float(F.nll_loss(probabilities.log(), targets)))
    assert int(metrics.confusion.sum()) == 40


def test_the_loss_of_a_certain_and_wrong_answer_is_bounded_as_in_a_test() -> None:
    probabilities, targets = torch.tensor([[18.0, -30.0]]).sigmoid(), torch.zeros(1, 2)
    expected = pair_calibration(probabilities, targets.bool()).negative_log_likelihood
    assert multilabel_figures(probabilities, targets)["val/loss"] == pytest.approx(expected, rel=1e-6)


def test_probabilities_that_are_not_numbers_give_the_worst_figures() -> None:
    probabilities = torch.full((4, 2), torch.nan)
    assert multilabel_figures(probabilities, torch.ones(4, 2)) == {"val/map": 0, "val/loss": float("inf")}
    figures, _ = single_label_figures(probabilities, torch.tensor([0, 1, 0, 1]))
    assert (figures["val/map"], figures["val/loss"]) == (0, float("inf"))
