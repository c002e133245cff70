"""Files as FiftyOne 1.22.1 writes them (`to_video_labels` and `LabeledDatasetIndex`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.fiftyone import read_fiftyone
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError


def attribute(value: Any, name: str = "action", kind: str = "Categorical") -> dict[str, Any]:
    return {"type": f"eta.core.data.{kind}Attribute", "name": name, "value": value, "confidence": 0.3}


def event(label: str | None, ranges: Any, name: str | None = "events") -> dict[str, Any]:
    about = {"type": "eta.core.events.VideoEvent", "label": label, "confidence": 0.9, "support": {"ranges": ranges}}
    return about if name is None else about | {"name": name}


def labels(*entries: dict[str, Any]) -> dict[str, Any]:
    attrs = [entry for entry in entries if "value" in entry]
    events = [entry for entry in entries if "value" not in entry]
    content: dict[str, Any] = {"frames": {"3": {"frame_number": 3, "objects": {"objects": []}}}}
    content |= {"attrs": {"attrs": attrs}} if attrs else {}
    return content | ({"events": {"events": events}} if events else {})


def source(tmp_path: Path, videos: dict[str, dict[str, Any]], **options: Any) -> AnnotationSource:
    """Write an export; the videos lie elsewhere, too, in tmp_path/videos."""
    export = tmp_path / "export"
    for folder in ("labels", "data"):
        (export / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "videos/more").mkdir(parents=True, exist_ok=True)
    index = []
    for name, content in videos.items():
        (tmp_path / "videos/more" / f"{name}.mp4").touch()
        (export / "labels" / f"{name}.json").write_text(json.dumps(content))
        index.append({"data": f"data/{name}.mp4", "labels": f"labels/{name}.json"})
    about = {"type": "eta.core.datasets.LabeledVideoDataset", "description": "", "index": index}
    (export / "manifest.json").write_text(json.dumps(about))
    return AnnotationSource(tmp_path / "videos", export, **{"fps": 10, **options})


def test_events_are_segments_from_frame_1_with_the_last_frame(tmp_path: Path) -> None:
    videos = {
        "a": labels(event("jump & <run>", "1-50"), event("fall", "20-70,81")),
        "b": labels(event("fall", [[11, 20]], None), event(" ", "1-2")),
        "c": labels(),
    }
    given = source(tmp_path, videos)
    assert list(read_fiftyone(given)) == [
        VideoRecord("more/a.mp4", "jump & <run>", 0, 5),
        VideoRecord("more/a.mp4", "fall", 1.9, 7),
        VideoRecord("more/a.mp4", "fall", 8, 8.1),
        VideoRecord("more/b.mp4", "fall", 1, 2),
    ]
    assert given.left_out == [("data/c.mp4", "it has no label")]
    rows = list(read_fiftyone(source(tmp_path, {"c": labels()}, unlabelled_as_none=True)))
    assert rows == [VideoRecord("more/c.mp4", "")]


def test_attributes_label_whole_videos(tmp_path: Path) -> None:
    numbers = attribute(3.5, "weight", "Numeric"), attribute(True, "outdoors", "Boolean")
    videos = {"a": labels(attribute("jump"), attribute("run"), *numbers), "b": labels(*numbers)}
    given = source(tmp_path, videos)
    assert list(read_fiftyone(given)) == [VideoRecord("more/a.mp4", "jump|run")]
    assert [name for name, _ in given.left_out] == ["data/b.mp4"]


def test_label_column_chooses_a_field(tmp_path: Path) -> None:
    videos = {"a": labels(attribute("run"), event("jump", "1-10"), event("fall", "1-10", "guess"))}
    with pytest.raises(FarfieldError, match="several fields with labels: action, events, guess"):
        list(read_fiftyone(source(tmp_path, videos)))
    for field, label in (("action", "run"), ("events", "jump"), ("guess", "fall")):
        assert [row.label for row in read_fiftyone(source(tmp_path, videos, label_column=field))] == [label]


@pytest.mark.parametrize(
    ("entry", "options", "message"),
    [
        (event("jump", "1 to 2"), {}, "the frames of an event are '1 to 2'; they must have the form '1-50'"),
        (event("jump", ""), {}, "the frames of an event are ''; they must have the form"),
        (event("jump", [[1, 2, 3]]), {}, r"the frames of an event are \[\[1, 2, 3\]\]"),
        (event("jump", "0-2"), {}, r"support is \[0, 2\]\. Frames are counted from 1"),
        (event(None, "1-2"), {}, "label is None; it must be text"),
        (event("jump", "1-2"), {"subset": "train"}, r"has no tags\. Leave subset out"),
    ],
)
def test_mistakes_are_named(entry: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match=message):
        list(read_fiftyone(source(tmp_path, {"a": labels(entry)}, **options)))


def test_a_missing_file_of_labels_is_named(tmp_path: Path) -> None:
    given = source(tmp_path, {"a": labels()})
    (tmp_path / "export/labels/a.json").unlink()
    with pytest.raises(
        FarfieldError, match=r"there is no file .*a\.json\. Give manifest\.json in the folder of an export"
    ):
        list(read_fiftyone(given))


def test_a_folder_must_have_one_of_the_files(tmp_path: Path) -> None:
    given = source(tmp_path, {"a": labels()})
    (tmp_path / "export/labels.json").write_text("{}")
    with pytest.raises(
        FarfieldError, match=r"has labels\.json and manifest\.json; it must have exactly one of these files"
    ):
        list(read_fiftyone(given))
