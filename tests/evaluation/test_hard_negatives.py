"""Windows that were scored wrongly, against a look at many moments of each window."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.timelines import random_video
from farfield.data.hard_negatives import HardWindow, read_hard_windows
from farfield.errors import FarfieldError
from farfield.evaluation.hard_negatives import (
    find_hard_negatives,
    predicted_classes,
    write_hard_negatives,
)
from farfield.evaluation.video_timeline import TrueSegment, VideoTimeline

LABELS = ["a", "b", "c"]


def moments_with(video: VideoTimeline, label: str, start: float, end: float) -> list[bool]:
    """Whether a segment of the class is there at each of 2,000 moments from start to end."""
    moments = start + (np.arange(2000) + 0.5) / 2000 * (end - start)
    return [any(s <= at < e for s, e, name in video.truth if name == label) for at in moments]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_each_window_is_judged_by_all_of_its_moments(seed: int) -> None:
    video = random_video("v.mp4", LABELS, np.random.default_rng(seed), segments=23)
    thresholds = np.array([0.4, 0.5, 0.6])
    predicted = predicted_classes(video.window_probabilities, thresholds, "multilabel")
    expected = []
    for (start, end), row in zip(video.windows.tolist(), video.window_probabilities, strict=True):
        for label, probability, threshold in zip(LABELS, row, thresholds, strict=True):
            there = moments_with(video, label, start, end)
            if probability >= threshold and not any(there):
                expected.append(HardWindow("v.mp4", start, end, label, "false_positive"))
            elif probability < threshold and all(there):
                expected.append(HardWindow("v.mp4", start, end, label, "missed"))
    found = list(find_hard_negatives(video, LABELS, predicted))
    assert found == expected
    assert {each.error for each in found} == {"false_positive", "missed"}


def test_segments_that_touch_cover_a_window_and_those_beside_it_do_not_overlap_it() -> None:
    video = random_video("v.mp4", LABELS, np.random.default_rng(0), segments=0)
    windows = np.array([[0.0, 2.0], [2.0, 4.0], [4.0, 6.0]])
    truth = [TrueSegment(2.0, 3.1, "a"), TrueSegment(3.1, 4.0, "a")]
    video = replace(video, truth=truth, windows=windows)
    nothing, everything = np.zeros((3, 3), bool), np.zeros((3, 3), bool)
    everything[:, 0] = True
    assert list(find_hard_negatives(video, LABELS, nothing)) == [HardWindow("v.mp4", 2.0, 4.0, "a", "missed")]
    assert [each.start_seconds for each in find_hard_negatives(video, LABELS, everything)] == [0.0, 4.0]


def test_a_single_label_network_predicts_its_best_class_only() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25]])
    assert predicted_classes(probabilities, np.full(3, 0.3), "multilabel").tolist() == [[True, True, False]] * 2
    one = predicted_classes(probabilities, np.full(3, 0.45), "single_label")
    assert one.tolist() == [[True, False, False], [False, False, False]]


def test_the_file_has_one_row_each(tmp_path: Path) -> None:
    found = [
        HardWindow("a,b.mp4", 0.1 + 0.2, 2.0, 'say "hi"', "missed"),
        HardWindow("\udcff.mp4", 3.0, 4.0, "b", "false_positive"),
    ]
    write_hard_negatives(found, tmp_path / "new/hard.csv")
    with (tmp_path / "new/hard.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "start_seconds", "end_seconds", "label", "error"]
    assert [tuple(row.values()) for row in rows] == [
        ("a,b.mp4", "0.3", "2", 'say "hi"', "missed"),
        ("\udcff.mp4", "3", "4", "b", "false_positive"),
    ]
    assert read_hard_windows(tmp_path / "new/hard.csv") == [replace(found[0], start_seconds=0.3), found[1]]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["hard.csv"]
    write_hard_negatives([], tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text() == "path,start_seconds,end_seconds,label,error\n"
    with pytest.raises(FarfieldError, match=r"none\.csv/hard\.csv cannot be written"):
        write_hard_negatives(found, tmp_path / "none.csv/hard.csv")
