"""Two processes on one machine's CPU (gloo), through the real command line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision

from farfield.errors import FarfieldError
from farfield.training.fsdp import FullySharded


def run(*arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "-m", "farfield", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def farfield(*arguments: object, launcher: tuple[str, ...] = ()) -> str:
    done = run(*arguments, launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert "sync_dist" not in done.stderr  # Lightning's, of figures that are one process's alone
    assert done.stderr.count("farfield: a step takes") == (arguments[0] == "fit")  # not once a process
    return done.stdout


def fit(
    figures: Path, run_dir: Path, devices: int, *more: str, launcher: tuple[str, ...] = (), strategy: str = "ddp"
) -> dict[str, str]:
    farfield(
        "fit",
        f"--run_dir={run_dir}",
        "--model.backbone=tiny",
        "--model.dropout=0",
        "--model.optimisation.freeze_batch_norm=true",  # PyTorch's sync BN runs on CUDA only
        "--model.optimisation.lr=0.01",
        f"--data.train={figures / 'train.csv'}",
        f"--data.val={figures / 'val.csv'}",
        f"--data.batch_size={4 // devices}",
        "--data.num_workers=0",
        "--model.clip.crop_px=24",
        "--model.clip.num_frames=4",
        "--trainer.max_epochs=2",
        "--trainer.accelerator=cpu",
        f"--trainer.strategy={strategy}",
        f"--trainer.devices={devices}",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        *more,
        launcher=launcher,
    )
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))[-1]


def must_have_the_same_weights(one: Path, two: Path) -> None:
    first, second = (torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (one, two))
    for name in (name for name in first if name.startswith("network.")):
        torch.testing.assert_close(second[name], first[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_two_processes_evaluate_every_video_once(figures: Path, tmp_path: Path) -> None:
    """Metrics equal those of one process, for an odd number of videos with an unreadable one."""
    lines = (figures / "val.csv").read_text().splitlines()
    odd = figures / "odd.csv"  # seven videos, one of them not there: the shares differ
    odd.write_text("\n".join([*lines[:8], lines[8].replace("val_", "missing_")]) + "\n")
    one = fit(figures, tmp_path / "one", 1, f"--data.val={odd}")
    two = fit(figures, tmp_path / "two", 2, f"--data.val={odd}")
    for name in ("val/top1", "val/loss", "val/mean_class_accuracy", "train/loss"):
        assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-3), name
    assert two["skipped_videos"] == one["skipped_videos"] == "1"  # whichever process came by it
    must_have_the_same_weights(tmp_path / "one", tmp_path / "two")

    reports = []
    for devices in (1, 2):
        checkpoint = tmp_path / "one/checkpoints/last.ckpt"
        out = farfield(
            "test", f"--checkpoint={checkpoint}", f"--data.manifest={odd}", f"--devices={devices}", "--json",
            "--accelerator=cpu", "--data.num_workers=0", "--num_clips=1", "--num_crops=1", f"--out={tmp_path / 'test'}",
        )  # fmt: skip
        reports.append(json.loads(out))
    assert reports[0]["videos"] == reports[1]["videos"] == 7
    assert reports[0]["top1"] == reports[1]["top1"]
    assert len(reports[1]["undecodable_videos"]) == 1


@pytest.mark.slow
def test_torchrun_trains_like_one_process(figures: Path, tmp_path: Path) -> None:
    """With the README's command, EMA, and a learning rate scaled by the clips in a step."""
    more = ("--model.optimisation.ema_decay=0.8", "--model.optimisation.lr_batch_size=8", "--report.every_n_epochs=0")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    one = fit(figures, tmp_path / "one", 1, *more)
    two = fit(figures, tmp_path / "two", 2, *more, launcher=launcher)
    for name in ("val/top1", "val/loss", "train/loss", "lr"):
        assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-3), name
    must_have_the_same_weights(tmp_path / "one", tmp_path / "two")


SHARDED = (
    "--model.insert={res3: [0]}",
    "--model.block_options={norm: false}",  # an inserted norm is not frozen
    "--model.optimisation.weight_decay=0.01",
    "--model.optimisation.schedule=steps",  # the same whatever the number of epochs
    "--model.optimisation.step_epochs=[5]",
    "--trainer.gradient_clip_val=0.5",
)


@pytest.mark.slow
def test_sharded_processes_train_like_one_process(figures: Path, tmp_path: Path) -> None:
    """With unequal numbers of validation batches, clipped gradients, and attention maps in the first process."""
    lines = (figures / "val.csv").read_text().splitlines()
    odd = figures / "five.csv"
    odd.write_text("\n".join(lines[:6]) + "\n")  # three batches in one process, two in the other
    more = (*SHARDED, f"--data.val={odd}", "--trainer.log_every_n_steps=1")
    one = fit(figures, tmp_path / "one", 1, *more)
    two = fit(
        figures,
        tmp_path / "two",
        2,
        *more,
        "--data.batch_size=1",
        "--trainer.accumulate_grad_batches=2",
        strategy="fsdp2",
    )
    for name in ("val/top1", "val/loss", "train/loss"):
        assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-3), name
    must_have_the_same_weights(tmp_path / "one", tmp_path / "two")
    norms = [list(csv.reader((tmp_path / run / "gradient_norms.csv").open(newline=""))) for run in ("one", "two")]
    assert norms[0][0] == norms[1][0]
    for ours, theirs in zip(norms[1][1:], norms[0][1:], strict=True):
        assert [float(x) for x in ours] == pytest.approx([float(x) for x in theirs], rel=1e-2, abs=1e-5)
    assert "What a position attends to" in (tmp_path / "two" / "report.html").read_text()


@pytest.mark.slow
def test_sharded_run_resumes_unsharded_and_the_reverse(figures: Path, tmp_path: Path) -> None:
    """Weights, norm statistics, and momenta of groups with and without decay are in the checkpoint."""
    more = (*SHARDED, "--model.optimisation.freeze_batch_norm=false")
    fit(figures, tmp_path / "unsharded", 2, *more)
    for first, then in (("fsdp2", "ddp"), ("ddp", "fsdp2")):
        run = tmp_path / f"{first}_{then}"
        fit(figures, run, 2, *more, "--trainer.max_epochs=1", strategy=first)
        fit(figures, run, 2, *more, "--resume=true", strategy=then)
        must_have_the_same_weights(tmp_path / "unsharded", run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--trainer.strategy=fsdp",), "Use fsdp2"),
        (("--trainer.strategy=fsdp2", "--model.optimisation.ema_decay=0.9"), "use --trainer.strategy ddp"),
    ],
)
def test_incompatible_sharding_options_are_refused(
    figures: Path, tmp_path: Path, more: tuple[str, ...], message: str
) -> None:
    done = run(
        "fit", f"--run_dir={tmp_path / 'run'}", "--model.backbone=tiny", f"--data.train={figures / 'train.csv'}",
        "--trainer.accelerator=cpu", "--trainer.devices=1", *more,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_sharding_refuses_16_mixed() -> None:
    strategy = FullySharded()
    strategy.precision_plugin = MixedPrecision("16-mixed", "cuda", torch.amp.GradScaler("cuda", enabled=False))
    with pytest.raises(FarfieldError, match="Use bf16-mixed or 32-true"):
        strategy.setup(Trainer(accelerator="cpu", logger=False))
