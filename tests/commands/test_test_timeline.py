"""`farfield test --timeline` on real videos."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield import load_model, save_model
from multilabel import brightness_network, write_stripes

Run = Callable[..., int]


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a video, its labelled segments, and a run's folder."""
    folder = tmp_path_factory.mktemp("stripes")
    write_stripes(folder / "a.mp4")
    rows = ["path,label,start_seconds,end_seconds", "a.mp4,dark,0,2", "a.mp4,bright,2,5", "a.mp4,dark,5,7"]
    (folder / "m.csv").write_text("\n".join(rows) + "\n")
    save_model(brightness_network(), folder / "run/checkpoints/best.ckpt")
    return folder


def words(folder: Path, *more: object) -> list[object]:
    checkpoint = folder / "run/checkpoints/best.ckpt"
    return ["test", "--checkpoint", checkpoint, "--data.manifest", folder / "m.csv", "--accelerator", "cpu", *more]


@pytest.mark.slow
def test_prints_metrics_and_writes_a_report_beside_that_of_clips(
    stripes: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    hard = stripes / "new/hard.csv"
    assert run_farfield(*words(stripes, "--timeline", "--hop_seconds", 0.1, "--write_hard_negatives", hard)) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == "1 videos, 0.00 hours, 3 labelled and 4 found segments"
    assert lines[1].endswith(" windows of 0.35 s, one every 0.1 s")
    assert "mAP at tIoU 0.5                100.00%" in lines
    assert ["labelled", "segments", "detected", "3", "of", "3"] in [line.split() for line in lines]
    folder = stripes / "run/test_timeline"
    assert lines[-1] == f"report: {folder / 'report.md'}"
    report = json.loads((folder / "report.json").read_text())
    assert not (stripes / "run/test").exists()
    with hard.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["path"], row["label"], row["error"]) for row in rows} == {("a.mp4", "picture", "false_positive")}
    assert f"{hard}: windows that were scored wrongly: {len(rows)}" in captured.err
    assert run_farfield(*words(stripes, "--timeline", "--hop_seconds", 0.1, "--json", "--out", stripes / "again")) == 0
    assert json.loads(capsys.readouterr().out) == report


@pytest.mark.slow
def test_thresholds_are_kept_and_options_of_segments_given(
    stripes: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--calibrate_on", stripes / "m.csv", "--choose_threshold", "f1", "--hop_seconds", 0.2]
    per_class = ["--min_seconds", "{dark: 0.5, bright: 2}", "--hysteresis", 0.8, "--max_gap_seconds", 0.3]
    assert run_farfield(*words(stripes, "--timeline", *options, *per_class)) == 0
    captured = capsys.readouterr()
    assert "thresholds by the rule f1: written into" in captured.out
    assert "2 of 4 classes got no threshold: none satisfies the rule on the validation videos" in captured.out
    assert "lists the tested videos" in captured.err
    point = load_model(stripes / "run/checkpoints/best.ckpt").timeline_operating_point
    assert point is not None
    report = json.loads((stripes / "run/test_timeline/report.json").read_text())
    assert report["operating_point"] == point.to_dict() | {"without_threshold": ["picture", "fire"]}
    assert report["timeline"]["min_seconds"] == {"dark": 0.5, "bright": 2.0}
    assert (report["timeline"]["hysteresis"], report["timeline"]["max_gap_seconds"]) == (0.8, 0.3)
    text = (stripes / "run/test_timeline/report.md").read_text()
    assert "- min seconds: `{'dark': 0.5, 'bright': 2.0}`" in text
    assert "The thresholds were chosen by the rule `f1` on the timelines of 1 validation videos. These classes" in text
    assert "- threshold: that of each class, below" in text


@pytest.mark.slow
def test_says_so_if_no_segment_is_found(stripes: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--timeline", "--min_seconds", 100, "--out", stripes / "nothing"]
    assert run_farfield(*words(stripes, *options)) == 0
    assert "no class reaches its threshold for long enough. Train longer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--hop_seconds", 0.1], "--hop_seconds only applies with --timeline. Add --timeline"),
        (["--min_seconds", "{dark: 1}"], "--min_seconds only applies with --timeline"),
        (
            ["--write_hard_negatives", "h.csv"],
            "--write_hard_negatives needs the windows of a timeline. Add --timeline.",
        ),
        (["--timeline", "--num_clips", 3], "num_clips does not apply with timeline"),
        (["--timeline", "--data.whole_videos", "true"], "whole_videos does not apply with timeline"),
        (["--timeline", "--devices", 2], "devices does not apply with timeline: timelines are made on one device"),
        (
            ["--timeline", "--min_seconds", "{drak: 1}"],
            "min_seconds is set for the label 'drak', which is not a class of the network",
        ),
        (["--timeline", "--hop", 3], "no option hop"),
    ],
)
def test_mistakes(
    more: list[object], message: str, stripes: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_farfield(*words(stripes, *more)) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_refused_before_the_test(
    stripes: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, message in [
        (stripes / "m.csv/hard.csv", "cannot be written"),
        (stripes, "which is a folder"),
        (stripes / "m.csv", "which exists and is not a file of wrongly scored windows"),
    ]:
        out = stripes / "never"
        assert run_farfield(*words(stripes, "--timeline", "--write_hard_negatives", place, "--out", out)) == 2
        assert message in capsys.readouterr().err
        assert not out.exists()
