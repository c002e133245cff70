from __future__ import annotations

import io
import os
import pickle
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from farfield.errors import FarfieldError
from farfield.evaluation.scores_file import Scores, read_scores, write_scores
from marker import CALLED, SetsMarker


def example(videos: int = 3) -> Scores:
    labels = ["Überwurf", "跳", "run, fast\n", "naïve 🏃", "e\u0301"]  # the last is no composed é, and stays so
    paths = [os.fsdecode(b"caf\xe9.mp4"), "a/Füße 跳.mp4", "x" * 211][:videos]  # the first is no UTF-8 on the disk
    return Scores(labels, paths, torch.tensor([4, 0, 2])[:videos], torch.rand(3, 7, 5)[:videos].softmax(2))


def packed(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def sound() -> dict[str, np.ndarray]:
    return {
        "labels": np.array(["bow", "run"]),
        "paths": np.array([b"a.mp4", b"b.mp4", b"c.mp4"]),
        "targets": np.array([0, 1, 1]),
        "views": np.full((3, 5, 2), 0.5, np.float16),
    }


@pytest.mark.parametrize("videos", [0, 1, 3])
def test_what_is_written_is_read(videos: int, tmp_path: Path) -> None:
    scores = example(videos)
    write_scores(scores, tmp_path / "scores.npz")
    read = read_scores(tmp_path / "scores.npz")
    assert (read.labels, read.paths) == (scores.labels, scores.paths)
    assert [os.fsencode(path) for path in read.paths] == [os.fsencode(path) for path in scores.paths]
    assert torch.equal(read.targets, scores.targets)
    assert read.targets.dtype == torch.int64
    assert read.views.shape == (videos, 7, 5)
    assert [each.name for each in tmp_path.iterdir()] == ["scores.npz"]


def test_every_view_is_kept_to_the_last_bit(tmp_path: Path) -> None:
    """Half precision made all that is below 3e-8 equal, and the five likeliest classes with it."""
    views = (torch.randn(53, 3, 101) * 20).softmax(2)
    scores = Scores([str(c) for c in range(101)], [f"{i}.mp4" for i in range(53)], torch.arange(53), views)
    write_scores(scores, tmp_path / "scores.npz")
    read = read_scores(tmp_path / "scores.npz")
    assert torch.equal(read.views, views)
    assert read.segments is None
    assert read.names == scores.paths


def test_several_labels_a_video_and_the_aggregation_are_kept(tmp_path: Path) -> None:
    targets = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]).bool()
    scores = replace(example(), targets=targets, task="multilabel", views_aggregation="max")
    write_scores(scores, tmp_path / "scores.npz")
    read = read_scores(tmp_path / "scores.npz")
    assert (read.task, read.views_aggregation) == ("multilabel", "max")
    assert torch.equal(read.targets, targets)
    assert torch.equal(read.target_matrix(), targets)
    assert torch.equal(read.probabilities, scores.views.amax(1))
    assert read.label_texts() == [f"{scores.labels[0]}|{scores.labels[3]}", "", scores.labels[2]]


def test_a_file_of_before_multilabel_tasks_has_one_class_a_video(tmp_path: Path) -> None:
    (tmp_path / "scores.npz").write_bytes(packed(**sound()))
    read = read_scores(tmp_path / "scores.npz")
    assert (read.task, read.views_aggregation, read.label_texts()) == ("single_label", "mean", ["bow", "run", "run"])


def test_segments_tell_parts_of_a_video_apart(tmp_path: Path) -> None:
    segments = torch.tensor([[0.1, 2.5], [2.5, torch.nan], [torch.nan, torch.nan]]).double()
    scores = replace(example(), paths=["a.mp4", "a.mp4", "b.mp4"], segments=segments)
    write_scores(scores, tmp_path / "scores.npz")
    read = read_scores(tmp_path / "scores.npz")
    assert read.segments is not None
    torch.testing.assert_close(read.segments, segments, rtol=0, atol=0, equal_nan=True)
    assert read.names == scores.names
    assert len(set(read.names)) == 3
    assert read.names[1] == "a.mp4 [2.5, nan)"


def test_a_video_has_the_mean_of_its_views() -> None:
    scores = example()
    for video in range(3):
        for c in range(5):
            mean = sum(scores.views[video, view, c].item() for view in range(7)) / 7
            assert scores.probabilities[video, c].item() == pytest.approx(mean, abs=1e-6)


def test_a_missing_file_says_who_writes_it(tmp_path: Path) -> None:
    missing = tmp_path / "scores.npz"
    with pytest.raises(
        FarfieldError, match=rf"^{re.escape(str(missing))} does not exist\. Run `farfield test` to write it"
    ):
        read_scores(missing)


ARRAY = io.BytesIO()
np.save(ARRAY, np.zeros(3))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"these are no scores\n" * 53, id="text"),
        pytest.param(pickle.dumps({"labels": ["bow"]}), id="pickle"),
        pytest.param(packed(**sound())[:-100], id="truncated"),
        pytest.param(packed(**sound()).replace("bow".encode("utf-32-le"), b"dog" * 4), id="altered"),
        pytest.param(ARRAY.getvalue(), id="one array"),
        pytest.param(packed(labels=np.array(["bow"])), id="other arrays"),
        pytest.param(packed(**sound() | {"paths": np.array(["a", "b", "c"])}), id="paths are text"),
        pytest.param(packed(**sound() | {"paths": np.array(7)}), id="no list of paths"),
        pytest.param(packed(**sound() | {"targets": np.array(["a", "b", "c"])}), id="text targets"),
        pytest.param(packed(**sound() | {"targets": np.array([0, 1])}), id="too few targets"),
        pytest.param(packed(**sound() | {"targets": np.array([0, 1, 2])}), id="no such class"),
        pytest.param(packed(**sound() | {"views": np.zeros((3, 2))}), id="no views"),
        pytest.param(packed(**sound() | {"segments": np.zeros((2, 2))}), id="too few segments"),
        pytest.param(packed(**sound() | {"views": np.zeros((3, 5, 7))}), id="other classes"),
        pytest.param(packed(**sound() | {"task": np.array("multilabel")}), id="no matrix of targets"),
        pytest.param(packed(**sound() | {"targets": np.zeros((3, 2), bool)}), id="a matrix of targets"),
        pytest.param(
            packed(**sound() | {"targets": np.zeros((3, 2), int), "task": np.array("multilabel")}), id="numbers"
        ),
        pytest.param(packed(**sound() | {"targets": np.zeros((3, 2), bool), "task": np.array("x")}), id="other task"),
        pytest.param(packed(**sound() | {"views_aggregation": np.array("median")}), id="other aggregation"),
    ],
)
def test_something_else_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    path.write_bytes(content)
    with pytest.raises(
        FarfieldError, match=rf"^{re.escape(str(path))} is (damaged, or )?not a scores file written by `farfield test`"
    ):
        read_scores(path)


def test_damage_anywhere_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    write_scores(example(), path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with suppress(FarfieldError):
            read_scores(path)


def test_code_in_a_file_is_not_executed(tmp_path: Path) -> None:
    path, call = tmp_path / "scores.npz", SetsMarker("in scores")
    objects = np.array([call], dtype=object)
    for content in (pickle.dumps(call), packed(**sound() | {"labels": objects})):
        path.write_bytes(content)
        with pytest.raises(
            FarfieldError,
            match=r"is damaged, or not a scores file written by `farfield test`\. Run `farfield test` to write a new",
        ):
            read_scores(path)
    assert CALLED == []


@pytest.fixture
def after_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with scores over which others were to be written when the disk was full."""

    def full(file: io.BufferedWriter, **_: np.ndarray) -> None:
        file.write(b"PK half a file")
        raise OSError(28, "No space left on device")

    write_scores(example(3), tmp_path / "scores.npz")
    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        write_scores(example(1), tmp_path / "scores.npz")
    return tmp_path


def test_a_write_that_fails_leaves_the_old_file(after_failure: Path) -> None:
    assert read_scores(after_failure / "scores.npz").paths == example(3).paths


def test_a_write_that_fails_leaves_nothing_else(after_failure: Path) -> None:
    assert [each.name for each in after_failure.iterdir()] == ["scores.npz"]
