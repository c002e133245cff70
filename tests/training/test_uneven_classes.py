"""Training on classes of uneven size as a user runs it: class weights, focal loss and the monitored metric."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from torchmetrics.functional.classification import multiclass_accuracy

from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.training.config import make_run
from farfield.training.loss import LossSettings
from farfield.training.train import train_run

HINT = "classes are uneven: '1' has 16 training videos, '0' has 4. best.ckpt is chosen by val/top1"


@pytest.fixture(scope="module")
def uneven(figures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifests of *figures* with 4 training videos of class "0" and 16 of class "1"; 4 and 6 for validation."""
    folder = tmp_path_factory.mktemp("uneven")
    for split, small in (("train", 4), ("val", 4)):
        manifest = read_manifest(figures / f"{split}.csv")
        rows = [VideoRecord(str(manifest.path(i)), "0" if i < small else "1") for i in range(len(manifest))]
        write_manifest(folder / f"{split}.csv", rows)
    return folder


def arguments(data: Path, run_dir: Path, *more: str) -> list[str]:
    return [
        f"--run_dir={run_dir}",
        "--model.backbone=tiny",
        "--model.clip={num_frames: 4, crop_px: 24}",
        f"--data.train={data / 'train.csv'}",
        f"--data.val={data / 'val.csv'}",
        "--data.num_workers=0",
        "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--report.every_n_epochs=0",
        *more,
    ]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Figures(Callback):
    """Replace the validation metrics of each epoch by given ones, before the callbacks that read them."""

    def __init__(self, top1: list[float], mean_class_accuracy: list[float], loss: list[float]) -> None:
        self.values = {"val/top1": top1, "val/mean_class_accuracy": mean_class_accuracy, "val/loss": loss}

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        for name, values in self.values.items():
            trainer.callback_metrics[name].fill_(values[trainer.current_epoch])


def given(**values: list[float]) -> list[str]:
    """Return options that give the metrics of each epoch, which has one batch: its own metrics do not count."""
    callback = f"--trainer.callbacks={{class_path: training.test_uneven_classes.Figures, init_args: {values}}}"
    return [callback, "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        ("{class_weights: inverse}", [2.5, 0.625]),
        ("{class_weights: effective, effective_beta: 0}", [1.0, 1.0]),
        ("{class_weights: {0: 6}, focal_gamma: 2}", [3.0, 0.5]),
    ],
)
def test_the_config_sets_the_weights(
    loss: str, weights: list[float], uneven: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "farfield")
    mixed = ["--data.augmentation.mixup=0.4", "--model.optimisation.label_smoothing=0.1"]
    run = make_run(arguments(uneven, tmp_path, f"--model.loss={loss}", "--trainer.limit_train_batches=1", *mixed))
    torch.testing.assert_close(run.model.class_weights, torch.tensor(weights))
    result = train_run(run)
    assert result.steps == 1
    assert 0 < result.metrics["train/loss"] < 10
    told = f"class weights of the loss: 1 {weights[1]:.3g} (16 of 20 videos), 0 {weights[0]:.3g} (4 of 20 videos)"
    assert caplog.messages.count(told) == 1, caplog.messages
    assert any(message.startswith(HINT) for message in caplog.messages)
    assert result.last_checkpoint is not None
    content = torch.load(result.last_checkpoint, weights_only=True)
    assert not [key for key in content["state_dict"] if "class_weights" in key]  # earlier checkpoints have no such key
    assert content["farfield"]["loss"]["class_weights"] == run.model.loss.class_weights
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert LossSettings(**config["model"]["loss"]) == run.model.loss


@pytest.mark.slow
def test_weights_and_focus_change_the_loss_but_not_val_loss(uneven: Path, tmp_path: Path) -> None:
    """The first step's loss is of the same clips and weights; a learning rate of 1e-30 keeps the weights."""
    options = ["--model.optimisation.lr=1e-30", "--data.batch_size=20", "--model.dropout=0"]
    first, val = {}, {}
    for name, loss in (("plain", "{}"), ("weights", "{class_weights: {0: 6}}"), ("focal", "{focal_gamma: 1}")):
        train_run(make_run(arguments(uneven, tmp_path / name, *options, f"--model.loss={loss}")))
        first[name] = float(rows(tmp_path / name / "steps.csv")[0]["loss"])
        val[name] = float(rows(tmp_path / name / "metrics.csv")[0]["val/loss"])
    assert len(set(first.values())) == 3, first
    assert first["focal"] < first["plain"]
    assert val["weights"] == val["focal"] == pytest.approx(val["plain"], rel=1e-6)


@pytest.mark.slow
def test_mean_class_accuracy_is_torchmetrics_macro_accuracy(uneven: Path, tmp_path: Path) -> None:
    run = make_run(arguments(uneven, tmp_path, "--data.batch_size=4"))
    result = train_run(run)
    _, targets, probabilities = (torch.cat(parts) for parts in zip(*run.model.val_scores, strict=True))
    expected = multiclass_accuracy(probabilities, targets, num_classes=2, average="macro")
    assert result.metrics["val/mean_class_accuracy"] == pytest.approx(float(expected))
    assert float(rows(tmp_path / "metrics.csv")[0]["val/mean_class_accuracy"]) == pytest.approx(float(expected), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("monitor", "epoch", "value"),
    [(None, 3, 0.75), ("val/top1", 3, 0.75), ("val/mean_class_accuracy", 2, 0.625), ("val/loss", 1, 0.5)],
)
def test_monitor_chooses_the_best_checkpoint(
    monitor: str | None, epoch: int, value: float, uneven: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "farfield")
    figures = given(top1=[0.5, 0.25, 0.75], mean_class_accuracy=[0.5, 0.625, 0.25], loss=[0.5, 1.0, 0.75])
    more = [] if monitor is None else [f"--monitor={monitor}"]
    result = train_run(make_run(arguments(uneven, tmp_path, "--trainer.max_epochs=3", *figures, *more)))
    name = monitor or "val/top1"
    assert (result.best_epoch, result.monitor, result.best_value) == (epoch, name, value)
    assert result.best_top1 == (value if name == "val/top1" else None)
    assert any(message.startswith(HINT) for message in caplog.messages) == (name == "val/top1")


@pytest.mark.slow
def test_monitor_stops_early(uneven: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "farfield")
    figures = given(top1=[0.5] * 4, mean_class_accuracy=[0.5, 0.625, 0.25, 0.25], loss=[4.0, 3.0, 2.0, 1.0])
    more = ["--monitor=val/mean_class_accuracy", "--model.optimisation.early_stopping_epochs=1"]
    result = train_run(make_run(arguments(uneven, tmp_path, "--trainer.max_epochs=4", *figures, *more)))
    assert result.epochs == 3
    assert "stopped early, after epoch 3: val/mean_class_accuracy did not rise above 0.625" in caplog.text


@pytest.mark.slow
def test_resumed_run_may_change_monitor_and_loss(
    uneven: Path, tmp_path: Path, run_farfield: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    figures = given(top1=[0.75, 0.5, 0.5], mean_class_accuracy=[0.5, 0.25, 0.125], loss=[1.0] * 3)
    run_dir = tmp_path / "run"
    options = [*arguments(uneven, run_dir, *figures), "--model.optimisation.schedule_length=extend"]
    stop = "--model.optimisation.early_stopping_epochs=5"
    assert run_farfield("fit", *options, stop) == 0
    assert f"best checkpoint: {run_dir / 'checkpoints/best.ckpt'}, of epoch 1, with val/top1 75.0%" in (
        capfd.readouterr().err
    )
    same = shutil.copytree(run_dir, tmp_path / "same")
    more = ["--trainer.max_epochs=2", "--resume=true", "--monitor=val/mean_class_accuracy"]
    assert run_farfield("fit", *options, *more, "--model.loss.class_weights=inverse") == 0
    error = capfd.readouterr().err
    assert "best.ckpt was chosen by val/top1, but monitor is now val/mean_class_accuracy: the next" in error
    assert "resuming with changed settings: early_stopping_epochs was 5, now None; class_weights was None, now" in error
    assert "best.ckpt, of epoch 2, with val/mean_class_accuracy 25.0%" in error
    assert "callbacks used to create the checkpoint" not in error
    options[0] = f"--run_dir={same}"
    assert run_farfield("fit", *options, stop, "--trainer.max_epochs=2", "--resume=true", "--monitor=val/top1") == 0
    error = capfd.readouterr().err
    assert "best.ckpt, of epoch 1, with val/top1 75.0%" in error
    assert "but monitor is now" not in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model.loss.class_weights={2: 3}"],
            "loss.class_weights has a weight for '2', which is not a class. Known: 0, 1.",
        ),
        (["--model.loss.class_weights=effective", "--model.loss.effective_beta=1"], "loss.effective_beta is 1"),
        (
            ["--model.loss.class_weights=inverse", "--data.class_balanced=true"],
            "data.class_balanced and loss.class_weights are both set",
        ),
        (["--monitor=val/loss", "--data.val=null"], "monitor is val/loss, which needs validation data"),
        (["--monitor=val/top5"], "monitor"),
    ],
)
def test_impossible_options_leave_no_folder(
    options: list[str],
    message: str,
    uneven: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run_farfield("fit", *arguments(uneven, tmp_path / "run"), *options) == 2
    assert message in capfd.readouterr().err
    assert not (tmp_path / "run").exists()
