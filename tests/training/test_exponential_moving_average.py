"""The EMA of the weights is validated and saved, and does not influence training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from farfield.checkpoints.checkpoint import load_network
from farfield.layers import SubBatchNorm3d
from training.run_copies import Place, copy_option
from training.test_fit import arguments
from training.test_resume import Stopped, losses

pytestmark = pytest.mark.slow

DECAY = 0.7
BATCHES, EPOCHS = 4, 2


class Recorder(Callback):
    """Record the network after each step, and in each hook of a validation."""

    steps: list[dict[str, Tensor]]
    validated: list[list[dict[str, Tensor]]]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Recorder.steps, Recorder.validated = [], []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_args: Any) -> None:
        Recorder.steps.append(state_of(pl_module))

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_args: Any) -> None:
        Recorder.validated.append([state_of(pl_module)])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Recorder.validated[-1].append(state_of(pl_module))


def state_of(module: LightningModule) -> dict[str, Tensor]:
    network: Any = module.network
    return {key: value.clone() for key, value in network.state_dict().items()}


def run(figures: Path, run_dir: Path, run_farfield: Callable[..., int], *more: str) -> int:
    options = ["--data.batch_size=5", f"--trainer.max_epochs={EPOCHS}", "--model.optimisation.lr=0.05"]
    options += ["--checkpoint_every_n_steps=1", "--trainer.limit_val_batches=1"]
    options += ["--model.backbone_options={width: 0.25}", *more]
    return run_farfield(*arguments(figures, run_dir, *options))


AVERAGED = f"--model.optimisation.ema_decay={DECAY}"
PLACES: dict[str, Place] = {"mid-epoch": ("on_train_batch_start", 6), "validated": ("on_validation_end", 4)}


@pytest.fixture(scope="module")
def averaged(figures: Path, tmp_path_factory: pytest.TempPathFactory, run_farfield: Callable[..., int]) -> Path:
    """Return the folder of a run; beside it are copies of what it was at `PLACES`."""
    folder = tmp_path_factory.mktemp("averaged")
    run_dir = folder / "whole"
    record = "--trainer.callbacks+={class_path: training.test_exponential_moving_average.Recorder}"
    assert run(figures, run_dir, run_farfield, AVERAGED, copy_option(run_dir, folder, PLACES), record) == 0
    return run_dir


class Statistics(Callback):
    """Record whether a validation uses the statistics of all parts of a batch."""

    differ: list[float]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Statistics.differ = []

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_args: Any) -> None:
        for norm in pl_module.modules():
            if isinstance(norm, SubBatchNorm3d):
                parts: Any = norm.split_bn.running_mean
                Statistics.differ.append(float((norm.bn.running_mean - parts.view(2, -1).mean(0)).abs().max()))


@pytest.mark.slow
def test_averaged_statistics_of_parts_are_joined(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    options = [AVERAGED, "--model.optimisation.sub_batch_norm_splits=2", "--data.batch_size=4"]
    options.append("--trainer.callbacks+={class_path: training.test_exponential_moving_average.Statistics}")
    assert run(figures, tmp_path / "run", run_farfield, *options) == 0
    assert len(Statistics.differ) > 10
    assert max(Statistics.differ) < 1e-6


def average(steps: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Average in float64: the first weights, then DECAY times the average plus (1 - DECAY) times the new weights."""
    kept = {key: value.double() for key, value in steps[0].items() if value.is_floating_point()}
    for step in steps[1:]:
        for key in kept:
            kept[key] = DECAY * kept[key] + (1 - DECAY) * step[key].double()
    return kept


def assert_is(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for key, value in expected.items():
        torch.testing.assert_close(found[key].double(), value, rtol=1e-5, atol=1e-6, msg=key)


def saved(run_dir: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(run_dir / f"checkpoints/{name}.ckpt", weights_only=True)


def test_checkpoint_has_the_average_over_steps(averaged: Path) -> None:
    assert len(Recorder.steps) == EPOCHS * BATCHES
    expected = average(Recorder.steps)
    content = saved(averaged)["state_dict"]
    assert_is({key: content[f"network.{key}"] for key in expected}, expected)
    last = Recorder.steps[-1]["head.fc.weight"].double()
    assert (last - expected["head.fc.weight"]).abs().max() > 1e-3  # which the last weights are not
    assert_is(load_network(averaged / "checkpoints/last.ckpt").state_dict(), expected)


def test_checkpoint_has_the_trained_weights_too(averaged: Path) -> None:
    current = saved(averaged)["current_model_state"]
    assert all(torch.equal(current[f"network.{key}"], value) for key, value in Recorder.steps[-1].items())


def test_whole_validation_uses_the_average(averaged: Path) -> None:
    assert len(Recorder.validated) == EPOCHS
    for epoch, seen in enumerate(Recorder.validated):
        expected = average(Recorder.steps[: (epoch + 1) * BATCHES])
        for each in seen:
            assert_is(each, expected)


def test_training_is_unchanged(averaged: Path, figures: Path, tmp_path: Path, run_farfield: Callable[..., int]) -> None:
    assert run(figures, tmp_path, run_farfield) == 0
    assert (tmp_path / "steps.csv").read_text() == (averaged / "steps.csv").read_text()
    assert len(losses(tmp_path)) == EPOCHS * BATCHES
    for column in ("train/loss", "train/top1"):
        assert losses(tmp_path, "metrics.csv", column) == losses(averaged, "metrics.csv", column)
    assert losses(tmp_path, "metrics.csv", "val/loss") != losses(averaged, "metrics.csv", "val/loss")


@pytest.mark.parametrize("place", PLACES)
def test_resumed_run_ends_in_the_same_checkpoint(
    place: str, averaged: Path, figures: Path, run_farfield: Callable[..., int]
) -> None:
    run_dir = averaged.parent / place
    assert run(figures, run_dir, run_farfield, AVERAGED, "--resume=true") == 0
    assert (run_dir / "steps.csv").read_text() == (averaged / "steps.csv").read_text()
    for column in ("train/loss", "train/top1", "val/loss", "val/top1"):
        expected = losses(averaged, "metrics.csv", column)
        assert losses(run_dir, "metrics.csv", column) == pytest.approx(expected, rel=1e-5), column
    resumed, whole = saved(run_dir), saved(averaged)
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert list(resumed[part]) == list(whole[part])
        differing = [key for key, value in whole[part].items() if not torch.equal(resumed[part][key], value)]
        assert differing == [], part


def test_resume_between_accumulated_batches_updates_the_average_once_a_step(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    """Without the callback's state, the first batch after the resume, which is half a step, would update it again."""
    more = (AVERAGED, "--trainer.accumulate_grad_batches=2", "--data.batch_size=3")
    more += ("--trainer.max_epochs=1", "--data.val=null")
    assert run(figures, tmp_path / "whole", run_farfield, *more) == 0
    stop = "--trainer.callbacks=[{class_path: training.test_resume.StopAt, "
    stop += "init_args: {hook: on_train_batch_start, step: 2}}]"
    with pytest.raises(Stopped):
        run(figures, tmp_path / "stopped", run_farfield, *more, stop)
    assert run(figures, tmp_path / "stopped", run_farfield, *more, "--resume=true") == 0
    resumed, whole = saved(tmp_path / "stopped"), saved(tmp_path / "whole")
    differing = [
        key for key, value in whole["state_dict"].items() if not torch.equal(resumed["state_dict"][key], value)
    ]
    assert differing == []


@pytest.mark.parametrize("decay", [0, 1, 1.5])
def test_decay_outside_zero_to_one_is_refused(
    decay: float, figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_farfield(*arguments(figures, tmp_path, f"--model.optimisation.ema_decay={decay}")) == 2
    expected = f"ema_decay is {float(decay)}; it must be between 0 and 1, for example 0.999."
    assert expected in capsys.readouterr().err
