"""Predictions of networks whose videos have several labels, or none."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from farfield import predict
from farfield.checkpoints.checkpoint import save_model
from farfield.clip_spec import ViewsAggregation
from farfield.data.clips import video_views
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.inference.labelled_video import (
    BACKGROUND,
    BEST,
    MAX_LINES,
    labelled,
    segment_colours,
    with_timeline,
    write_labelled_video,
)
from farfield.inference.predict_live import predict_live
from farfield.inference.prediction_schema import Prediction, RankedLabel
from farfield.inference.tables_and_subtitles import as_csv, as_srt, as_table, as_vtt
from farfield.models.network import ActionNet
from farfield.models.operating_point import OperatingPoint
from farfield.timelines.cells import to_cells
from farfield.timelines.options import TimelineOptions
from farfield.timelines.segments import Segment, find_segments_of_each_class
from farfield.timelines.sliding_windows import sliding_windows
from farfield.video.decoders import open_video
from farfield.video.writer import write_video
from multilabel import LABELS, brightness_network, write_stripes


@pytest.fixture(scope="module")
def network() -> ActionNet:
    return brightness_network()


@pytest.fixture(scope="module")
def checkpoint(network: ActionNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("multilabel") / "a.ckpt"
    save_model(network, path)
    return path


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stripes(tmp_path_factory.mktemp("stripes") / "stripes.mp4")


def sigmoids(model: ActionNet, frames: torch.Tensor) -> torch.Tensor:
    """Class probabilities of each view, in plain torch."""
    x = (frames.float() / 255 - 0.45) / 0.225
    with torch.no_grad():
        return model(x.permute(0, 4, 1, 2, 3)).sigmoid()


def times_of(segments: list[Segment], label: str) -> list[tuple[float, float]]:
    return [(each.start_seconds, each.end_seconds) for each in segments if each.label == label]


@pytest.mark.parametrize("method", ["mean", "max"])
def test_every_class_has_its_own_probability_and_threshold(method: ViewsAggregation, stripes: Path) -> None:
    model = brightness_network(views_aggregation=method)
    of_views = sigmoids(model, video_views(stripes, VideoRecord("", ""), model.clip, num_clips=3, num_crops=2).frames)
    expected = dict(zip(LABELS, (of_views.mean(0) if method == "mean" else of_views.amax(0)).tolist(), strict=True))
    found = predict(stripes, model, top_k=1, features=True)
    assert found.task == "multilabel"
    # Of three clips, two are dark and one is bright: both reach 0.5 as a maximum only.
    above = ["picture", "dark"] if method == "mean" else ["dark", "bright", "picture"]
    assert {each.label for each in found.ranking} == set(above)  # though top_k is 1
    everything = predict(stripes, model, top_k=4).ranking
    assert [each.label for each in everything] == sorted(LABELS, key=lambda label: -expected[label])
    assert {each.label: each.probability for each in everything} == pytest.approx(expected, abs=1e-5)
    assert {each.label: each.above_threshold for each in everything} == {label: label in above for label in LABELS}
    assert sum(expected.values()) > 1.5
    assert found.features is not None


def test_thresholds_of_the_network_decide(stripes: Path) -> None:
    model = brightness_network()
    model.operating_point = OperatingPoint("f1", {"bright": 0.1, "dark": 0.9, "picture": None, "fire": 0.01}, 9)
    for options in ({}, {"hop": 10}, {"timeline": True}):
        found = predict(stripes, model, top_k=1, **options)  # type: ignore[arg-type]
        assert {each.label: each.above_threshold for each in found.ranking} == {
            "picture": True,  # 0.5, since no threshold follows the rule
            "bright": True,
            "fire": True,
        }
        assert [each.label for each in found.above_threshold] == [each.label for each in found.ranking]
    segments = found.segments
    assert segments is not None
    assert times_of(segments, "fire") == [(0.0, 7.0)]
    assert {each.label for each in predict(stripes, model, timeline=TimelineOptions(threshold=0.5)).segments or []} == {
        "bright",
        "dark",
        "picture",
    }


def test_thresholds_of_timelines_come_before_those_of_videos(stripes: Path) -> None:
    model = brightness_network()
    model.operating_point = OperatingPoint("f1", {"bright": 0.1, "dark": 0.9, "picture": None, "fire": 0.01}, 9)
    thresholds = {"bright": 0.2, "dark": None, "picture": 0.999, "fire": 0.9}
    model.timeline_operating_point = OperatingPoint("f1", thresholds, 4)
    found = predict(stripes, model, top_k=1, timeline=True)
    line = found.timeline
    assert line is not None
    own = np.array([0.2, 0.5, 0.999, 0.9])
    assert found.segments == find_segments_of_each_class(line.times, line.probabilities, LABELS, own)
    assert {each.label for each in found.segments} == {"bright", "dark"}
    assert "fire" in {each.label for each in found.above_threshold}  # the whole video has the thresholds of videos


@pytest.mark.parametrize("method", ["mean", "max"])
def test_a_timeline_is_what_plain_torch_says(method: ViewsAggregation, stripes: Path) -> None:
    model = brightness_network(views_aggregation=method)
    found = predict(stripes, model, top_k=4, num_crops=2, timeline=TimelineOptions(hop_seconds=0.25))
    line = found.timeline
    assert line is not None
    with sliding_windows(stripes, model.clip, hop_seconds=0.25, num_crops=2) as windows:
        crops = torch.stack([sigmoids(model, window.frames) for window in windows])
    of_windows = crops.mean(1) if method == "mean" else crops.amax(1)
    cells = to_cells(line.windows[:, 0], line.windows[:, 1], of_windows.numpy())[1]
    np.testing.assert_allclose(line.probabilities, cells, atol=1e-5)
    seconds = np.diff(line.times)
    whole = cells.max(0) if method == "max" else (cells * seconds[:, None]).sum(0) / seconds.sum()
    assert {each.label: each.probability for each in found.ranking} == pytest.approx(
        dict(zip(LABELS, whole.tolist(), strict=True)), abs=1e-5
    )
    for i, label in enumerate(LABELS):  # cell by cell
        inside = [(start, end) for p, (start, end) in zip(cells[:, i], pairwise(line.times), strict=True) if p >= 0.5]
        merged: list[tuple[float, float]] = []
        for start, end in inside:
            joins = merged and merged[-1][1] == start
            merged[-1:] = [(merged[-1][0], end)] if joins else [*merged[-1:], (start, end)]
        assert times_of(found.segments or [], label) == merged
    assert np.allclose(times_of(found.segments or [], "dark"), [(0, 2), (5, 7)], atol=0.3)
    assert np.allclose(times_of(found.segments or [], "bright"), [(2, 5)], atol=0.3)
    assert times_of(found.segments or [], "picture") == [(0, pytest.approx(7))]


@pytest.mark.parametrize("method", ["mean", "max"])
def test_crops_and_windows_are_aggregated_alike(method: ViewsAggregation, tmp_path: Path) -> None:
    """Of a video that is dark at its left and bright at its right, and the other way round in its second half."""
    model = brightness_network(views_aggregation=method)
    sides = np.repeat([[25, 25, 25, 230]], 24, 1)[:, :, None].repeat(3, 2).repeat(32, 0).astype(np.uint8)
    write_video(tmp_path / "a.mp4", [sides] * 30 + [sides[:, ::-1]] * 30, fps=20)
    with sliding_windows(tmp_path / "a.mp4", model.clip, hop_seconds=0.25, num_crops=2) as windows:
        crops = torch.stack([sigmoids(model, window.frames) for window in windows])
    assert (crops[:, 0] - crops[:, 1]).abs().max() > 0.5
    expected = crops.flatten(0, 1).amax(0) if method == "max" else crops.flatten(0, 1).mean(0)
    found = predict(tmp_path / "a.mp4", model, hop=5, top_k=4)
    assert {each.label: each.probability for each in found.ranking} == pytest.approx(
        dict(zip(LABELS, expected.tolist(), strict=True)), abs=1e-5
    )
    line = predict(tmp_path / "a.mp4", model, num_crops=2, timeline=TimelineOptions(hop_seconds=0.25)).timeline
    assert line is not None
    of_windows = (crops.amax(1) if method == "max" else crops.mean(1)).numpy()
    cells = to_cells(line.windows[:, 0], line.windows[:, 1], of_windows)[1]
    np.testing.assert_allclose(line.probabilities, cells, atol=1e-5)


def test_segments_of_each_class_are_found_by_themselves() -> None:
    times = np.array([0.0, 1.0, 3.0, 4.0, 4.5])
    cells = np.array([[0.9, 0.6, 0.2], [0.5, 0.7, 0.9], [0.4, 0.7, 0.2], [0.8, 0.1, 0.2]])
    found = find_segments_of_each_class(times, cells, ["a", "b", "c"], np.array([0.5, 0.6, 0.95]))
    assert [(each.label, each.start_seconds, each.end_seconds) for each in found] == [
        *(("a", 0, 3), ("b", 0, 4), ("a", 4, 4.5))
    ]
    assert found[0].probability == pytest.approx((0.9 * 1 + 0.5 * 2) / 3)  # by time, not by cells
    kept = find_segments_of_each_class(times, cells, ["a", "b", "c"], np.array([0.5, 0.6, 0.9]), min_seconds=2)
    assert [(each.label, each.start_seconds, each.end_seconds) for each in kept] == [
        *(("a", 0, 3), ("b", 0, 4), ("c", 1, 3))
    ]
    assert find_segments_of_each_class(times, cells, ["a", "b", "c"], np.full(3, 0.99)) == []
    tenths = np.arange(31) / 10
    ones = (np.arange(30) // 10 == 1).astype(float)[:, None]
    assert tenths[20] - tenths[10] == pytest.approx(1)
    assert len(find_segments_of_each_class(tenths, ones, ["a"], np.array([0.5]), min_seconds=1)) == 1


RANKING = [RankedLabel("run & jump", 0.875, True), RankedLabel("wave", 0.75, True), RankedLabel("sit", 0.25, False)]
SEGMENTS = [
    Segment(0.0, 4.0, "run & jump", 0.9, 0.9),
    Segment(1.0, 2.0, "wave", 0.8, 0.8),
    Segment(2.0, 3.0, "sit", 0.6, 0.6),
]
NONE = [RankedLabel("sit", 0.25, False)]


def of(ranking: list[RankedLabel], segments: list[Segment] | None = None) -> Prediction:
    return Prediction(
        "x.mp4", ranking, task="multilabel", segments=segments, start_seconds=0.0, end_seconds=5.0, duration_seconds=5.0
    )


def test_tables_say_which_classes_and_that_there_are_none() -> None:
    assert as_table(of(RANKING)).splitlines() == [
        "x.mp4  (0.00 s to 5.00 s)",
        "  run & jump   87.50%  above threshold",
        "  wave         75.00%  above threshold",
        "  sit          25.00%",
    ]
    assert as_table(of(NONE)).splitlines()[1:] == ["  none of the classes reaches its threshold", "  sit   25.00%"]
    assert as_table(of(NONE, [])).splitlines()[1:] == ["  none of the classes reaches its threshold for long enough"]
    rows = list(csv.DictReader(io.StringIO(as_csv([of(RANKING), of(NONE)], timeline=False))))
    assert [(row["rank"], row["label"], row["above_threshold"]) for row in rows] == [
        ("1", "run & jump", "true"),
        ("2", "wave", "true"),
        ("3", "sit", "false"),
        ("1", "sit", "false"),
    ]
    failed = as_csv([of(NONE), replace(of([]), error="empty")], timeline=False).splitlines()
    assert len({len(row) for row in csv.reader(failed)}) == 1


def test_subtitles_of_segments_that_overlap_are_joined() -> None:
    assert as_srt(of(RANKING, SEGMENTS)) == (
        "1\n00:00:00,000 --> 00:00:01,000\nrun & jump (90%)\n\n"
        "2\n00:00:01,000 --> 00:00:02,000\nrun & jump (90%)\nwave (80%)\n\n"
        "3\n00:00:02,000 --> 00:00:03,000\nrun & jump (90%)\nsit (60%)\n\n"
        "4\n00:00:03,000 --> 00:00:04,000\nrun & jump (90%)\n"
    )
    assert "00:00:01.000 --> 00:00:02.000\nrun &amp; jump (90%)\nwave (80%)\n" in as_vtt(of(RANKING, SEGMENTS))
    assert as_srt(of(RANKING, [])) == ""


def test_labelled_frames_show_all_labels_or_that_there_are_none() -> None:
    frame = np.zeros((20, 400, 3), np.uint8)

    def panel(ranking: list[RankedLabel]) -> np.ndarray:
        return next(labelled([frame], ranking, multilabel=True))[20:]

    two, none = panel(RANKING[:2]), panel([])
    assert (two == BEST).all(2).any(1).sum() > 1.5 * (panel(RANKING[:1]) == BEST).all(2).any(1).sum()
    assert none.max() > 200  # text
    assert not (none == BEST).all(2).any()
    many = [RankedLabel(f"label {i}", 0.9, True) for i in range(MAX_LINES + 5)]
    assert len(panel(many)) == len(panel(many[:MAX_LINES]))


def test_segments_that_overlap_are_in_lanes_of_their_own() -> None:
    frame = np.zeros((20, 400, 3), np.uint8)
    moments = [(0.5, frame), (1.5, frame), (2.5, frame), (4.5, frame)]
    alone, both, other, none = with_timeline(moments, SEGMENTS, 5.0, multilabel=True)
    assert alone.shape == both.shape == other.shape == none.shape
    run, wave, sit = segment_colours(SEGMENTS).values()

    def shown(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the first row, the left and the right column of the strip's bar of a colour."""
        strip = picture[-30:]
        rows, columns = np.nonzero((strip == colour).all(2))
        return int(rows.min()), int(columns.min()), int(columns.max())

    top, *bounds = shown(none, run)
    assert bounds == [0, 319]
    below, *bounds = shown(none, wave)
    assert bounds == [80, 159]
    assert below > top
    assert shown(none, sit) == (below, 160, 239)  # the lane is free again
    text = slice(20, 20 + 48)  # two lines
    assert (both[text] == wave).all(2).any()
    assert not (alone[text] == wave).all(2).any()
    assert (other[text] == sit).all(2).any()
    assert none[text].max() > 200  # none of the classes
    [unsaid] = with_timeline([(4.5, frame)], SEGMENTS, 5.0)
    assert set(map(tuple, unsaid[text].reshape(-1, 3).tolist())) == {BACKGROUND}


def test_a_strip_of_very_many_lanes_stays_low(tmp_path: Path) -> None:
    frame = np.zeros((20, 400, 3), np.uint8)
    segments = [Segment(0.0, 1.0, f"label {i}", 0.5, 0.5) for i in range(157)]
    [picture] = with_timeline([(0.5, frame)], segments, 1.0, multilabel=True)
    assert len(picture) < 20 + MAX_LINES * 27 + 2 * 157 + 10


@pytest.mark.slow
def test_the_command_tells_of_each_video(
    checkpoint: Path,
    stripes: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["predict", stripes, tmp_path / "missing.mp4", "--checkpoint", checkpoint]
    out = tmp_path / "out"
    assert run_farfield(*command, "--timeline", "--out", out, "--write", "srt,mp4,csv", "--json") == 1
    answer, failed = json.loads(capsys.readouterr().out)
    assert (answer["schema_version"], answer["task"], failed["task"]) == (1, "multilabel", "multilabel")
    assert {type(each["above_threshold"]) for each in answer["ranking"]} == {bool}
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert lines[0] == answer | {name: lines[0][name] for name in ("fps", "name", "file")}
    assert run_farfield(*command, "--timeline", "--out", out, "--write", "srt,mp4,csv", "--json") == 1  # resumed
    assert json.loads(capsys.readouterr().out)[0] == answer
    first, second, *_ = (out / "stripes.srt").read_text().split("\n\n")
    assert re.findall(r"(?m)^(\w+) \(\d+%\)$", first) == ["dark", "picture"]
    assert set(re.findall(r"(?m)^(\w+) \(\d+%\)$", second)) == {"bright", "picture"}
    with open_video(out / "stripes_labelled.mp4") as copy:
        assert len(copy.times) == 140


@pytest.mark.slow
def test_the_printed_text_says_none(
    stripes: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    model = brightness_network()
    with torch.no_grad():
        model.head.fc.bias -= 30
    save_model(model, tmp_path / "none.ckpt")
    command = ["predict", stripes, "--checkpoint", tmp_path / "none.ckpt", "--top_k", 1]
    assert run_farfield(*command) == 0
    assert capsys.readouterr().out.splitlines()[1] == "  none of the classes reaches its threshold"
    assert run_farfield(*command, "--live", "--format", "table") == 0
    assert "s  none of the classes  (" in capsys.readouterr().out
    alarms = ["--alarms", tmp_path / "alarms.jsonl", "--threshold", 1e-20]
    assert run_farfield(*command, "--live", "--format", "table", *alarms) == 0
    assert "none of the classes" not in capsys.readouterr().out  # the alarms' threshold, not the network's 0.5
    write_labelled_video(predict(stripes, model), tmp_path / "copy.mp4")
    with open_video(tmp_path / "copy.mp4") as copy:
        assert copy.frames(np.array([0]))[0][-29:].max() > 200  # the text, as in the panel


def test_live_tells_several_classes_at_once(
    network: ActionNet,
    checkpoint: Path,
    stripes: Path,
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a file, which is a stream that comes at once: its last window, which is dark."""
    last = list(predict_live(str(stripes), network, top_k=1))[-1]
    assert last.task == "multilabel"
    assert {each.label: each.above_threshold for each in last.ranking} == {"dark": True, "picture": True}
    assert run_farfield("predict", stripes, "--live", "--checkpoint", checkpoint, "--top_k", 3) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r" +\d\.\d\d s  dark \d+%  picture \d+%  \(\w+ \d+%\)", line)


def test_lines_without_a_task_are_of_one_label() -> None:
    stored = of(RANKING, SEGMENTS).to_dict()
    assert Prediction.from_dict(stored) == replace(of(RANKING, SEGMENTS))
    del stored["task"]
    assert Prediction.from_dict(stored).task == "single_label"


def test_segments_have_a_score_which_older_lines_lack() -> None:
    lowered = [SEGMENTS[0], replace(SEGMENTS[1], score=0.1234)]
    stored = of(RANKING, lowered).to_dict()
    assert [each["score"] for each in stored["segments"]] == [0.9, 0.1234]
    assert Prediction.from_dict(stored) == of(RANKING, lowered)
    for each in stored["segments"]:
        del each["score"]
    assert Prediction.from_dict(stored) == of(RANKING, SEGMENTS[:2])
    assert as_table(of(RANKING, lowered)).splitlines()[1:] == [
        "  00:00:00.000 - 00:00:04.000  run & jump   90.00%  score 0.9000",
        "  00:00:01.000 - 00:00:02.000  wave         80.00%  score 0.1234",
    ]
    assert "score" not in as_table(of(RANKING, SEGMENTS))
    table = as_csv([of(RANKING, lowered), replace(of([], []), error="empty")], timeline=True)
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [(row["label"], row["score"], row["error"]) for row in rows] == [
        *(("run & jump", "0.9", ""), ("wave", "0.1234", ""), ("", "", "empty"))
    ]
    assert len({len(row) for row in csv.reader(table.splitlines())}) == 1


def test_scores_that_are_not_numbers_are_an_error(stripes: Path) -> None:
    network = brightness_network()
    network.head.fc.bias.data[2] = torch.nan
    with pytest.raises(FarfieldError, match=r"the network returned NaN scores"):
        predict(stripes, network, progress=False)
