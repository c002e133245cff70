from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farfield.curation.folder_scan import SkippedFiles
from farfield.curation.formats.activitynet import read_activitynet
from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.data.manifest import read_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

DATABASE = {
    "sk4te_b0ard": {
        "duration": 12.2,
        "subset": "training",
        "resolution": "320x240",
        "url": "https://example.org/watch?v=sk4te_b0ard",
        "annotations": [
            {"segment": [0.01, 12.260135], "label": "Skating"},
            {"segment": [0, 0], "label": "Skating"},
            {"segment": [3, 5.5], "label": "Putting on shoes"},
        ],
    },
    "-wheel--w0b": {  # as in HACS: the duration is text
        "annotations": [{"label": "Skating", "segment": [5.4, 11.6]}],
        "subset": "training",
        "duration": "92.166667",
    },
    "video_check_0000364": {  # as in THUMOS14
        "subset": "Validation",
        "duration": 59.5,
        "fps": 30.0,
        "annotations": [
            {"label": "Juggling", "segment": [61.5, 66.5], "segment(frames)": [1845.0, 1995.0], "label_id": 2},
            {"label": "Juggling", "segment": [-0.5, 4.5], "segment(frames)": [0.0, 135.0], "label_id": 2},
        ],
    },
    "gone_-_gone": {"subset": "training", "annotations": [{"label": "Juggling", "segment": [1, 4.5]}]},
    "f0r_testing": {"duration": 7.5, "subset": "testing", "annotations": []},
}


@pytest.fixture
def source(tmp_path: Path) -> AnnotationSource:
    root = tmp_path / "videos"
    for name in ("a/v_sk4te_b0ard.mp4", "v_-wheel--w0b.mkv", "b/video_check_0000364.mp4", "v_unlisted_id.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    write(tmp_path / "a.json", {"version": "VERSION 0", "taxonomy": [], "database": DATABASE})
    return AnnotationSource(root, tmp_path / "a.json", skipped=SkippedFiles(keep_names=True))


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def test_one_row_per_segment(source: AnnotationSource) -> None:
    assert list(read_activitynet(source)) == [
        VideoRecord("a/v_sk4te_b0ard.mp4", "Skating", 0.01, 12.2, group="sk4te_b0ard"),
        VideoRecord("a/v_sk4te_b0ard.mp4", "Putting on shoes", 3, 5.5, group="sk4te_b0ard"),
        VideoRecord("v_-wheel--w0b.mkv", "Skating", 5.4, 11.6, group="-wheel--w0b"),
        VideoRecord("b/video_check_0000364.mp4", "Juggling", 0, 4.5, group="video_check_0000364"),
        VideoRecord("gone_-_gone.mp4", "Juggling", 1, 4.5, group="gone_-_gone"),
    ]
    assert source.left_out == [
        ("sk4te_b0ard", "the segment [0, 0) of 'Skating' is empty"),
        ("video_check_0000364", "the segment [61.5, 66.5) of 'Juggling' lies outside the video of 59.5 s"),
        ("f0r_testing", "it has no label"),
    ]
    assert [(Path(path).name, reason.name) for path, reason in source.skipped.names] == [
        ("v_unlisted_id.mp4", "NOT_ANNOTATED")
    ]


def test_a_subset_is_read_by_its_exact_name(source: AnnotationSource) -> None:
    source.subset = "Validation"
    assert [record.label for record in read_activitynet(source)] == ["Juggling"]
    source.subset = "validation"
    with pytest.raises(
        FarfieldError,
        match=r"a\.json has no video of the subset 'validation'\. "
        r"Known: Validation, testing, training\. Did you mean 'Validation'\?",
    ):
        list(read_activitynet(source))


def test_a_video_that_is_there_twice_is_left_out(source: AnnotationSource) -> None:
    (source.root / "sk4te_b0ard.mp4").touch()
    (source.root / "b/v_-wheel--w0b.mp4").touch()
    assert len(list(read_activitynet(source))) == 2
    assert source.left_out[:2] == [
        ("sk4te_b0ard", "two videos have this id: v_sk4te_b0ard and sk4te_b0ard"),
        ("v_-wheel--w0b", "several videos have this name: b/v_-wheel--w0b.mp4, v_-wheel--w0b.mkv"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"results": {}}, r"a\.json has no object 'database' with an entry for each video\. Give ActivityNet's JSON"),
        ([], "has no object 'database'"),
        ({"database": {"x": [1]}}, r"a\.json, video 'x': the entry is \[1\]; it must be an object"),
        (
            {"database": {"x": {"annotations": {"label": "a"}}}},
            "video 'x': annotations must be a list of objects with the keys 'label' and 'segment'",
        ),
        (
            {"database": {"x": {"annotations": [{"label": "a", "segment": [1, "2,5"]}]}}},
            r"video 'x', annotation 1: segment is \[1, '2,5'\]; it must be \[start, end\] in seconds",
        ),
        (
            {"database": {"x": {"annotations": [{"label": 3, "segment": [1, 2]}]}}},
            "video 'x', annotation 1: label is 3; it must be the name of a class",
        ),
        ({"database": {"x": {"annotations": [7]}}}, "annotation 1: label is None"),
        (
            {"database": {"x": {"duration": "1:30", "annotations": [{"label": "a", "segment": [1, 2]}]}}},
            "video 'x': duration is '1:30'; it must be a number of seconds",
        ),
    ],
)
def test_mistakes_are_named(content: Any, message: str, source: AnnotationSource) -> None:
    write(source.annotations, content)
    with pytest.raises(FarfieldError, match=message):
        list(read_activitynet(source))


def test_other_text_is_refused(source: AnnotationSource) -> None:
    source.annotations.write_text("id,label\n")
    with pytest.raises(FarfieldError, match=r"a\.json cannot be read: it is not JSON \(line 1, column 1\)\. Give"):
        list(read_activitynet(source))


def test_the_command_reads_a_subset(
    source: AnnotationSource,
    tmp_path: Path,
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(make_video(40, fps=5), source.root / "a/v_sk4te_b0ard.mp4")
    shutil.copy(make_video(40, fps=5), source.root / "v_-wheel--w0b.mkv")
    words = ["data", "index", source.root, tmp_path / "m.csv", "--format=activitynet", "--annotations"]
    assert run_farfield(*words, source.annotations, "--subset=training", "--num_workers=1") == 1
    assert [(row.label, row.start_seconds, row.group) for row in read_manifest(tmp_path / "m.csv")] == [
        ("Skating", 0.01, "sk4te_b0ard"),
        ("Putting on shoes", 3, "sk4te_b0ard"),
        ("Skating", 5.4, "-wheel--w0b"),
    ]
    error = capsys.readouterr().err
    assert "left out: sk4te_b0ard: the segment [0, 0) of 'Skating' is empty" in error
    assert "gone_-_gone.mp4: there is no such file" in error
    assert run_farfield(*words, source.annotations, "--subset=testing") == 2
    assert "no annotated video can be used (1 left out). The first is f0r_testing: it has no" in capsys.readouterr().err
