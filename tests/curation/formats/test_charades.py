from __future__ import annotations

from pathlib import Path

import pytest

from farfield.curation.folder_scan import SkippedFiles
from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.charades import read_charades
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
ROWS = """\
K1TTN,AB12,Kitchen,6,7,Yes,"Cooks, leaves.",stove,"It ""cooks"".;It leaves",c092 11.90 21.20;c134 0.00 32.00,24.83
D0GGY,CD34,Garage / Shed,5,,No,A robot sings.,broom,A robot sings.,,18.33
GO4NE,AB12,Hallway,4,5,Yes,"A robot
waits.",door,A robot waits.,c008 3.50 3.50;c092 40.00 42.00;c008 0.00 5.00,31.08
"""
CLASSES = "c008 Opening a box/cabinet\r\nc092 Watching/Looking outside\r\nc134 Resting "


@pytest.fixture
def source(tmp_path: Path) -> AnnotationSource:
    root = tmp_path / "videos"
    for name in ("K1TTN.mp4", "more/D0GGY.mp4", "T3STS.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "train.csv").write_text(HEADER + ROWS)
    (tmp_path / "classes.txt").write_text(CLASSES, newline="")
    return AnnotationSource(root, tmp_path / "train.csv", skipped=SkippedFiles(keep_names=True))


def test_one_row_per_action(source: AnnotationSource) -> None:
    assert list(read_charades(source)) == [
        VideoRecord("K1TTN.mp4", "c092", 11.9, 21.2, group="AB12"),
        VideoRecord("K1TTN.mp4", "c134", 0, 24.83, group="AB12"),
        VideoRecord("more/D0GGY.mp4", "", group="CD34"),
        VideoRecord("GO4NE.mp4", "c008", 0, 5, group="AB12"),
    ]
    assert source.left_out == [
        ("GO4NE", "the action 'c008 3.50 3.50' is empty"),
        ("GO4NE", "the action 'c092 40.00 42.00' lies outside the video of 31.08 s"),
    ]
    assert [Path(path).name for path, _ in source.skipped.names] == ["T3STS.mp4"]


def test_the_file_of_classes_gives_names(source: AnnotationSource) -> None:
    source.labels = source.annotations.with_name("classes.txt")
    labels = [record.label for record in read_charades(source)]
    assert labels == ["Watching/Looking outside", "Resting", "", "Opening a box/cabinet"]


@pytest.mark.parametrize("word", ["vido", "video"])
def test_lists_of_frames_are_refused(word: str, source: AnnotationSource) -> None:
    row = 'K1TTN_1_9 K1TTN 1 K1TTN/K1TTN-000001.jpg "92,134"\n'
    source.annotations.write_text(f"original_{word}_id video_id frame_id path labels\n{row}")
    with pytest.raises(
        FarfieldError,
        match=r"train\.csv is PySlowFast's list of Charades' frames, not a list of videos\. "
        r"Give Charades_v1_train\.csv or Charades_v1_test\.csv of Charades\.zip\.",
    ):
        list(read_charades(source))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "path,label\n",
            r"train\.csv lacks the columns id, subject, actions, length\. Give Charades_v1",
        ),
        ("id,subject,actions\n", r"train\.csv lacks the column length\. Give Charades_v1"),
        ("id,subject,actions,length\nA,B,c1 0 2,5\n", r"line 2: 'c1 0 2' must be `class start end` with"),
        ("id,subject,actions,length\nA,B,c001 0 2;c002 1,5\n", r"line 2: 'c002 1' must be `class start end`"),
        ("id,subject,actions,length\n\nA,B,c001 0 two,5\n", r"line 3: 'c001 0 two' must be `class start end`"),
        ("id,subject,actions,length\nA,B,,unknown\n", "line 2: length is 'unknown'; it must be a number of seconds"),
        ("id,subject,actions,length\nA,B,c001 0 2\n", "line 2: the row has more or fewer values than the header"),
    ],
)
def test_mistakes_are_named(content: str, message: str, source: AnnotationSource) -> None:
    source.annotations.write_text(content)
    with pytest.raises(FarfieldError, match=message):
        list(read_charades(source))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("c008 Opening\n", r"line 2: \S*classes\.txt has no class 'c092'\. Give Charades_v1_classes\.txt"),
        (
            "c008 Opening\nc009 Opening\n",
            r"classes\.txt, line 2: 'c009 Opening' must be a code and a name, .* no other line may",
        ),
        ("Opening a door\n", r"classes\.txt, line 1: 'Opening a door' must be a code and a name"),
    ],
)
def test_mistakes_of_the_classes_are_named(classes: str, message: str, source: AnnotationSource) -> None:
    source.labels = source.annotations.with_name("classes.txt")
    source.labels.write_text(classes)
    with pytest.raises(FarfieldError, match=message):
        list(read_charades(source))
