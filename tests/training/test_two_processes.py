"""Two processes on one machine's CPU (gloo), through the real command line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch


def farfield(*arguments: object, launcher: tuple[str, ...] = ()) -> str:
    command = [sys.executable, *launcher, "-m", "farfield", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fit(figures: Path, run_dir: Path, devices: int, *more: str, launcher: tuple[str, ...] = ()) -> dict[str, str]:
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
        "--trainer.strategy=ddp",
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
    """The validation of ten videos counts ten, and a test's report is that of one process."""
    lines = (figures / "val.csv").read_text().splitlines()
    odd = figures / "odd.csv"  # seven videos, one of them not there: the shares differ
    odd.write_text("\n".join([*lines[:8], lines[8].replace("val_", "missing_")]) + "\n")
    one = fit(figures, tmp_path / "one", 1, f"--data.val={odd}")
    two = fit(figures, tmp_path / "two", 2, f"--data.val={odd}")
    for name in ("val/top1", "val/loss", "val/mean_class_accuracy", "train/loss"):
        assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-3), name
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
def test_torchrun_trains_as_one_process_does(figures: Path, tmp_path: Path) -> None:
    """The README's line, with averaged weights and a learning rate that follows the clips in a step."""
    more = ("--model.optimisation.ema_decay=0.8", "--model.optimisation.lr_batch_size=8", "--report.every_n_epochs=0")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    one = fit(figures, tmp_path / "one", 1, *more)
    two = fit(figures, tmp_path / "two", 2, *more, launcher=launcher)
    for name in ("val/top1", "val/loss", "train/loss", "lr"):
        assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-3), name
    must_have_the_same_weights(tmp_path / "one", tmp_path / "two")
