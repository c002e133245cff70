"""Each private or untyped part of Lightning that farfield uses still works. A failure names the function to adapt."""

from __future__ import annotations

import importlib
import os
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities import rank_zero
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.utils.data import DataLoader

from farfield import lightning_compat

BATCHES = 7
ACCUMULATED = 3


class Regression(LightningModule):
    """A linear layer that fits a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Data(LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.ones(2 * BATCHES, 3), batch_size=2)  # type: ignore[arg-type]


class Recorder(Callback):
    """Record `processed_batches` when training starts and after each batch."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.counts.append(lightning_compat.processed_batches(trainer))

    def on_train_batch_end(self, trainer: Trainer, *_args: Any) -> None:
        self.counts.append(lightning_compat.processed_batches(trainer))


def trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        accumulate_grad_batches=ACCUMULATED,
        callbacks=list(callbacks),
        **options,
    )


def test_processed_batches_counts_batches_and_survives_a_resume(tmp_path: Path) -> None:
    first = Recorder()
    run = trainer(tmp_path, first, max_epochs=1)
    run.fit(Regression(), datamodule=Data())
    assert first.counts[0] == 0
    assert first.counts[-1] - first.counts[0] in (BATCHES - 1, BATCHES)  # the last may be counted after this hook
    assert lightning_compat.processed_batches(run) == BATCHES
    run.save_checkpoint(tmp_path / "last.ckpt")
    second = Recorder()
    run = trainer(tmp_path, second, max_epochs=2)
    run.fit(Regression(), datamodule=Data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert second.counts[0] == BATCHES
    assert lightning_compat.processed_batches(run) == 2 * BATCHES


def test_data_module_is_the_one_given_to_fit(tmp_path: Path) -> None:
    data = Data()
    run = trainer(tmp_path, max_steps=1)
    assert lightning_compat.data_module(run) is None
    run.fit(Regression(), datamodule=data)
    assert lightning_compat.data_module(run) is data


def test_log_every_n_steps_is_the_trainers(tmp_path: Path) -> None:
    assert lightning_compat.log_every_n_steps(trainer(tmp_path, log_every_n_steps=13)) == 13


def exit_with_rank(environment: dict[str, str]) -> None:
    """End this process with its rank as the exit status, which Lightning reads from the environment when imported."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        os.environ.pop(name, None)
    os.environ.update(environment)
    del rank_zero.rank_zero_only.rank  # type: ignore[attr-defined]
    importlib.reload(rank_zero)
    sys.exit(lightning_compat.process_rank())


@pytest.mark.parametrize(("environment", "rank"), [({"RANK": "3"}, 3), ({"SLURM_PROCID": "5"}, 5), ({}, 0)])
def test_process_rank_is_known_before_a_trainer_exists(environment: dict[str, str], rank: int) -> None:
    process = get_context("fork").Process(target=exit_with_rank, args=(environment,))
    process.start()
    process.join(100)
    assert process.exitcode == rank


@pytest.mark.parametrize("sync", [True, False])
def test_synchronize_batch_norm_follows_the_trainers_setting(tmp_path: Path, sync: bool) -> None:
    strategy = trainer(tmp_path, devices=2, strategy=ModelParallelStrategy(), sync_batchnorm=sync).strategy
    network = lightning_compat.synchronize_batch_norm(strategy, nn.Sequential(nn.BatchNorm3d(5)))
    assert isinstance(network[0], nn.SyncBatchNorm) == sync


def test_set_mesh_sizes_equals_the_constructors_sizes() -> None:
    strategy = ModelParallelStrategy()
    expected = ModelParallelStrategy(data_parallel_size=3, tensor_parallel_size=5)
    lightning_compat.set_mesh_sizes(strategy, data_parallel=3, tensor_parallel=5)
    numbers = [{name: v for name, v in vars(each).items() if type(v) is int} for each in (strategy, expected)]
    assert numbers[0] == numbers[1]
    assert set(vars(strategy)) == set(vars(expected))


def test_relocate_best_keeps_the_best_score_in_a_moved_folder(tmp_path: Path) -> None:
    state: dict[str, Any] = {}

    class Save(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            state.update(best.state_dict())

    class Score(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            pl_module.log("score", 0.25)

    best = ModelCheckpoint(dirpath=tmp_path / "old", filename="best", monitor="score", mode="max")
    run = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=1,
        callbacks=[Score(), best, Save()],
    )  # fmt: skip
    run.fit(Regression(), datamodule=Data())
    assert (tmp_path / "old/best.ckpt").is_file()
    assert lightning_compat.best_score(state) == 0.25
    assert lightning_compat.monitored_metric(state) == "score"
    moved = ModelCheckpoint(dirpath=tmp_path / "new", filename="best", monitor="score", mode="max")
    assert lightning_compat.best_score(moved.state_dict()) is None
    checkpoint = (tmp_path / "old").rename(tmp_path / "new") / "best.ckpt"
    moved.load_state_dict(lightning_compat.relocate_best(state, checkpoint))
    assert moved.best_model_score == 0.25
    assert moved.best_model_path == str(checkpoint)
    assert moved.best_k_models == {str(checkpoint): torch.tensor(0.25)}
    assert set(moved.state_dict()) == set(state)
