"""Checks of the videos of a probe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farfield.clip_spec import ClipSpec
from farfield.data.datamodule import VideoDataModule
from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.probing.checks import check_probe, check_readable
from farfield.probing.options import ProbeSettings
from farfield.probing.training_set import FeatureSet
from farfield.task import Task


def module(
    folder: Path, root: Path, sets: dict[str, list[VideoRecord]], task: Task = "single_label"
) -> VideoDataModule:
    for name, rows in sets.items():
        write_manifest(folder / f"{name}.csv", rows)
    clip = ClipSpec(num_frames=4, crop_px=24)
    return VideoDataModule(str(folder / "train.csv"), str(folder / "val.csv"), root=str(root), clip=clip, task=task)


def test_videos_of_two_sets_are_named(figures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also other segments of them that overlap, and other spellings of their paths."""
    train, test = (list(read_manifest(figures / f"{name}.csv")) for name in ("train", "test"))
    path = str(figures / "videos" / ".." / train[0].path)
    first, overlapping, later = (
        replace(train[0], path=path, start_seconds=start, end_seconds=start + 0.8) for start in (0.0, 0.7, 0.8)
    )
    sets = {"train": [*train[1:], first], "val": [*test[:9], later], "test": [*test, overlapping]}
    data = module(tmp_path, figures, sets)
    assert check_probe(data, ProbeSettings(test=str(tmp_path / "test.csv"))) is not None
    found = [record.getMessage() for record in caplog.records if " shares videos with " in record.getMessage()]
    assert len(found) == 2  # the later segment of data.val does not overlap the first
    assert found[0].startswith(
        "probe.test shares videos with data.train, on which heads are trained. The shared videos are 1 of the 11 "
        f"videos of probe.test, such as {figures / train[0].path}. "
    )
    assert found[1].startswith(
        "probe.test shares videos with data.val, on which the head is chosen. The shared videos are 10 of the 11 "
        "videos of probe.test, such as "
    )


def some_labelled(figures: Path) -> list[VideoRecord]:
    """Two videos of the class bow, and two of none."""
    rows = list(read_manifest(figures / "train.csv"))[:4]
    return [replace(row, label="bow" if number % 2 else "") for number, row in enumerate(rows)]


def test_a_multilabel_test_needs_labels(figures: Path, tmp_path: Path) -> None:
    rows = some_labelled(figures)
    data = module(tmp_path, figures, {"train": rows, "val": rows, "test": [rows[0], rows[2]]}, "multilabel")
    with pytest.raises(FarfieldError, match=r"test\.csv has no label in any row, so mean average precision cannot"):
        check_probe(data, ProbeSettings(test=str(tmp_path / "test.csv")))


def features(targets: torch.Tensor) -> FeatureSet:
    nothing: Any = None
    return FeatureSet(nothing, targets, targets, 1, list(range(len(targets))), 0, torch.device("cpu"))


def test_a_multilabel_task_needs_labels_that_can_be_read() -> None:
    some, none = features(torch.eye(3)), features(torch.zeros(2, 3))
    names: dict[str, Any] = {"labels": ["a", "b", "c"], "task": "multilabel"}
    check_readable(some, some, some, **names)
    check_readable(some, some, None, **names)
    with pytest.raises(FarfieldError, match=r"no readable video of probe\.test has a label \(2 can be read\)"):
        check_readable(some, some, none, **names)
    with pytest.raises(FarfieldError, match=r"no readable video of data\.val has a label \(2 can be read\)"):
        check_readable(some, none, some, **names)


def test_classes_without_a_readable_training_video_are_named(caplog: pytest.LogCaptureFixture) -> None:
    training = features(torch.from_numpy(np.array([0, 2, 2])))
    check_readable(training, training, None, labels=["a", "b", "c"], task="single_label")
    assert "classes without a readable training video: 1 of 3 ('b'). Heads cannot learn them" in caplog.text
