from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.fiftyone import read_fiftyone
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError


def event(label: str, first: int, last: int) -> dict[str, Any]:
    return {"_id": {"$oid": "0"}, "_cls": "TemporalDetection", "tags": [], "label": label, "support": [first, last]}


def events(*items: dict[str, Any]) -> dict[str, Any]:
    return {"_cls": "TemporalDetections", "detections": list(items)}


def classes(*labels: str | None) -> dict[str, Any]:
    items = [{"_cls": "Classification", "label": label, "confidence": None} for label in labels]
    return {"_cls": "Classifications", "classifications": items, "logits": None}


def sample(name: str, rate: float | None = None, tags: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    metadata = None if rate is None else {"_cls": "VideoMetadata", "frame_rate": rate, "total_frame_count": 90}
    return {"filepath": f"data/{name}", "tags": list(tags), "metadata": metadata, "_media_type": "video", **fields}


def source(tmp_path: Path, content: Any, name: str = "samples.json", **options: Any) -> AnnotationSource:
    for video in ("a.mp4", "b.avi", "more/c.mp4"):
        (tmp_path / "data" / video).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / video).touch()
    (tmp_path / name).write_text(json.dumps(content))
    return AnnotationSource(tmp_path / "data", tmp_path / name, **options)


def test_temporal_detections_count_from_frame_1_and_include_the_last(tmp_path: Path) -> None:
    samples = [
        sample("a.mp4", 10, events=events(event("jump", 1, 5), event("run", 6, 6))),
        sample("b.avi", events=event("jump", 21, 40)),
        sample("more/c.mp4", events=None),
    ]
    given = source(tmp_path, {"samples": samples}, fps=20)
    assert list(read_fiftyone(given)) == [
        VideoRecord("a.mp4", "jump", 0, 0.5),
        VideoRecord("a.mp4", "run", 0.5, 0.6),
        VideoRecord("b.avi", "jump", 1, 2),
    ]
    assert given.left_out == [("data/more/c.mp4", "it has no label")]


def test_frames_are_those_of_the_video_without_another_rate(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    (tmp_path / "real").mkdir()
    shutil.copy(make_video(20, fps=8), tmp_path / "real/a.mp4")
    content = {"labels": {"a": [{"label": "jump", "support": [5, 8]}], "gone": [{"label": "run", "support": [1, 2]}]}}
    given = source(tmp_path, content, "labels.json")
    given.root = tmp_path / "real"
    found, missing = read_fiftyone(given)
    assert (found.path, found.start_seconds, found.end_seconds) == ("a.mp4", pytest.approx(0.5), pytest.approx(1))
    assert missing.path == "gone.mp4"  # for `index_videos` to report


def test_classifications_label_whole_videos(tmp_path: Path) -> None:
    samples = [
        sample(
            "a.mp4", tags=("train",), act=classes("jump", "run", None), boxes={"_cls": "Detections", "detections": []}
        ),
        sample("b.avi", tags=("train",), act={"_cls": "Classification", "label": "run"}),
        sample("more/c.mp4", tags=("test", "train"), act={"_cls": "Classification", "label": None}),
        sample("d.mp4", tags=("test",), act=classes("run")),
    ]
    given = source(tmp_path, {"samples": samples}, subset="train")
    given.annotations = tmp_path  # the folder of the export
    assert list(read_fiftyone(given)) == [VideoRecord("a.mp4", "jump|run"), VideoRecord("b.avi", "run")]
    assert given.left_out == [("data/more/c.mp4", "it has no label")]
    with pytest.raises(FarfieldError, match=r"subset is 'val', but no sample of .* has this tag"):
        list(read_fiftyone(source(tmp_path, {"samples": samples}, subset="val")))


def test_label_column_chooses_a_field(tmp_path: Path) -> None:
    content = {"samples": [sample("a.mp4", truth=classes("run"), predictions=classes("jump"))]}
    with pytest.raises(FarfieldError, match=r"has several fields with labels: predictions, truth. Give label_column"):
        list(read_fiftyone(source(tmp_path, content)))
    assert [row.label for row in read_fiftyone(source(tmp_path, content, label_column="truth"))] == ["run"]


def test_temporal_detection_datasets_have_names_without_suffix(tmp_path: Path) -> None:
    labels = {
        "a": [{"label": 1, "support": [1, 10]}, {"label": 0, "timestamps": [0.25, 0.75]}],
        "more/c": None,
        "b": [{"label": 0, "timestamps": [0, 2], "confidence": None}],
    }
    given = source(tmp_path, {"classes": ["jump", "run"], "labels": labels}, "labels.json", fps=10)
    assert list(read_fiftyone(given)) == [
        VideoRecord("a.mp4", "run", 0, 1),
        VideoRecord("a.mp4", "jump", 0.25, 0.75),
        VideoRecord("b.avi", "jump", 0, 2),
    ]
    assert given.left_out == [("more/c", "it has no label")]
    plain = {"labels": {"a": [{"label": "jump", "timestamps": [0, 2]}]}}
    assert [row.label for row in read_fiftyone(source(tmp_path, plain, "labels.json"))] == ["jump"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ({"samples": [sample("a.mp4", 0, x=event("j", 1, 2))]}, {}, "frame_rate is 0.0; it must be above 0"),
        ({"samples": [sample("a.mp4", 9, x=event("j", 0, 2))]}, {}, r"support is \[0, 2\]\. Frames are counted from 1"),
        (
            {"samples": [sample("a.mp4", 9, x=event("j", 3, 2))]},
            {},
            r"support is \[3, 2\]\. .*must not be above the last",
        ),
        ({"samples": [sample("a.mp4"), sample("a.mp4")]}, {}, "has two samples of data/a.mp4"),
        ({"samples": [{"tags": []}]}, {}, "sample 1: filepath is None; it must be text"),
        (
            {"classes": ["jump"], "labels": {"a": [{"label": 1}]}},
            {},
            "the label is 1; it must be below the number of classes, 1",
        ),
        (
            {"labels": {"a": [{"label": "j", "timestamps": [2, 2]}]}},
            {},
            r"timestamps is \[2, 2\]; it must be \[start, end\]",
        ),
        (
            {"labels": {}},
            {"subset": "train"},
            "is in a format without tags and fields. Leave subset out",
        ),
        (
            {"type": "eta.core.datasets.LabeledImageDataset", "index": []},
            {},
            "has the keys type, index; it needs 'samples', 'labels'",
        ),
    ],
)
def test_mistakes_are_named(content: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match=message):
        list(read_fiftyone(source(tmp_path, content, **options)))
