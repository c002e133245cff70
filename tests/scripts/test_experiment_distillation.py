"""The experiment on distillation, scaled down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import experiment_distillation as experiment
import pytest

from farfield.data.manifest import read_manifest


def test_labelled_and_unlabelled_videos_are_all_videos(figures: Path, tmp_path: Path) -> None:
    manifest = read_manifest(figures / "train.csv")
    labelled, unlabelled = experiment.split_labels(figures / "train.csv", tmp_path, 1, seed=3)
    assert unlabelled is not None
    chosen = read_manifest(labelled)
    assert sorted(record.label for record in chosen) == manifest.labels
    paths = unlabelled.read_text().split()
    assert paths[0] == "path"
    assert sorted([*paths[1:], *(record.path for record in chosen)]) == sorted(record.path for record in manifest)
    again, _ = experiment.split_labels(figures / "train.csv", tmp_path / "other", 1, seed=4)
    assert again.read_text() != labelled.read_text()
    assert experiment.split_labels(figures / "train.csv", tmp_path, 2, seed=3)[1] is None


def test_means_and_paired_gains() -> None:
    found = experiment.summary({"labels": [0.5, 0.7], "teacher": [0.9, 0.8]})
    assert found["gain"] == {"runs": [40.0, 10.0], "mean": 25.0, "sd": 21.21}
    assert found["labels"] == {"runs": [50.0, 70.0], "mean": 60.0, "sd": 14.14}
    assert "gain" not in experiment.summary({"labels": [0.5, 0.7], "teacher": [0.9]})
    text = experiment.table({"teacher": 99.5, "students": {"5": found}})
    assert text.splitlines()[0] == "teacher: 99.5% top-1"
    assert text.splitlines()[-1].split() == ["5", "60.0", "+-", "14.1", "-", "85.0", "+-", "7.1", "25.0", "+-", "21.2"]


@pytest.mark.slow
@pytest.mark.usefixtures("runs_here")
def test_an_experiment_runs(
    copy_figures: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(experiment, "synthesize", copy_figures)
    monkeypatch.setattr(experiment, "VIDEOS", {"num_train": 20, "num_val": 10, "num_test": 10})
    monkeypatch.setattr(experiment, "BATCH", 10)
    for name, crop_px in (("TEACHER", 32), ("STUDENT", 24)):
        clip = {"num_frames": 4, "crop_px": crop_px, "num_clips": 1, "num_crops": 1}
        monkeypatch.setattr(experiment, name, getattr(experiment, name) | {"model.clip": clip})
    monkeypatch.setattr(experiment, "OPTIONS", experiment.OPTIONS | {"data.batch_size": 10})
    experiment.main(["--out", str(tmp_path), "--videos", "1", "--seeds", "0", "--epochs", "1"])
    result = json.loads((tmp_path / "distillation.json").read_text())
    assert result["students"]["1"].keys() == {"labels", "teacher_labelled", "teacher", "gain"}
    assert capsys.readouterr().out.startswith("teacher: ")
    steps = [
        (tmp_path / "1_a_class/seed0" / arm / "metrics.csv").read_text().splitlines()[-1].split(",")[1]
        for arm in ("labels", "teacher")
    ]
    assert steps == ["2", "2"]
