"""A run that is stopped at any point and resumed has the curve of an uninterrupted run."""

from __future__ import annotations

import csv
import math
import shutil
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from farfield.cli import main
from farfield.training.checkpointing import AtomicCheckpointIO
from training.run_copies import copy_option

pytestmark = pytest.mark.slow

EPOCHS = 2
BATCHES = 4  # 18 videos kept of 20, in batches of 5


class Stopped(Exception):
    pass


class StopAt(Callback):
    """Raise an exception in a hook at a step; Lightning writes no checkpoint on errors."""

    def __init__(self, hook: str, step: int) -> None:
        def stop(*_args: object, **_kwargs: object) -> None:
            if self.trainer.global_step == step:
                raise Stopped

        setattr(self, hook, stop)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.trainer = trainer


PLACES = (
    ("on_train_batch_start", 2),  # in the first epoch
    ("on_train_batch_start", 6),  # in the second, after batches that workers had prefetched
    ("on_train_batch_start", 4),  # first batch of an epoch
    ("on_validation_start", 4),  # after the last batch of an epoch, before its validation
    ("on_validation_batch_end", 4),  # between two batches of a validation
    ("on_validation_end", 4),  # after a validation, before the epoch's own checkpoint
    ("on_validation_end", 8),  # the same after the second validation, with a best.ckpt and a row of metrics.csv
    ("on_train_epoch_start", 4),  # between epochs
)


def name_of(hook: str, step: int) -> str:
    return f"{hook}_{step}"


def options(figures: Path, run_dir: Path, *, workers: int = 0) -> list[str]:
    return [
        f"--run_dir={run_dir}",
        "--model.backbone=tiny",
        "--model.backbone_options={depth: 1, width: 0.25}",
        "--model.insert={res3: [0]}",
        "--model.dropout=0.5",
        "--model.clip.crop_px=24",
        "--model.clip.num_frames=4",
        "--model.optimisation.lr=0.02",
        f"--data.train={figures / 'train.csv'}",
        f"--data.val={figures / 'val.csv'}",
        "--data.batch_size=5",
        f"--data.num_workers={workers}",
        "--checkpoint_every_n_steps=1",
        f"--trainer.max_epochs={EPOCHS}",
        "--trainer.log_every_n_steps=1",
        "--report.every_n_epochs=0",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
    ]


def losses(run_dir: Path, name: str = "steps.csv", column: str = "loss") -> list[float]:
    with (run_dir / name).open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for copies of the uninterrupted run's folder; tests resume copies of these."""
    return tmp_path_factory.mktemp("copies")


@pytest.fixture(scope="module")
def uninterrupted(
    figures: Path, copies: Path, tmp_path_factory: pytest.TempPathFactory, run_farfield: Callable[..., int]
) -> tuple[list[float], dict[str, list[float]]]:
    run_dir = tmp_path_factory.mktemp("whole")
    copy = copy_option(run_dir, copies, {name_of(*place): place for place in PLACES})
    assert run_farfield("fit", *options(figures, run_dir, workers=2), copy) == 0
    columns = ("epoch", "step", "lr", "train/loss", "train/top1", "val/loss", "val/top1", "val/mean_class_accuracy")
    return losses(run_dir), {column: losses(run_dir, "metrics.csv", column) for column in columns}


@pytest.mark.parametrize(("hook", "step"), PLACES)
def test_run_killed_in_a_hook_resumes_with_the_same_curve(
    hook: str,
    step: int,
    figures: Path,
    copies: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    uninterrupted: tuple[list[float], dict[str, list[float]]],
) -> None:
    """Two worker processes read ahead while the run is killed; resumed, it has them only in mid-epoch."""
    run_dir = shutil.copytree(copies / name_of(hook, step), tmp_path / "run")
    logged = losses(run_dir)
    assert len(logged) <= step <= EPOCHS * BATCHES
    workers = 2 if step % BATCHES else 0
    assert run_farfield("fit", *options(figures, run_dir, workers=workers), "--resume=true") == 0
    assert losses(run_dir) == pytest.approx(uninterrupted[0], rel=1e-4)
    for column, values in uninterrupted[1].items():
        assert losses(run_dir, "metrics.csv", column) == pytest.approx(values, rel=1e-4), column


def test_uninterrupted_run_logs_every_step(uninterrupted: tuple[list[float], dict[str, list[float]]]) -> None:
    steps, epochs = uninterrupted
    assert len(steps) == EPOCHS * BATCHES
    assert epochs["epoch"] == list(range(EPOCHS))
    assert len(set(steps)) == len(steps)


def command(words: list[str], errors: Path) -> None:
    """Run farfield in this process, a fork of the tests', and end it as `python -m farfield` does."""
    torch.set_num_threads(1)  # a fork has none of the threads that computed before
    sys.stderr = errors.open("w", buffering=1)
    sys.exit(main(words))


def start(words: list[str], errors: Path) -> Any:
    """Start farfield in another process, which has imported everything already."""
    process = get_context("fork").Process(target=command, args=(words, errors))
    process.start()
    return process


def wait_for(event: Callable[[], bool], process: Any) -> None:
    deadline = time.monotonic() + 120
    while not event():
        assert process.is_alive(), "the run ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Slow(Callback):
    """Sleep in each step, so that a run can be killed before it ends."""

    def on_train_batch_start(self, *_args: object) -> None:
        time.sleep(0.2)


def test_killed_run_resumes_with_the_same_curve(
    figures: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    uninterrupted: tuple[list[float], dict[str, list[float]]],
) -> None:
    arguments = ["fit", *options(figures, tmp_path / "run", workers=2)]
    slow = "--trainer.callbacks={class_path: training.test_resume.Slow}"
    process = start([*arguments, slow], tmp_path / "errors.txt")
    wait_for(lambda: (tmp_path / "run/steps.csv").is_file() and len(losses(tmp_path / "run")) >= 2, process)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(losses(tmp_path / "run")) < EPOCHS * BATCHES, "killed too late to show anything"
    assert run_farfield(*arguments, "--resume=true") == 0
    assert losses(tmp_path / "run") == pytest.approx(uninterrupted[0], rel=1e-4)


def test_sigterm_prints_how_to_resume(figures: Path, tmp_path: Path) -> None:
    """Schedulers send SIGTERM; the exit status is 143."""
    arguments = ["fit", *options(figures, tmp_path / "run"), "--trainer.max_epochs=200"]
    process = start(arguments, tmp_path / "errors.txt")
    wait_for((tmp_path / "run/checkpoints/last.ckpt").is_file, process)
    process.terminate()
    process.join(60)
    log = (tmp_path / "errors.txt").read_text()
    assert process.exitcode == 143, log
    assert "terminated; resume with the same command and --resume true" in log


def test_checkpoints_are_written_after_whole_steps_only(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    """With two batches a step; the resumed curve is the same."""
    more = ["--trainer.accumulate_grad_batches=2", "--data.batch_size=3", "--trainer.max_epochs=1", "--data.val=null"]
    copy = copy_option(tmp_path / "whole", tmp_path, {"stopped": ("on_train_batch_end", 2)})  # a step is 2 of 6 batches
    assert run_farfield("fit", *options(figures, tmp_path / "whole"), *more, copy) == 0
    assert len(losses(tmp_path / "stopped")) == 1
    assert run_farfield("fit", *options(figures, tmp_path / "stopped"), *more, "--resume=true") == 0
    assert losses(tmp_path / "stopped") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_random_augmentation_resumes_in_mid_epoch(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    """Several clips a video, balanced classes, RandAugment, erasing, MixUp and CutMix: stopped in mid-epoch."""
    more = ["--data.clips_per_video=2", "--data.class_balanced=true", "--data.batch_size=6", "--trainer.max_epochs=2"]
    settings = "{rand_augment: 2, erase: 0.5, mixup: 0.4, cutmix: 0.8, colour: 0.2, keep_direction: [bow]}"
    more += [f"--data.augmentation={settings}", "--data.val=null"]
    copy = copy_option(tmp_path / "whole", tmp_path, {"stopped": ("on_train_batch_start", 8)})
    assert run_farfield("fit", *options(figures, tmp_path / "whole", workers=2), *more, copy) == 0
    assert len(losses(tmp_path / "stopped")) == 8
    assert run_farfield("fit", *options(figures, tmp_path / "stopped", workers=2), *more, "--resume=true") == 0
    assert len(losses(tmp_path / "whole")) == 12  # 18 of 20 videos in batches of 3, twice
    assert losses(tmp_path / "stopped") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_checkpoint_write_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted write leaves the old file unchanged."""
    target = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, target)
    original = torch.save

    def interrupted(content: object, path: Path) -> None:
        original(content, path)
        path.write_bytes(path.read_bytes()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, target)
    assert torch.load(target, weights_only=True) == {"epoch": 1}


STEADY = ("--model.optimisation.schedule=steps", "--model.optimisation.step_epochs=[9]", "--trainer.max_epochs=1")


@pytest.fixture(scope="module")
def one_epoch(figures: Path, tmp_path_factory: pytest.TempPathFactory, run_farfield: Callable[..., int]) -> Path:
    run_dir = tmp_path_factory.mktemp("one_epoch")
    assert run_farfield("fit", *options(figures, run_dir), *STEADY) == 0
    return run_dir


def test_resume_uses_the_configs_optimiser_settings(
    one_epoch: Path,
    figures: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    run_dir = shutil.copytree(one_epoch, tmp_path / "run")
    changed = {"lr": 0.005, "momentum": 0.5, "weight_decay": 0.01}
    more = [f"--model.optimisation.{name}={value}" for name, value in changed.items()]
    assert (
        run_farfield("fit", *options(figures, run_dir), *STEADY, "--trainer.max_epochs=2", "--resume=true", *more) == 0
    )
    told = "resuming with changed settings: lr was 0.02, now 0.005; momentum was 0.9, now 0.5; weight_decay was 0.0001"
    assert told in capfd.readouterr().err
    assert losses(run_dir, column="lr") == pytest.approx([0.02] * BATCHES + [0.005] * BATCHES)
    content = torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)
    groups = content["optimizer_states"][0]["param_groups"]
    assert [(group["lr"], group["momentum"], group["weight_decay"]) for group in groups] == [
        (0.005, 0.5, 0.01),
        (0.005, 0.5, 0.0),
    ]
    assert content["lr_schedulers"][0]["base_lrs"] == [0.005, 0.005]


def test_resume_with_another_optimiser_is_refused(
    one_epoch: Path, figures: Path, run_farfield: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    config = (one_epoch / "config.yaml").read_text()
    more = ["--resume=true", "--model.optimisation.optimizer=adamw", "--model.optimisation.layer_decay=0.5"]
    assert run_farfield("fit", *options(figures, one_epoch), *STEADY, *more) == 2
    error = capfd.readouterr().err
    assert (
        "was trained with different settings: optimizer was sgd, now adamw; layer_decay was 1.0, now 0.5. The "
        "optimiser's state depends on optimizer, layer_decay: resume with the same values" in error
    )
    assert (one_epoch / "config.yaml").read_text() == config


def test_moved_run_keeps_its_best_checkpoint(
    one_epoch: Path, figures: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    """The best score is set to one that no epoch reaches."""
    run_dir = shutil.copytree(one_epoch, tmp_path / "moved")
    last, best = (run_dir / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    content = torch.load(last, weights_only=True)
    (state,) = [each for name, each in content["callbacks"].items() if "BestCheckpoint" in name]
    score = torch.tensor(1.5)
    state |= {"best_model_score": score, "kth_value": score, "best_k_models": {state["best_model_path"]: score}}
    torch.save(content, last)
    before = best.read_bytes()
    assert run_farfield("fit", *options(figures, run_dir), *STEADY, "--trainer.max_epochs=2", "--resume=true") == 0
    content = torch.load(last, weights_only=True)
    assert content["epoch"] == 1
    assert [each["best_model_score"] for name, each in content["callbacks"].items() if "BestCheckpoint" in name] == [
        1.5
    ]
    assert best.read_bytes() == before
    best.unlink()  # without it, there is nothing to beat
    assert run_farfield("fit", *options(figures, run_dir), *STEADY, "--trainer.max_epochs=3", "--resume=true") == 0
    assert torch.load(best, weights_only=True)["epoch"] == 2


def test_extending_an_ended_run_needs_a_choice(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    no_val = "--data.val=null"
    first = [*options(figures, tmp_path / "run"), no_val, "--trainer.max_epochs=1"]
    assert run_farfield("fit", *first) == 0
    config = (tmp_path / "run/config.yaml").read_text()
    more = [no_val, "--trainer.max_epochs=2", "--resume=true"]
    assert run_farfield("fit", *first, *more) == 2
    error = capfd.readouterr().err
    assert "the run was to end after epoch 1, and now ends after epoch 2. The schedule has ended at a learning" in error
    assert "schedule_length to 'extend': at step 4 the rate rises from 0 to" in error
    assert (tmp_path / "run/config.yaml").read_text() == config
    kept, extended = (shutil.copytree(tmp_path / "run", tmp_path / name) for name in ("kept", "extended"))
    how = "--model.optimisation.schedule_length"
    assert run_farfield("fit", *options(figures, kept), *more, f"{how}=keep") == 0
    assert "After step 4 the rate stays at 0, and nothing more is learned." in capfd.readouterr().err
    assert losses(kept, column="lr")[4:] == [0.0] * 4
    before, after = (
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (tmp_path / "run", kept)
    )
    assert torch.equal(before["network.head.fc.weight"], after["network.head.fc.weight"])
    assert run_farfield("fit", *options(figures, extended), *more, f"{how}=extend") == 0
    assert "at step 4, where the run continues, the learning rate changes from 0 to 0.01." in capfd.readouterr().err
    half = [0.01 * (1 + math.cos(math.pi * step / 8)) for step in range(4, 8)]  # the second half of a cosine of 8 steps
    assert losses(extended, column="lr")[4:] == pytest.approx(half)
    assert run_farfield("fit", *options(figures, extended), *more, f"{how}=extend") == 0  # now it is its own schedule
    assert "the run was to end" not in capfd.readouterr().err


def test_extending_a_stopped_run_keeps_its_schedule(
    figures: Path,
    copies: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    uninterrupted: tuple[list[float], dict[str, list[float]]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    run_dir = shutil.copytree(copies / name_of("on_train_batch_start", 6), tmp_path / "run")
    arguments = [*options(figures, run_dir), "--data.val=null", "--resume=true", "--trainer.max_epochs=3"]
    assert run_farfield("fit", *arguments) == 0
    now, longer = (0.01 * (1 + math.cos(math.pi * 6 / steps)) for steps in (8, 12))
    error = capfd.readouterr().err
    assert "the run was to end after epoch 2, and now ends after epoch 3. The schedule is kept" in error
    extended = f"if --model.optimisation.schedule_length were 'extend', it would be {longer:.4g}."
    assert f"the learning rate is {now:.4g}; {extended}" in error
    assert losses(run_dir)[:8] == pytest.approx(uninterrupted[0], rel=1e-4)
    assert losses(run_dir, column="lr")[8:] == [0.0] * 4
