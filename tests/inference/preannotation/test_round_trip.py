"""Predictions written for a labelling tool, saved there unchanged and indexed are the same to within a frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from farfield.curation.index import index_videos
from farfield.data.manifest import read_manifest
from farfield.timelines.segments import Segment
from inference.preannotation.conftest import FPS, SEGMENTS, Written, answer, write
from video.encoding import encode


def saved_in_labelstudio(folder: Path) -> Path:
    """Label Studio's export of tasks whose predictions were submitted as they are."""
    tasks = json.loads((folder / "tasks.json").read_text())
    for number, task in enumerate(tasks, start=1):
        results = [{**each, "id": f"x{number}"} for each in task["predictions"][0]["result"]]
        task |= {"id": number, "annotations": [{"id": number, "result": results, "was_cancelled": False}]}
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


TOOLS: dict[str, tuple[Callable[[Path], Path], dict[str, Any], float]] = {
    "labelstudio": (saved_in_labelstudio, {"columns": {"fps": "fps"}}, 0.5 / FPS),
    "cvat": (lambda folder: folder, {"fps": FPS}, 0.5 / FPS),
    "fiftyone": (lambda folder: folder / "labels.json", {"fps": FPS}, 0.5 / FPS),
    "eaf": (lambda folder: folder, {}, 0.0005),
}
"""How a tool saves its files, options for reading them, and by how many seconds a bound may differ."""


@pytest.mark.parametrize("tool", TOOLS)
def test_segments_come_back_to_within_half_a_frame(tool: str, written: Written, videos: Path, tmp_path: Path) -> None:
    saved, options, tolerance = TOOLS[tool]
    made = index_videos(
        videos,
        tmp_path / "index.csv",
        format=tool,  # type: ignore[arg-type]
        annotations=saved(written(tool)),
        unlabelled_as_none=True,
        progress=False,
        num_workers=1,
        **options,
    )
    assert made.failures == []
    records = read_manifest(tmp_path / "index.csv")
    for name, segments in SEGMENTS.items():
        rows = [record for record in records if Path(record.path) == Path("my videos", name)]
        if not segments:
            assert [(row.label, row.start_seconds, row.end_seconds) for row in rows] == [("", None, None)]
            continue
        expected = sorted(segments, key=lambda each: (each.start_seconds, each.end_seconds))
        assert [row.label for row in rows] == [each.label for each in expected]
        for row, segment in zip(rows, expected, strict=True):
            # the segment shorter than a frame became a whole one, within which it lies
            slack = max(tolerance, 1 / FPS if segment.end_seconds - segment.start_seconds < 1 / FPS else 0) + 1e-6
            assert row.start_seconds == pytest.approx(segment.start_seconds, abs=slack)
            assert row.end_seconds == pytest.approx(segment.end_seconds, abs=slack)


@pytest.mark.parametrize("tool", TOOLS)
def test_videos_without_actions_are_left_out_unless_told_otherwise(
    tool: str, written: Written, videos: Path, tmp_path: Path
) -> None:
    saved, options, _ = TOOLS[tool]
    folder = saved(written(tool))
    index = tmp_path / "index.csv"
    made = index_videos(videos, index, format=tool, annotations=folder, progress=False, **options)  # type: ignore[arg-type]
    assert [reason for _, reason in made.failures] == ["it has no label"]
    assert made.num_videos == 2


def test_combinations_of_several_heads_are_several_labels(videos: Path, tmp_path: Path) -> None:
    both = [Segment(0.0, 1.0, "verb:open|noun:door", 0.11, 0.5)]
    labels = ["verb:open", "noun:door"]
    for tool, (saved, options, _) in TOOLS.items():
        from farfield.inference.preannotation.annotated_video import annotated_videos
        from farfield.inference.preannotation.tools import write_preannotations

        found = annotated_videos([("a", answer(videos / "at_30.mp4", both, task="multi_head"))])
        write_preannotations(tool, tmp_path / tool, found, labels)
        index_videos(
            videos,
            tmp_path / "index.csv",
            format=tool,  # type: ignore[arg-type]
            annotations=saved(tmp_path / tool),
            progress=False,
            **options,
        )
        rows = [record.label for record in read_manifest(tmp_path / "index.csv")]
        assert sorted(rows) == (["verb:open|noun:door"] if tool == "labelstudio" else ["noun:door", "verb:open"])


def test_cvat_frames_of_a_variable_rate_have_their_own_times(tmp_path: Path) -> None:
    """Frames 0 to 9 take 0.1 s each, the others 0.5 s."""
    times = [0.1 * min(i, 10) + 0.5 * max(i - 10, 0) for i in range(20)]
    (tmp_path / "videos").mkdir()
    video = encode(tmp_path / "videos" / "a.mp4", num_frames=20, times=times)
    segments = [Segment(0.0, 0.34, "jump", 0.11, 0.9), Segment(0.96, 1.6, "jump", 0.11, 0.9)]
    segments.append(Segment(4.9, 5.789, "jump", 0.11, 0.9))
    folder = write(tmp_path / "out", "cvat", [answer(video, segments)])
    shapes = [(box.get("frame"), box.get("outside")) for box in ElementTree.parse(folder / "a.xml").iter("box")]
    assert shapes == [("0", "0"), ("2", "0"), ("3", "1"), ("10", "0"), ("11", "1"), ("18", "0"), ("19", "0")]
    index_videos(video.parent, tmp_path / "index.csv", format="cvat", annotations=folder, progress=False)
    rows = [(row.start_seconds, row.end_seconds) for row in read_manifest(tmp_path / "index.csv")]
    assert rows == [pytest.approx(each, abs=2e-3) for each in [(0, 0.3), (1, 1.5), (5, 5.789)]]


def test_parts_of_one_video_are_joined(videos: Path, tmp_path: Path) -> None:
    video = videos / "at_30.mp4"
    first = answer(video, [Segment(0, 1, "jump", 0.11, 0.9)], requested_start_seconds=0.0, requested_end_seconds=1.0)
    second = answer(video, [Segment(2, 3, "jump", 0.11, 0.8)], requested_start_seconds=2.0)
    folder = write(tmp_path / "out", "eaf", [first, second])
    assert [path.name for path in folder.iterdir()] == ["at_30.eaf"]
    index_videos(videos, tmp_path / "index.csv", format="eaf", annotations=folder, progress=False)
    rows = read_manifest(tmp_path / "index.csv")
    assert [(row.start_seconds, row.end_seconds) for row in rows] == [(0, 1), (2, 3)]
