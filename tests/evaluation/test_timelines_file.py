from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.timelines import random_video
from farfield.errors import FarfieldError
from farfield.evaluation.timelines_file import read_timelines, write_timelines


def test_the_file_gives_back_windows_and_truth(tmp_path: Path) -> None:
    labels = ["走る", "b", "c"]
    rng = np.random.default_rng(1)
    videos = [
        random_video("a/\udcff.mp4", labels, rng),
        random_video("b.mp4", labels, rng, seconds=7, segments=0),
        random_video("c.mp4", labels, rng, seconds=13),
    ]
    settings, groups = {"min_seconds": 1.0}, ["é\udcff", None, "x"]
    write_timelines(tmp_path / "timelines.npz", labels, "multilabel", videos, settings, groups=groups)
    found = read_timelines(tmp_path / "timelines.npz")
    assert found.groups == groups
    assert (found.labels, found.task, found.settings) == (labels, "multilabel", {"min_seconds": 1.0})
    for video, read in zip(videos, found.videos, strict=True):
        assert (read.path, read.truth) == (video.path, video.truth)
        np.testing.assert_array_equal(read.windows, video.windows)
        np.testing.assert_array_equal(read.probabilities, video.window_probabilities)
    assert [path.name for path in tmp_path.iterdir()] == ["timelines.npz"]
    write_timelines(tmp_path / "timelines.npz", labels, "multilabel", videos, settings)
    assert read_timelines(tmp_path / "timelines.npz").groups is None


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match="there is no file"):
        read_timelines(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("nothing")
    video = random_video("b.mp4", ["a"], np.random.default_rng(0))
    write_timelines(tmp_path / "cut.npz", ["a"], "multilabel", [video], {})
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:900])
    np.savez(tmp_path / "other.npz", labels=np.array(["a"]))
    shorter = replace(video, window_probabilities=video.window_probabilities[:-1])
    write_timelines(tmp_path / "uneven.npz", ["a"], "multilabel", [shorter], {})
    for name, message in (
        ("text", "is damaged, or not a file of tested timelines. Run `farfield test --timeline`"),
        ("cut", "is damaged, or not a file of tested timelines. Run `farfield test --timeline`"),
        ("other", "is not a file of tested timelines: it has no 'paths'. Run `farfield test --timeline`"),
        ("uneven", "is not a file of tested timelines: an array has "),
    ):
        with pytest.raises(FarfieldError, match=re.escape(f"{name}.npz {message}")):
            read_timelines(tmp_path / f"{name}.npz")
    write_timelines(tmp_path / "task.npz", ["a"], "none", [video], {})  # type: ignore[arg-type]
    with pytest.raises(FarfieldError, match="its task 'none' is unknown"):
        read_timelines(tmp_path / "task.npz")
    write_timelines(tmp_path / "classes.npz", ["a", "b"], "multilabel", [video], {})
    with pytest.raises(FarfieldError, match="which does not fit 2 classes"):
        read_timelines(tmp_path / "classes.npz")
