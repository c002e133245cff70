from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.via import read_via
from farfield.curation.index import index_videos
from farfield.data.manifest import read_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

ATTRIBUTES = {
    "1": {"aname": "act", "anchor_id": "FILE1_Z2_XY0", "type": 4, "options": {"0": "jump", "1": "run"}},
    "2": {"aname": "object", "anchor_id": "FILE1_Z1_XY1", "type": 1, "options": {}},
    "3": {"aname": "scene", "anchor_id": "FILE1_Z0_XY0", "type": 2, "options": {"1": "indoor", "2": "night"}},
    "4": {"aname": "note", "anchor_id": "FILE1_Z2_XY0", "type": 1, "options": {}},
}


def metadata(view: str, z: list[float], xy: list[float] = [], **values: str) -> dict[str, Any]:  # noqa: B006
    return {
        "vid": view,
        "flg": 0,
        "z": z,
        "xy": xy,
        "av": {name.removeprefix("a"): text for name, text in values.items()},
    }


def source(tmp_path: Path, *entries: dict[str, Any], **options: Any) -> AnnotationSource:
    (tmp_path / "videos").mkdir(exist_ok=True)
    for name in ("a.mp4", "b c.mp4"):
        (tmp_path / "videos" / name).touch()
    files = {
        "1": {"fid": "1", "fname": "a.mp4", "type": 4, "loc": 1, "src": ""},
        "2": {"fid": 2, "fname": "second", "type": 4, "loc": 2, "src": "https://example.org/x/b%20c.mp4"},
        "3": {"fid": 3, "fname": "gone.mp4", "type": 4, "loc": 3, "src": "/elsewhere/gone.mp4"},
        "4": {"fid": 4, "fname": "still.png", "type": 2, "loc": 1, "src": ""},
    }
    project = {
        "project": {"pid": "__VIA_PROJECT_ID__", "data_format_version": "3.1.1", "vid_list": ["7", "8", "9"]},
        "attribute": ATTRIBUTES,
        "file": files,
        "view": {"7": {"fid_list": ["1"]}, "8": {"fid_list": [2]}, "9": {"fid_list": [3]}, "10": {"fid_list": [4]}},
        "metadata": {f"{entry['vid']}_{number}": entry for number, entry in enumerate(entries)},
    }
    project["view"]["11"] = {"fid_list": [1, 2]}  # type: ignore[index]
    (tmp_path / "project.json").write_text(json.dumps(project))
    return AnnotationSource(tmp_path / "videos", tmp_path / "project.json", **options)


def test_segments_are_in_seconds(tmp_path: Path) -> None:
    given = source(
        tmp_path,
        metadata("7", [2, 6.5], a1="1"),
        metadata("7", [0.25, 1], a1="0"),
        metadata("7", [0.917], [2, 26, 18, 17, 13], a2="ball"),
        metadata("8", [3, 3], a1="0"),
        metadata("8", [4, 5], a1=""),
    )
    assert list(read_via(given)) == [VideoRecord("a.mp4", "jump", 0.25, 1), VideoRecord("a.mp4", "run", 2, 6.5)]
    assert given.left_out == [
        ("still.png", "it is not a video"),
        ("view 11", "it shows 2 files instead of one"),
        ("/x/b c.mp4", "its segment [3, 3] of jump is empty"),
        ("/elsewhere/gone.mp4", "it has no label"),
    ]


def test_label_column_chooses_an_attribute(tmp_path: Path) -> None:
    entries = metadata("7", [], a3="1,2"), metadata("8", [], a3="2"), metadata("9", [1, 2], a4=" so far ", a1="1")
    with pytest.raises(FarfieldError, match=r"has several attributes with labels: act, note, scene. Give label_column"):
        list(read_via(source(tmp_path, *entries)))
    rows = list(read_via(source(tmp_path, *entries, label_column="scene")))
    assert rows == [VideoRecord("a.mp4", "indoor|night"), VideoRecord("b c.mp4", "night")]
    assert list(read_via(source(tmp_path, *entries, label_column="note"))) == [VideoRecord("gone.mp4", "so far", 1, 2)]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (metadata("7", [1, 2], a1="5"), "metadata 7_0: act is '5', which is none of its options 0, 1"),
        (metadata("12", [1, 2], a1="1"), "vid is '12', but there is no such view"),
        (metadata("7", [1, 2], a9="1"), "there is no attribute '9'"),
        (metadata("7", ["1", "2"], a1="1"), "z is '1'; it must be a number"),  # type: ignore[list-item]
    ],
)
def test_mistakes_are_named(entry: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match=message):
        list(read_via(source(tmp_path, entry)))


def test_projects_of_via_2_are_refused(tmp_path: Path) -> None:
    (tmp_path / "project.json").write_text('{"_via_settings": {}, "_via_img_metadata": {}}')
    with pytest.raises(FarfieldError, match="is not a project of VIA 3"):
        list(read_via(AnnotationSource(tmp_path, tmp_path / "project.json")))


def test_exports_of_labelling_tools_are_indexed(
    tmp_path: Path, make_video: Callable[..., Path], run_farfield: Callable[..., int]
) -> None:
    """Labelling tools by the command line, and VIA by the function."""
    given = source(tmp_path, metadata("7", [0.5, 1], a1="0"), metadata("9", [0, 1], a1="1"))
    shutil.copy(make_video(40, fps=20), given.root / "a.mp4")
    made = index_videos(given.root, tmp_path / "m.csv", format="via", annotations=given.annotations, num_workers=1)
    [row] = read_manifest(tmp_path / "m.csv")
    assert (row.path, row.label, row.start_seconds, row.end_seconds, row.fps) == ("videos/a.mp4", "jump", 0.5, 1, 20)
    assert (str(given.root / "gone.mp4"), "there is no such file") in made.failures
    value = {"ranges": [{"start": 1, "end": 20}], "timelinelabels": ["jump"]}
    result = [{"from_name": "t", "type": "timelinelabels", "value": value}]
    task = {"id": 1, "data": {"clip": "/data/upload/1/0a0a0a0a-a.mp4"}, "annotations": [{"id": 1, "result": result}]}
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    words = ["--format=labelstudio", f"--annotations={tmp_path / 'tasks.json'}", "--columns=path=clip", "--fps=20"]
    assert run_farfield("data", "index", given.root, tmp_path / "n.csv", *words, "--num_workers=1") == 0
    [row] = read_manifest(tmp_path / "n.csv")
    assert (row.path, row.label, row.start_seconds, row.end_seconds) == ("videos/a.mp4", "jump", 0, 1)
