from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.labelstudio import read_labelstudio
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError


def timeline(label: str | list[str], start: int, end: int, control: str = "actions") -> dict[str, Any]:
    labels = [label] if isinstance(label, str) else label
    value = {"ranges": [{"start": start, "end": end}], "timelinelabels": labels}
    return {"id": f"r{start}", "from_name": control, "to_name": "v", "type": "timelinelabels", "value": value}


def choices(*labels: str, control: str = "whole") -> dict[str, Any]:
    return {"from_name": control, "to_name": "v", "type": "choices", "value": {"choices": list(labels)}}


def annotation(*results: dict[str, Any], cancelled: bool = False, truth: bool = False) -> dict[str, Any]:
    return {"id": 1, "completed_by": 2, "result": list(results), "was_cancelled": cancelled, "ground_truth": truth}


def task(video: str, *annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {"id": 9, "data": {"video": video, **data}, "annotations": list(annotations), "predictions": []}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    names = "plain.mp4", "1a2b3c4d-kept.mp4", "kept.mp4", "my clip (2).mp4", "left/twin.mp4", "right/twin.mp4", "ü.mp4"
    for name in names:
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    return tmp_path / "videos"


def source(root: Path, tasks: Any, **options: Any) -> AnnotationSource:
    (root.parent / "export.json").write_text(json.dumps(tasks))
    return AnnotationSource(root, root.parent / "export.json", **options)


def test_a_range_is_counted_from_frame_1_and_includes_its_end(root: Path) -> None:
    results = timeline("run", 6, 10), timeline("jump", 1, 5), timeline(["run", "fall"], 11, 11)
    boxes = {"type": "videorectangle", "from_name": "box", "value": {"sequence": [], "labels": ["person"]}}
    given = source(root, [task("/data/upload/3/0a1b2c3d-plain.mp4", annotation(*results, boxes), by="p7")], fps=10)
    given.columns = {"group": "by"}
    assert list(read_labelstudio(given)) == [
        VideoRecord("plain.mp4", "jump", 0, 0.5, group="p7"),
        VideoRecord("plain.mp4", "run", 0.5, 1, group="p7"),
        VideoRecord("plain.mp4", "run|fall", 1, 1.1, group="p7"),
    ]


def test_choices_label_the_whole_video_without_fps(root: Path) -> None:
    given = source(root, [task("plain.mp4", annotation(choices("run", "jump")))])
    assert list(read_labelstudio(given)) == [VideoRecord("plain.mp4", "run|jump")]


def test_videos_are_found_by_the_name_before_the_upload(root: Path) -> None:
    videos = [
        "/data/upload/3/1a2b3c4d-kept.mp4",  # a file has this name exactly
        "/data/upload/3/9f9f9f9f-kept.mp4",
        "/data/upload/3/5e5e5e5e-my_clip_2.mp4",  # blanks and brackets were replaced
        "/label_studio/data/local-files/?d=some/where/right/twin.mp4",
        "s3://bucket/left/twin.mp4",
        "https://example.org/%C3%BC.mp4?signature=x",
        "/data/upload/3/77777777-gone.mp4",
    ]
    given = source(root, [task(video, annotation(choices("run"))) for video in videos])
    assert [row.path for row in read_labelstudio(given)] == [
        "1a2b3c4d-kept.mp4",
        "kept.mp4",
        "my clip (2).mp4",
        "right/twin.mp4",
        "left/twin.mp4",
        "ü.mp4",
        "gone.mp4",
    ]
    assert given.left_out == []


def test_names_that_fit_several_videos_or_the_same_one_are_left_out(root: Path) -> None:
    videos = (
        "/data/upload/3/5a5a5a5a-twin.mp4",
        "/data/upload/3/5b5b5b5b-plain.mp4",
        "/data/upload/3/5c5c5c5c-plain.mp4",
    )
    urls = f"https://example.org{videos[0]}?signature=secret", *videos[1:]
    given = source(root, [task(url, annotation(choices("run"))) for url in urls])
    assert list(read_labelstudio(given)) == []
    assert given.left_out == [
        (videos[0], "several videos have this name: left/twin.mp4, right/twin.mp4"),
        (videos[1], f"the only video of this name, plain.mp4, may also belong to {videos[2]}"),
        (videos[2], f"the only video of this name, plain.mp4, may also belong to {videos[1]}"),
    ]


def test_annotators_must_agree_unless_one_is_ground_truth(root: Path) -> None:
    run, jump = annotation(choices("run")), annotation(choices("jump"))
    given = source(
        root,
        [
            task("plain.mp4", run, run, annotation(choices("fall"), cancelled=True)),
            task("kept.mp4", run, jump),
            task("ü.mp4", run, annotation(choices("jump"), truth=True)),
            task("left/twin.mp4", annotation(cancelled=True)),
            task("right/twin.mp4", annotation()),
            task("my clip (2).mp4"),
        ],
    )
    assert [(row.path, row.label) for row in read_labelstudio(given)] == [("plain.mp4", "run"), ("ü.mp4", "jump")]
    assert given.left_out == [
        ("kept.mp4", "its 2 annotations differ; mark the right one as ground truth"),
        ("left/twin.mp4", "its annotation was cancelled"),
        ("right/twin.mp4", "it has no label"),
        ("my clip (2).mp4", "it has no label"),
    ]


def test_each_task_may_say_its_frame_rate(root: Path) -> None:
    tasks = [
        task("plain.mp4", annotation(timeline("run", 6, 10)), rate=10),
        task("ü.mp4", annotation(timeline("run", 6, 10)), rate="5"),
        task("kept.mp4", annotation(timeline("run", 6, 10))),
    ]
    given = source(root, tasks, fps=20, columns={"fps": "rate"})
    spans = [(row.path, row.start_seconds, row.end_seconds) for row in read_labelstudio(given)]
    assert spans == [("plain.mp4", 0.5, 1), ("ü.mp4", 1, 2), ("kept.mp4", 0.25, 0.5)]


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_task_may_have_no_group(root: Path, nothing: str | None) -> None:
    tasks = [task("plain.mp4", annotation(choices("run")), by=nothing), task("ü.mp4", annotation(choices("run")), by=7)]
    given = source(root, tasks, columns={"group": "by"})
    assert [row.group for row in read_labelstudio(given)] == [None, "7"]


def test_only_a_submitted_annotation_says_that_nothing_happens(root: Path) -> None:
    tasks = [
        task("plain.mp4", annotation(), by="p7"),
        task("ü.mp4"),
        task("left/twin.mp4", annotation(cancelled=True)),
        task("right/twin.mp4", annotation(), annotation(choices("run"))),
    ]
    given = source(root, tasks, unlabelled_as_none=True, columns={"group": "by"})
    assert list(read_labelstudio(given)) == [VideoRecord("plain.mp4", "", group="p7")]
    assert given.left_out == [
        ("ü.mp4", "it has no label"),
        ("left/twin.mp4", "its annotation was cancelled"),
        ("right/twin.mp4", "its 2 annotations differ; mark the right one as ground truth"),
    ]


def test_label_column_chooses_a_control(root: Path) -> None:
    tasks = [task("plain.mp4", annotation(choices("run"), choices("good", control="quality"), timeline("jump", 1, 4)))]
    with pytest.raises(FarfieldError, match=r"has several controls with labels: actions, quality, whole. Give label_c"):
        list(read_labelstudio(source(root, tasks)))
    rows = read_labelstudio(source(root, tasks, label_column="quality"))
    assert [row.label for row in rows] == ["good"]
    with pytest.raises(FarfieldError, match=r"has no control 'qualty' with labels. .*Did you mean 'quality'"):
        list(read_labelstudio(source(root, tasks, label_column="qualty")))


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        ([task("plain.mp4", annotation(timeline("run", 1, 2)))], {}, "format='labelstudio' needs the labelling tool's"),
        ([task("plain.mp4", annotation(timeline("run", 1, 2)))], {"fps": 0}, "fps is 0; it must be above 0"),
        (
            [task("plain.mp4", annotation(timeline("run", 0, 2)))],
            {"fps": 9},
            r"is \[0, 2\]\. Frames are counted from 1",
        ),
        ([task("plain.mp4", annotation(timeline("a|b", 1, 2)))], {"fps": 9}, "the label 'a|b' contains '|'"),
        ([task("plain.mp4", annotation({"type": "choices", "from_name": "w"}))], {}, "is None; it must be an object"),
        (
            [{"video": "plain.mp4", "whole": "run"}],
            {},
            "lacks 'data' or 'annotations'; it may be an export in the format JSON-MIN",
        ),
        (
            [{"data": {"video": "plain.mp4"}, "predictions": []}],
            {},
            "no annotations. Import the file",
        ),
        (
            [{"data": {"clip": "a.mp4"}, "annotations": []}],
            {},
            "data has no key 'video'; its keys are clip. Name the key that holds the video's path",
        ),
        ({"tasks": []}, {}, "its content is .*; it must be a list"),
        ([], {"columns": {"pth": "clip"}}, "columns has an unknown field 'pth'. Known: path, group, fps"),
        ([task("plain.mp4", fps=25)], {"columns": {"fps": "rate"}}, "no task of .* has the key 'rate' in its data"),
        (
            [task("plain.mp4", rate="x")],
            {"columns": {"fps": "rate"}},
            "data.rate is 'x'; it must be a frame rate",
        ),
        ([task("plain.mp4", rate=-1)], {"columns": {"fps": "rate"}}, "data.rate is -1; it must be a frame rate above"),
    ],
)
def test_mistakes_are_named(tasks: Any, options: dict[str, Any], message: str, root: Path) -> None:
    with pytest.raises(FarfieldError, match=message):
        list(read_labelstudio(source(root, tasks, **options)))


def test_a_file_that_is_not_json_is_named(root: Path) -> None:
    (root.parent / "export.json").write_text('[{"id": 1,')
    with pytest.raises(
        FarfieldError, match=r"export.json cannot be read: it is not JSON \(line 1, .*Give Label Studio"
    ):
        list(read_labelstudio(AnnotationSource(root, root.parent / "export.json")))
