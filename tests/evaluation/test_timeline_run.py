"""evaluate() with a timeline, on real videos of a network that knows how bright they are."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from farfield import FarfieldError, TimelineOptions, build_model, evaluate, load_model, predict, save_model
from farfield.evaluation.timeline_rescore import rescore
from farfield.evaluation.timeline_result import TimelineResult
from farfield.evaluation.video_timeline import TrueSegment, VideoTimeline
from farfield.timelines.cells import to_cells
from multilabel import LABELS, LEVELS, brightness_network, write_stripes

ROWS = [
    "a.mp4,dark|picture,,2",
    "a.mp4,bright,2,5",
    "a.mp4,dark,5,",
    "b.mp4,dark,0,3",
    "b.mp4,bright,3,6",
    "b.mp4,dark,6,8",
    "c.mp4,,,",
]
"""a and b are dark, then bright, then dark; c is bright all the time, which is no action."""
QUICK = {"accelerator": "cpu", "progress": False}
TENTHS = TimelineOptions(hop_seconds=0.1)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stripes")
    write_stripes(folder / "a.mp4")
    write_stripes(folder / "b.mp4", [25] * 20 + LEVELS)
    write_stripes(folder / "c.mp4", [230] * 40)
    save_model(brightness_network(), folder / "run/checkpoints/best.ckpt")
    (folder / "run.ckpt").symlink_to("run/checkpoints/best.ckpt")
    return folder


def manifest(folder: Path, rows: list[str] = ROWS, name: str = "m.csv") -> Path:
    (folder / name).write_text("\n".join(["path,label,start_seconds,end_seconds", *rows]) + "\n")
    return folder / name


@pytest.fixture(scope="module")
def tested(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TimelineResult, Path]:
    out = tmp_path_factory.mktemp("report")
    result = evaluate(videos / "run/checkpoints/best.ckpt", manifest(videos), timeline=TENTHS, out=out, **QUICK)
    return result, out


@pytest.mark.slow
def test_each_video_has_the_timeline_of_predict_and_its_labelled_segments(
    tested: tuple[TimelineResult, Path], videos: Path
) -> None:
    result, _ = tested
    model = load_model(videos / "run.ckpt", device="cpu")
    assert [video.path for video in result.videos] == ["a.mp4", "b.mp4", "c.mp4"]
    for video in result.videos:
        answer = predict(videos / video.path, model, timeline=TENTHS, progress=False)
        assert answer.timeline is not None
        np.testing.assert_allclose(video.probabilities, answer.timeline.probabilities, atol=1e-5)
        assert [(s.label, s.start_seconds, s.end_seconds) for s in video.segments] == [
            (s.label, s.start_seconds, s.end_seconds) for s in answer.timeline.segments
        ]
    assert result.videos[0].truth == [
        (0.0, 2.0, "dark"),
        (0.0, 2.0, "picture"),
        (2.0, 5.0, "bright"),
        (5.0, 7.0, "dark"),
    ]
    assert result.videos[2].truth == []
    assert result.hours == pytest.approx((7 + 8 + 2) / 3600)


def test_metrics_are_those_of_the_found_segments(tested: tuple[TimelineResult, Path]) -> None:
    """bright and dark are found where they are, but for half a window; c is a false alarm, picture is everywhere."""
    result, _ = tested
    found = result.average_precision([0.5])
    # The two bright ones are longer than in c, and their mean is lower; c comes first.
    by_label = dict(zip(result.labels, found.average_precision[0].tolist(), strict=True))
    assert by_label["dark"] == pytest.approx(1)
    assert by_label["bright"] == pytest.approx(2 / 3)
    assert math.isnan(by_label["fire"])
    metrics = result.segment_metrics()
    assert [metrics.precision.per_class[c].value for c in (0, 1)] == pytest.approx([2 / 3, 1])
    assert [metrics.recall.per_class[c].value for c in (0, 1)] == pytest.approx([1, 1])
    alarms = dict(zip(result.labels, result.false_alarms().counts.tolist(), strict=True))
    assert alarms == {"bright": 1, "dark": 0, "picture": 2, "fire": 0}  # picture: all of b and c
    assert result.false_alarms().total == pytest.approx(3 / result.hours)
    delays = result.delays()
    assert (delays.all.detected, delays.all.missed) == (7, 0)
    assert 0 < delays.per_class[0].median_seconds <= 0.36  # a window of 0.35 s is bright, or nearly
    assert 0.9 < result.frame_average_precision().per_class[1].value <= 1 + 1e-9
    assert 0 < result.frame_accuracy().accuracy.value < 0.5  # picture is found all the time


def test_windows_that_were_scored_wrongly(tested: tuple[TimelineResult, Path], tmp_path: Path) -> None:
    result, _ = tested
    count = result.write_hard_negatives(tmp_path / "hard.csv")
    with (tmp_path / "hard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count == len(result.hard_negatives())
    wrong = {(row["path"], row["label"], row["error"]) for row in rows}
    assert {("c.mp4", "bright", "false_positive"), ("b.mp4", "picture", "false_positive")} < wrong
    assert not {each for each in wrong if each[1] == "dark"}
    in_a = [row for row in rows if row["path"] == "a.mp4" and row["label"] == "picture"]
    assert min(float(row["start_seconds"]) for row in in_a) == pytest.approx(2.0)
    assert next(row for row in rows if row["path"] == "c.mp4")["start_seconds"] == "0"


def test_the_report_holds_everything(tested: tuple[TimelineResult, Path], videos: Path) -> None:
    result, out = tested
    names = ["report.json", "report.md", "segments.csv", "timelines.npz", "timelines.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    report = json.loads((out / "report.json").read_text())
    assert report == json.loads(json.dumps(result.to_dict()))
    assert report["checkpoint"] == str(videos / "run/checkpoints/best.ckpt")
    assert (report["videos"], report["labelled_segments"]) == (3, 7)
    assert report["timeline"]["hop_seconds"] == pytest.approx(0.1)
    assert report["timeline"]["window_seconds"] == pytest.approx(0.35)
    assert [each["path"] for each in report["per_video"]] == [video.path for video in result.worst_first()]
    assert report["per_video"][0]["path"] == "c.mp4"
    assert [each["tiou"] for each in report["average_precision"]["thumos"]["at_tiou"]] == [0.3, 0.4, 0.5, 0.6, 0.7]
    assert [each["threshold"] for each in report["classes"]] == [0.5] * 4
    assert report["classes"][3]["average_precision"]["activitynet"]["value"] is None
    assert report["classes"][3]["delay"]["median_seconds"] is None
    text = (out / "report.md").read_text()
    for wanted in (
        f"- windows: {sum(len(video.windows) for video in result.videos)}, of 0.35 s, one every 0.1 s",
        "| mAP at tIoU 0.75 |",
        "A false alarm is a found segment that overlaps no labelled segment of its class.",
        "The delay is the time from the start of a labelled segment to the end of the first window",
        "No thresholds were chosen on timelines",
        "![truth and answer of each video](timelines.png)",
        "| c&#46;mp4 | 0.0 | 0 | 2 | 0.0% |",
    ):
        assert wanted in text, wanted
    with (out / "segments.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = [(video.path, each) for video in result.videos for each in video.segments]
    assert [(row["path"], row["label"], float(row["start_seconds"])) for row in rows] == [
        (path, each.label, pytest.approx(each.start_seconds)) for path, each in found
    ]


@pytest.mark.slow
def test_timelines_are_scored_again_without_the_network(tested: tuple[TimelineResult, Path], videos: Path) -> None:
    result, out = tested
    again = rescore(out / "timelines.npz", result.options)
    assert [video.segments for video in again.videos] == [video.segments for video in result.videos]
    assert again.average_precision().mean == result.average_precision().mean
    other = TimelineOptions(
        hop_seconds=0.1, windows_aggregation="nearest", smooth_seconds=0.5, min_seconds=2.5, threshold=0.8
    )
    fresh = evaluate(videos / "run.ckpt", manifest(videos), timeline=other, **QUICK)
    rescored = rescore(out / "timelines.npz", other)
    assert rescored.thresholds == fresh.thresholds == [0.8] * 4
    assert [video.segments for video in rescored.videos] == [video.segments for video in fresh.videos]
    assert [video.segments for video in rescored.videos] != [video.segments for video in again.videos]
    named = rescore(out / "timelines.npz", result.options, [0.5, 1.1, 0.5, 0.5])
    assert {each.label for video in named.videos for each in video.segments} == {"bright", "picture"}


@pytest.mark.slow
def test_thresholds_are_chosen_on_timelines_and_used_in_the_test(videos: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes((videos / "run.ckpt").read_bytes())
    validation = manifest(videos, ["a.mp4,dark,0,2", "a.mp4,bright|picture,2,5", "a.mp4,dark,5,7"], "val.csv")
    chosen = evaluate(
        checkpoint, manifest(videos), timeline=TENTHS, calibrate_on=validation, choose_threshold="f1", **QUICK
    )
    point = chosen.operating_point
    assert point is not None
    assert (point.rule, point.validation_videos) == ("f1", 1)
    assert point.thresholds["fire"] is None
    kept = load_model(checkpoint)
    assert (kept.timeline_operating_point, kept.operating_point) == (point, None)
    assert chosen.thresholds == [0.5 if each is None else each for each in point.thresholds.values()]
    again = evaluate(checkpoint, manifest(videos), timeline=TENTHS, **QUICK)
    assert [video.segments for video in again.videos] == [video.segments for video in chosen.videos]
    line = chosen.videos[1]
    limit = point.thresholds["picture"]
    assert limit is not None
    high = line.probabilities[:, LABELS.index("picture")] >= limit
    assert 0 < high.sum() < len(high)  # the threshold divides what 0.5 does not
    in_segments = sum(s.end_seconds - s.start_seconds for s in line.segments if s.label == "picture")
    assert in_segments == pytest.approx(np.diff(line.times)[high].sum())


@pytest.mark.slow
def test_a_network_keeps_thresholds_and_only_those_of_a_test_that_succeeds(videos: Path, tmp_path: Path) -> None:
    network = brightness_network().train()
    validation = manifest(videos, ["a.mp4,bright,2,5"], "bright.csv")
    missing = manifest(tmp_path, ["none.mp4,bright,2,5"])
    choice = {"calibrate_on": validation, "choose_threshold": "recall=0.5", "root": videos, **QUICK}
    with pytest.raises(FarfieldError, match=r"none of the videos in .*m\.csv can be read \(1 in all\)"):
        evaluate(network, missing, timeline=True, **choice)
    assert network.timeline_operating_point is None
    result = evaluate(network, manifest(videos), timeline=True, **choice)
    assert network.timeline_operating_point == result.operating_point is not None
    assert network.operating_point is None
    assert not network.is_folded
    assert network.training


@pytest.mark.slow
def test_options_of_segments_apply_to_the_choice_of_thresholds(videos: Path) -> None:
    """Segments of dark that are at least 2.5 s long: one of two is found, wherever the threshold is."""
    rows = ["a.mp4,dark,0,2", "a.mp4,dark,5,7", "b.mp4,dark,0,3", "b.mp4,dark,6,8", "a.mp4,bright,2,5"]
    given = {"calibrate_on": manifest(videos, rows, "dark.csv"), "choose_threshold": "recall=0.5", **QUICK}
    options = TimelineOptions(hop_seconds=0.1, min_seconds=2.5)
    [everything, long] = [
        evaluate(brightness_network(), manifest(videos), timeline=each, **given) for each in (TENTHS, options)
    ]
    assert everything.operating_point is not None
    assert long.operating_point is not None
    assert everything.operating_point.thresholds["dark"] is not None
    assert long.operating_point.thresholds["dark"] is None  # of four, only one is long enough


@pytest.mark.slow
def test_videos_that_cannot_be_read_are_listed(
    videos: Path, bad_files: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = (videos / "a.mp4").read_bytes()
    frames = whole.index(b"mdat")
    (videos / "cut.mp4").write_bytes(whole[: frames + (len(whole) - frames) // 2])
    rows = [*ROWS, "cut.mp4,dark,0,2", *(f"{path},dark,0,2" for path in bad_files.values())]
    result = evaluate(videos / "run.ckpt", manifest(tmp_path, rows), root=videos, timeline=True, out=tmp_path, **QUICK)
    assert [video.path for video in result.videos] == ["a.mp4", "b.mp4", "c.mp4"]
    failures = dict(result.failures)
    assert failures.keys() == {"cut.mp4", *map(str, bad_files.values())}
    assert failures["cut.mp4"].startswith("can be read only up to ")
    report = json.loads((tmp_path / "report.json").read_text())
    assert [each["path"] for each in report["undecodable_videos"]] == list(failures)
    assert "`cut.mp4`: can be read only up to" in (tmp_path / "report.md").read_text()
    with caplog.at_level(logging.WARNING):
        evaluate(
            brightness_network(),
            manifest(videos, ["a.mp4,bright,2,5"], "same.csv"),
            timeline=True,
            calibrate_on=manifest(videos, ["a.mp4,bright,2,5", "cut.mp4,dark,0,2"], "val.csv"),
            choose_threshold="f1",
            **QUICK,
        )
    assert "cut.mp4 is not used to choose thresholds: can be read only up to" in caplog.text
    with caplog.at_level(logging.WARNING):
        rows = ["a.mp4,bright,2,5", "a.mp4,dark,7.5,9", "cut.mp4,dark,7.5,9"]
        late = evaluate(videos / "run.ckpt", manifest(videos, rows, "late.csv"), timeline=True, **QUICK)
    assert "a.mp4: 1 labelled segment(s) begin after the end of the video, and are left out." in caplog.text
    assert "cut.mp4: left out labelled segments" not in caplog.text  # where a damaged video ends is not known
    assert late.videos[0].truth == [(2.0, 5.0, "bright")]


def test_a_single_label_network_has_its_best_class(figures: Path, make_video: Callable[..., Path]) -> None:
    model = build_model("tiny", labels=["x", "y"], clip={"num_frames": 4, "crop_px": 24})
    folder = make_video(61).parent
    result = evaluate(model, manifest(folder, ["61_at_25.mp4,y,0.5,1.5"]), timeline=True, **QUICK)
    assert result.thresholds == [0.0, 0.0]
    [video] = result.videos
    covered = [(each.start_seconds, each.end_seconds) for each in video.segments]
    assert covered[0][0] == 0
    assert all(end == start for (_, end), (start, _) in pairwise(covered))
    assert {each.label for each in result.hard_negatives() if each.error == "false_positive"} <= {"x", "y"}


def test_a_single_label_network_detects_a_class_where_it_is_the_best() -> None:
    windows, probabilities = np.array([[0.0, 2.0], [1.0, 3.0]]), np.array([[0.6, 0.4], [0.3, 0.7]], np.float32)
    times, cells = to_cells(windows[:, 0], windows[:, 1], probabilities)
    video = VideoTimeline("v", [TrueSegment(0.5, 3, "y")], [], times, cells, windows, probabilities)
    result = TimelineResult(["x", "y"], "single_label", [video], [], TimelineOptions(), [0.0, 0.0])
    assert result.delays().seconds.tolist() == [2.5]
    many = replace(result, task="multilabel")
    assert many.delays().seconds.tolist() == [1.5]


def test_a_manifest_of_nothing_measures_false_alarms(videos: Path, tmp_path: Path) -> None:
    result = evaluate(
        videos / "run.ckpt", manifest(videos, ["c.mp4,,,"], "nothing.csv"), timeline=True, out=tmp_path, **QUICK
    )
    report = result.to_dict()
    assert report["average_precision"]["activitynet"]["mean"]["value"] is None
    assert report["false_alarms_per_hour"] == pytest.approx(2 / result.hours)
    assert report["delay"]["detected"] == report["delay"]["missed"] == 0
    assert "| average mAP, tIoU 0.5 to 0.95 | - |" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_clips": 3}, "num_clips does not apply with timeline: windows slide over the whole video"),
        ({"views_aggregation": "max"}, "views_aggregation does not apply with timeline"),
        ({"whole_videos": True}, "whole_videos does not apply with timeline: timelines are always of whole videos"),
        ({"devices": 2}, "devices does not apply with timeline: timelines are made on one device. Leave devices out"),
        ({"batch_size": 2}, "batch_size does not apply with timeline"),
        ({"num_workers": 2}, "num_workers does not apply with timeline"),
        ({"restrict_labels": True}, "restrict_labels does not apply with timeline"),
        ({"calibrate_on": "val.csv"}, "calibrate_on does not apply with timeline: without choose_threshold"),
        ({"choose_threshold": "f1"}, "choose_threshold is 'f1', but calibrate_on is not set"),
        ({"num_crops": 0}, "num_crops is 0; it must be at least 1"),
        ({"accelerator": "tpu"}, "accelerator is 'tpu'; with timeline, give auto, cpu or gpu"),
        ({"precision": "64"}, "precision is 64; it must be one of"),
        (
            {"calibrate_on": "m.csv", "choose_threshold": "f1", "timeline": TimelineOptions(threshold=0.3)},
            r"choose_threshold and threshold \(0.3\) are both set",
        ),
    ],
)
def test_options_that_do_not_apply(options: dict, message: str, videos: Path) -> None:
    with pytest.raises(FarfieldError, match=message):
        evaluate(brightness_network(), manifest(videos), **{"timeline": True, **QUICK, **options})


def test_manifests_and_networks_that_do_not_fit(videos: Path) -> None:
    network = brightness_network()
    with pytest.raises(FarfieldError, match=r"whole\.csv has no segments, but timelines are compared with labelled"):
        evaluate(network, manifest(videos, ["a.mp4,dark,,"], "whole.csv"), timeline=True, **QUICK)
    with pytest.raises(FarfieldError, match="has the label 'drak', which is not one of the 4 classes"):
        evaluate(network, manifest(videos, ["a.mp4,drak,0,1"], "typo.csv"), timeline=True, **QUICK)
    heads = build_model("tiny", labels=["v:a", "v:b", "n:c", "n:d"], task="multi_head")
    with pytest.raises(FarfieldError, match="timeline does not support 'multi_head'"):
        evaluate(heads, manifest(videos), timeline=True, **QUICK)
    of_whole = brightness_network(sampling="segments")
    with pytest.raises(FarfieldError, match=r"no window length of its own\. Give window_seconds"):
        evaluate(of_whole, manifest(videos), timeline=True, **QUICK)
