"""The experiment with probes, shrunk: three groups, one head, and a network from nothing."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import experiment_probe
import pytest

from farfield.build import build_model
from farfield.checkpoints.checkpoint import save_model
from farfield.data.manifest import read_manifest, write_manifest
from scripts.conftest import run_commands_here

pytestmark = pytest.mark.slow

CLIP = {"num_frames": 4, "crop_px": 24, "num_clips": 1, "num_crops": 1}


def test_groups_are_left_out_one_by_one(
    figures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiment_probe, "run_commands", run_commands_here)
    manifest = read_manifest(figures / "train.csv")
    rows = [
        replace(row, path=str(manifest.path(i)), group="abc"[i % 3])
        for i, row in enumerate(manifest)
        if row.label in ("bow", "clap", "jump", "wave") or i < 12
    ]
    write_manifest(tmp_path / "clips.csv", rows)
    save_model(build_model("tiny", labels=manifest.labels, clip=CLIP), tmp_path / "weights.ckpt")  # type: ignore[arg-type]
    (tmp_path / "scratch.yaml").write_text(
        "run_dir: x\nmodel:\n  backbone: tiny\n  clip: {num_frames: 4, crop_px: 24, num_clips: 1, num_crops: 1}\n"
        "trainer: {max_epochs: 1, accelerator: cpu}\ndata: {num_workers: 0}\nreport: {every_n_epochs: 0}\n"
    )
    words = ["experiment_probe.py", str(tmp_path / "clips.csv"), "--out", str(tmp_path / "out"), "--heads", "linear"]
    words += ["--from_nothing", str(tmp_path / "scratch.yaml"), "--", "--model.backbone=tiny"]
    words += [f"--model.weights={tmp_path / 'weights.ckpt'}", "--data.num_workers=0", "--probe.train_views=1"]
    words += ["--probe.min_steps=2", "--probe.epochs=1", "--trainer.accelerator=cpu"]
    monkeypatch.setattr(sys, "argv", words)
    assert experiment_probe.main() == 0
    found = json.loads((tmp_path / "out" / "heads.json").read_text())
    assert list(found) == ["linear", "from nothing"]
    assert [each["videos"] for each in found.values()] == [len(rows)] * 2
    assert all(len(each["folds"]) == 3 for each in found.values())
    trained, chose, tested = (
        {record.group for record in read_manifest(tmp_path / "out" / "manifests" / "c" / f"{split}.csv")}
        for split in ("train", "val", "test")
    )
    assert (trained, chose, tested) == ({"b"}, {"a"}, {"c"})
    assert len(list((tmp_path / "out" / "features").glob("training_*"))) == 1  # shared by the folds
    assert "3 folds" in capsys.readouterr().out
    monkeypatch.setattr(experiment_probe, "run_commands", None)  # nothing is computed again
    assert experiment_probe.main() == 0


def test_too_few_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clips.csv").write_text("path,label,group\na.mp4,run,1\nb.mp4,walk,2\n")
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path / "clips.csv"), "--out", str(tmp_path / "out")])
    assert experiment_probe.main() == 2
    assert "has 2 groups; 3 at least are needed" in capsys.readouterr().err
