from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.cvat import read_cvat
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from video.encoding import encode


def about(number: int, name: str, *, step: int = 1, start: int = 0, size: int = 100, subset: str = "default") -> str:
    return f"""<task><id>{number}</id><name>t</name><size>{size}</size><subset>{subset}</subset>
    <start_frame>{start}</start_frame><stop_frame>99</stop_frame><frame_filter>{f"step={step}" if step > 1 else ""}
    </frame_filter><original_size><width>64</width></original_size><source>{name}</source></task>"""


def box(frame: int, *, outside: int = 0, **attributes: str) -> str:
    inside = "".join(f'<attribute name="{name}">{value}</attribute>' for name, value in attributes.items())
    return (
        f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" xtl="1.00" ytl="1.00" xbr="9.00" '
        f'ybr="9.00" z_order="0">{inside}</box>'
    )


def track(label: str, *boxes: str, task: str = "") -> str:
    return f'<track id="0" label="{label}" source="manual"{task}>{"".join(boxes)}</track>'


def source(tmp_path: Path, meta: str, *nodes: str, **options: Any) -> AnnotationSource:
    (tmp_path / "videos").mkdir(exist_ok=True)
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "videos" / name).touch()
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
    (tmp_path / "annotations.xml").write_text(f"{head}<meta>{meta}</meta>{''.join(nodes)}</annotations>\n")
    return AnnotationSource(tmp_path / "videos", tmp_path / "annotations.xml", **{"fps": 10, **options})


def test_tracks_become_segments(tmp_path: Path) -> None:
    given = source(
        tmp_path,
        about(5, "a.mp4"),
        track("jump", box(2), box(3), box(4), box(5, outside=1), box(9), box(10, outside=1)),
        track("run", *(box(frame) for frame in range(6))),
        track("run", box(4), box(8), box(9, outside=1)),  # overlaps, and only its key frames are there
        track("run", box(20), box(21, outside=1)),
    )
    assert list(read_cvat(given)) == [
        VideoRecord("a.mp4", "run", 0, 0.9),
        VideoRecord("a.mp4", "jump", 0.2, 0.5),
        VideoRecord("a.mp4", "jump", 0.9, 1),
        VideoRecord("a.mp4", "run", 2, 2.1),
    ]


def test_frames_are_those_of_the_video_whatever_the_step(tmp_path: Path) -> None:
    given = source(tmp_path, about(5, "a.mp4", step=5, start=10), track("jump", box(10), box(15), box(20)))
    assert list(read_cvat(given)) == [VideoRecord("a.mp4", "jump", 1, 2.5)]


def test_frames_of_a_variable_rate_have_their_own_times(tmp_path: Path) -> None:
    """Frames 0 to 9 take 0.1 s each, the others 0.5 s; the average would place all of them elsewhere."""
    times = [0.1 * min(i, 10) + 0.5 * max(i - 10, 0) for i in range(20)]
    tracks = track("jump", box(5), box(10, outside=1)), track("run", box(10), box(15, outside=1))
    given = source(tmp_path, about(5, "a.mp4", size=20), *tracks, track("sit", box(18), box(19)), fps=None)
    encode(tmp_path / "videos" / "a.mp4", num_frames=20, times=times)
    average = 5.5 / 19
    found = [(row.label, row.start_seconds, row.end_seconds) for row in read_cvat(given)]
    assert found == [
        ("jump", pytest.approx(0.5, abs=2e-3), pytest.approx(1.0, abs=2e-3)),
        ("run", pytest.approx(1.0, abs=2e-3), pytest.approx(3.5, abs=2e-3)),
        ("sit", pytest.approx(5.0, abs=2e-3), pytest.approx(5.5 + average, abs=2e-3)),
    ]


def test_label_column_reads_an_attribute_of_tracks(tmp_path: Path) -> None:
    boxes = [box(0, act="sit"), box(1, act="sit"), box(2, act="__undefined__"), box(3, act="stand"), box(4, outside=1)]
    given = source(tmp_path, about(5, "a.mp4"), track("person", *boxes), label_column="act")
    assert list(read_cvat(given)) == [VideoRecord("a.mp4", "sit", 0, 0.2), VideoRecord("a.mp4", "stand", 0.3, 0.4)]
    with pytest.raises(
        FarfieldError,
        match=r"label_column is 'acts', but .* has no attribute of this name. Known: act. Did you mean 'act'",
    ):
        list(read_cvat(source(tmp_path, about(5, "a.mp4"), track("person", *boxes), label_column="acts")))


def test_tags_of_consecutive_frames_form_a_segment(tmp_path: Path) -> None:
    tag = '<tag label="jump" source="manual"></tag>'
    labels = {0: "", 1: tag, 2: tag + '<tag label="run"></tag>', 3: "", 4: tag}
    images = [
        f'<image id="{i}" name="frame_{i:06d}" width="64" height="48">{tags}</image>' for i, tags in labels.items()
    ]
    assert list(read_cvat(source(tmp_path, about(5, "a.mp4"), *images))) == [
        VideoRecord("a.mp4", "jump", 0.1, 0.3),
        VideoRecord("a.mp4", "run", 0.2, 0.3),
        VideoRecord("a.mp4", "jump", 0.4, 0.5),
    ]


def test_frames_of_a_project_are_counted_on_from_task_to_task(tmp_path: Path) -> None:
    tasks = [
        about(1, "a.mp4", size=20),
        about(2, "b.mp4", size=10, step=2, start=4),  # its frame 4 is frame 24
        about(3, "c.mp4", size=10),  # 24 + 20 frames later
        about(4, "d.mp4", size=10, subset="test"),  # counted from 0
    ]
    frames = {1: 3, 2: 24, 3: 44, 4: 7}
    tracks = [
        track("jump", box(frame), task=f' task_id="{number}" subset="default"') for number, frame in frames.items()
    ]
    meta = f"<project><id>8</id><tasks>{''.join(tasks)}</tasks></project>"
    assert list(read_cvat(source(tmp_path, meta, *tracks))) == [
        VideoRecord("a.mp4", "jump", 0.3, 0.4),
        VideoRecord("b.mp4", "jump", 0.4, 0.6),
        VideoRecord("c.mp4", "jump", 0, 0.1),
        VideoRecord("d.mp4", "jump", 0.7, 0.8),
    ]
    assert [row.path for row in read_cvat(source(tmp_path, meta, *tracks, subset="test"))] == ["d.mp4"]
    wrong = track("jump", box(50), task=' task_id="1"')
    with pytest.raises(
        FarfieldError, match=r"frame 50 is outside its task, which has the frames 0 to 20 in the .*Export each task by"
    ):
        list(read_cvat(source(tmp_path, meta, wrong)))


def test_a_folder_of_exports_and_what_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    for number, name in enumerate(("a.mp4", "b.mp4", "b.mp4")):
        (folder / str(number)).mkdir(parents=True)
        source(folder / str(number), about(number, name), *[track("jump", box(1))] * (number > 0))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").touch()
    given = AnnotationSource(tmp_path / "videos", folder, fps=10)
    assert list(read_cvat(given)) == []
    assert given.left_out == [
        ("a.mp4", "it has no label"),
        ("b.mp4", "2 tasks have a video of this name; index the tasks one at a time"),
    ]


def test_the_source_of_earlier_versions_stands_beside_the_task(tmp_path: Path) -> None:
    meta = "<task><id>5</id><size>9</size></task><dumped>2020</dumped><source>a.mp4</source>"
    assert [row.path for row in read_cvat(source(tmp_path, meta, track("jump", box(1))))] == ["a.mp4"]


@pytest.mark.parametrize(
    ("meta", "node", "options", "message"),
    [
        (about(5, "a.mp4"), track("jump", box(1)), {"fps": 0}, "fps is 0; it must be above 0"),
        (about(5, ""), "", {}, "names no video: it has no <source>"),
        (
            about(5, "a.mp4"),
            '<track id="3" label="x"><box frame="-1"/></track>',
            {},
            "track 3: the frame number is '-1'; it must be a whole num",
        ),
        (about(5, "a.mp4"), '<track id="3"><box frame="1"/></track>', {}, "track 3 has no label"),
        (
            about(5, "a.mp4"),
            track("x", task=' task_id="6"'),
            {},
            r"task_id is '6'; it must be the id of a task with a video\. Make a separate export of each task",
        ),
        (about(5, "a.mp4"), "<track", {}, "is not XML: .*Give annotations.xml"),
    ],
)
def test_mistakes_are_named(meta: str, node: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match=message):
        list(read_cvat(source(tmp_path, meta, node, **options)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!DOCTYPE annotations>\n<annotations><meta/></annotations>", "declares a document type or entities"),
        ("<other><meta/></other>", "is not CVAT's XML"),
    ],
)
def test_other_xml_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(FarfieldError, match=message):
        list(read_cvat(AnnotationSource(tmp_path, tmp_path / "x.xml", fps=10)))
