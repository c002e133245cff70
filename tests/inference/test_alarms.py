from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from farfield.build import build_model
from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError
from farfield.inference.alarm_options import AlarmOptions, ClipOptions
from farfield.inference.alarm_thresholds import make_tracker, only_best
from farfield.inference.alarms import Alarm, AlarmTracker

LABELS = ["a", "b", "c"]


def tracked(windows: list[tuple[float, float]], scores: np.ndarray, high: list[float], low: list[float], gap: float):
    tracker = AlarmTracker(LABELS, np.array(high), np.array(low), gap)
    changes: list[list[Alarm]] = [tracker.update(*window, row) for window, row in zip(windows, scores, strict=True)]
    return [*changes, tracker.end_all()]


def slow_alarms(windows: list[tuple[float, float]], scores: np.ndarray, high: float, low: float, gap: float):
    """(start, end, score) of one class's alarms, window by window from the definition."""

    def linked(a: int, b: int) -> bool:
        """Whether no time longer than the gap lies between the ends of what is over the threshold."""
        return windows[b][0] - windows[a][1] <= gap and all(
            windows[x][1] - windows[a][1] <= gap for x in range(a + 1, b)
        )

    def before(i: int) -> int | None:
        """The window from which an alarm goes on to window i."""
        over = [j for j in range(i) if scores[j] >= low]
        return over[-1] if over and linked(over[-1], i) and inside(over[-1]) else None

    def inside(i: int) -> bool:
        return bool(scores[i] >= high or (scores[i] >= low and before(i) is not None))

    alarms: list[list[float]] = []
    for i, (start, end) in enumerate(windows):
        if not inside(i):
            continue
        if before(i) is None:
            alarms.append([start, end, float(scores[i])])
        else:
            alarms[-1][1:] = [max(alarms[-1][1], end), max(alarms[-1][2], float(scores[i]))]
    return [tuple(each) for each in alarms]


@pytest.mark.parametrize("seed", range(300))
def test_alarms_are_those_of_a_slow_oracle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 23))
    starts = np.cumsum(rng.choice([0.5, 0.75, 1.0, 4.0], count)).tolist()
    length = float(rng.choice([0.5, 1.0, 1.75]))
    windows = [(start, start + length) for start in starts]
    scores = rng.choice([0.1, 0.3, 0.5, 0.7, 0.9], (count, 3), p=[0.3, 0.2, 0.2, 0.2, 0.1])
    high, low = [0.5, 0.7, 0.7], [0.5, 0.3, 0.7]
    gap = float(rng.choice([0, 0.25, 1, 1.5, 5]))
    changes = tracked(windows, scores, high, low, gap)
    ended = [each for step in changes for each in step if not each.is_open]
    for k, label in enumerate(LABELS):
        found = [(each.start_seconds, each.end_seconds, each.score) for each in ended if each.label == label]
        assert found == slow_alarms(windows, scores[:, k], high[k], low[k], gap)
    # Each is told when it starts, with its first window's end and score, and only once after it has ended.
    firsts = {}
    for step, window in zip(changes, windows, strict=False):
        for each in step:
            if each.is_open and firsts.setdefault(each.number, each) is each:
                assert (each.start_seconds, each.end_seconds) == window
    assert sorted(firsts) == sorted(each.number for each in ended)


def test_an_alarm_ends_once_its_class_is_gone_for_longer_than_the_gap() -> None:
    windows = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0)]
    scores = np.array([[0.9, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    changes = tracked(windows, scores, [0.5] * 3, [0.5] * 3, gap=1.5)
    assert changes == [[Alarm(1, "a", 0.0, 1.0, 0.9)], [], [Alarm(1, "a", 0.0, 1.0, 0.9, is_open=False)], [], []]


def test_time_alone_ends_alarms() -> None:
    tracker = AlarmTracker(LABELS, np.full(3, 0.5), np.full(3, 0.5), 2.0)
    tracker.update(0, 1, np.array([0.6, 0.0, 0.7]))
    tracker.update(1, 2, np.array([0.6, 0.0, 0.2]))
    assert tracker.end_before(1.0) == []
    assert [(each.label, each.end_seconds) for each in tracker.end_before(1.5)] == [("c", 1)]
    assert [(each.label, each.is_open) for each in tracker.end_all()] == [("a", False)]
    assert tracker.end_all() == []


def test_thresholds_come_from_the_options_or_the_network() -> None:
    model = build_model("tiny", labels=LABELS, task="multilabel")
    scores = np.array([0.55, 0.45, 0.9])

    def started(**options: object) -> list[str]:
        return [each.label for each in make_tracker(model, AlarmOptions(**options)).update(0, 1, scores)]

    assert started() == ["a", "c"]
    assert started(threshold=0.6) == ["c"]
    assert started(labels=["a"]) == ["a"]
    tracker = make_tracker(model, AlarmOptions(threshold=0.6, hysteresis=0.9))
    tracker.update(0, 1, np.array([0.1, 0.2, 0.7]))
    [going_on] = tracker.update(1, 2, np.array([0.55, 0.2, 0.55]))
    assert (going_on.label, going_on.end_seconds, going_on.score) == ("c", 2, 0.7)
    with pytest.raises(FarfieldError, match=r"alarm label 'd' is not a class of the network. Known: a, b, c"):
        make_tracker(model, AlarmOptions(labels=["d"]))


def test_other_tasks_watch_the_most_probable_class() -> None:
    single = build_model("tiny", labels=LABELS)
    with pytest.raises(
        FarfieldError,
        match=r"timelines, but the network has none\. .* --timeline --calibrate_on val\.csv --choose_threshold f1",
    ):
        make_tracker(single, AlarmOptions())
    assert only_best(np.array([0.4, 0.35, 0.25]), single).tolist() == [0.4, 0, 0]
    heads = build_model("tiny", labels=["noun:x", "noun:y", "verb:p", "verb:q"], task="multi_head")
    with pytest.raises(
        FarfieldError, match=r"timelines, but the network has none\. Set threshold to a value such as 0\.8\.$"
    ):
        make_tracker(heads, AlarmOptions())
    assert only_best(np.array([0.4, 0.6, 0.7, 0.3]), heads).tolist() == [0, 0.6, 0.7, 0]
    both = build_model("tiny", labels=LABELS, task="multilabel")
    assert only_best(np.array([0.4, 0.35, 0.25]), both).tolist() == [0.4, 0.35, 0.25]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.0}, "threshold is 1.0; it must be a probability, at least 0 and below 1."),
        ({"hysteresis": 0.0}, "hysteresis is 0.0; it must be above 0 and at most 1"),
        ({"hysteresis": 1.5}, "hysteresis is 1.5; it must be above 0 and at most 1"),
        ({"gap_seconds": -1.0}, "gap_seconds is -1.0; it must be 0 or more."),
    ],
)
def test_options_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        AlarmOptions(**options)


def test_clip_options_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match=r"clip_seconds_before is -1 and clip_seconds_after is 5.0; both must be 0"):
        ClipOptions(tmp_path, seconds_before=-1)
    with pytest.raises(FarfieldError, match="max_clip_seconds is 0; it must be positive"):
        ClipOptions(tmp_path, max_seconds=0)
    (tmp_path / "file").touch()
    with pytest.raises(FarfieldError, match=r"cannot be created: File exists. Choose another folder for clips"):
        ClipOptions(tmp_path / "file").prepare(ClipSpec(num_frames=4, crop_px=24), None)
