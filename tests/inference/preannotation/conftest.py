"""Videos and predictions that are written for labelling tools."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.data.video_record import VideoRecord
from farfield.inference.prediction_schema import Prediction, RankedLabel
from farfield.inference.results_folder import open_results
from farfield.timelines.segments import Segment

LABELS = ["jump", "a & <b>", 'it\'s "odd"', "ラン 走る ü", "two  words", "never seen"]

SEGMENTS = {
    "at_30.mp4": [  # the second overlaps the first, the last is shorter than a frame and lies at the end
        Segment(0.0, 1.017, "jump", 0.11, 0.9),
        Segment(0.513, 2.2203, "a & <b>", 0.11, 0.7123),
        Segment(1.31, 1.99, 'it\'s "odd"', 0.11, 0.6),
        Segment(2.2203, 2.9, "jump", 0.11, 0.5),
        Segment(2.945, 2.948, "two  words", 0.11, 0.4),
    ],
    "deep/at 30.mp4": [Segment(0.2, 1.0, "ラン 走る ü", 0.11, 0.8)],
    "none.mp4": [],
}
"""Segments of each video; all have 29.97 frames per second, and 90 frames."""

FPS = 30000 / 1001

Written = Callable[..., Path]


@pytest.fixture
def videos(tmp_path: Path, make_video: Callable[..., Path]) -> Path:
    for name in SEGMENTS:
        (tmp_path / "my videos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(make_video(90, fps=FPS), tmp_path / "my videos" / name)
    return tmp_path / "my videos"


def answer(path: Path, segments: list[Segment] | None, *ranking: tuple[str, float], **more: object) -> Prediction:
    """A prediction of a multilabel network; classes from 0.5 on are above their threshold."""
    ranked = [RankedLabel(label, score, score >= 0.5) for label, score in ranking or (("jump", 0.1),)]
    about = {"task": "multilabel", "model": "tiny", **more}
    return Prediction(str(path), ranked, segments=segments, **about)  # type: ignore[arg-type]


def write(out: Path, tool: str, predictions: list[Prediction], *, timeline: bool = True) -> Path:
    """Write predictions into a results folder as `farfield predict --write TOOL` does; return the tool's folder."""
    with open_results(out, {"windows": {} if timeline else None}, [tool]) as results:
        for prediction in predictions:
            results.add(prediction)
        results.finish(
            [
                VideoRecord(each.path, "", each.requested_start_seconds, each.requested_end_seconds)
                for each in predictions
            ],
            LABELS,
        )
    return out / tool


@pytest.fixture
def written(videos: Path, tmp_path: Path) -> Written:
    """Writes the segments of all videos for a tool; returns its folder."""
    return lambda tool: write(
        tmp_path / "out", tool, [answer(videos / name, segments) for name, segments in SEGMENTS.items()]
    )
