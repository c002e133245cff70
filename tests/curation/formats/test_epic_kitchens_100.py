from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.epic_kitchens_100 import read_epic_kitchens_100
from farfield.data.manifest import read_manifest
from farfield.errors import FarfieldError

TEST_COLUMNS = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame"
)
COLUMNS = TEST_COLUMNS + ",narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
ROWS = """\
P41_02_0,P41,P41_02,00:00:04.310,00:00:00.14,00:00:01.26,7,63,lift it,lift-up,5,jar:big,2,"['jar:big', 'lid']","[2, 6]"
P41_02_1,P41,P41_02,01:01:05.160,01:01:05.16,01:02:00.00,183309,186060,put it,put,11,lid,6,['lid'],[6]
P42_101_0,P42,P42_101,00:00:02.000,00:00:02.00,00:00:02.00,100,100,cut,cut,7,lid,6,['lid'],[6]
P42_101_1,P42,P42_101,00:00:02.000,00:00:02.00,00:00:03.00,100,150,cut,cut,7,lid,,['lid'],[6]
"""
VERBS = "id,key,instances,category\n" + "".join(f"{i},verb-{i},\"['a', 'b']\",c\n" for i in range(97))
NOUNS = '"id","key","instances","category"\n' + "".join(f'{i},"noun:{i}","[\'a\']","c"\n' for i in range(300))


def source_of(folder: Path, rows: str, kind: str | None, labels: str | None = None) -> AnnotationSource:
    (folder / "videos/P41/videos").mkdir(parents=True)
    (folder / "list.csv").write_bytes(rows.replace("\n", "\r\n").encode())
    if labels is not None:
        (folder / "classes.csv").write_text(labels)
    classes = None if labels is None else folder / "classes.csv"
    return AnnotationSource(folder / "videos", folder / "list.csv", classes, label_column=kind)


def test_segments_with_verbs_or_nouns(tmp_path: Path) -> None:
    source = source_of(tmp_path, f"{COLUMNS}\n{ROWS}", "verb", VERBS)
    (source.root / "P41/videos/P41_02.MP4").touch()
    found = [(e.path, e.label, e.start_seconds, e.end_seconds, e.group) for e in read_epic_kitchens_100(source)]
    assert found == [
        ("P41/videos/P41_02.MP4", "verb-5", 0.14, 1.26, "P41"),
        ("P41/videos/P41_02.MP4", "verb-11", 3665.16, 3720.0, "P41"),
        ("P42_101.MP4", "verb-7", 2.0, 3.0, "P42"),  # is not there
    ]
    assert source.left_out == [("P42_101_0", "its segment [2, 2) is empty")]


@pytest.mark.parametrize(("labels", "expected"), [(NOUNS, ["noun:2", "noun:6"]), (None, ["2", "6"])])
def test_nouns(tmp_path: Path, labels: str | None, expected: list[str]) -> None:
    source = source_of(tmp_path, f"{COLUMNS}\n{ROWS}", "noun", labels)
    assert [each.label for each in read_epic_kitchens_100(source)] == expected
    assert source.left_out[-1] == ("P42_101_1", "it has no label")


@pytest.mark.parametrize(
    ("named", "expected"),
    [(True, ["verb:verb-5|noun:noun:2", "verb:verb-11|noun:noun:6"]), (False, ["verb:5|noun:2", "verb:11|noun:6"])],
)
def test_verbs_and_nouns(tmp_path: Path, named: bool, expected: list[str]) -> None:
    source = source_of(tmp_path, f"{COLUMNS}\n{ROWS}", "verb+noun")
    if named:
        (tmp_path / "EPIC_100_verb_classes.csv").write_text(VERBS)
        (tmp_path / "EPIC_100_noun_classes.csv").write_text(NOUNS)
        source.labels = tmp_path
    assert [each.label for each in read_epic_kitchens_100(source)] == expected
    assert source.left_out[-1] == ("P42_101_1", "it has no label")  # no noun


def test_names_of_verbs_and_nouns_are_in_a_folder(tmp_path: Path) -> None:
    source = source_of(tmp_path, f"{COLUMNS}\n{ROWS}", "verb+noun", VERBS)
    with pytest.raises(FarfieldError, match=r"classes.csv, which is not a folder. For verbs and nouns"):
        list(read_epic_kitchens_100(source))


def test_the_test_file_has_no_labels(tmp_path: Path) -> None:
    source = source_of(
        tmp_path, f"{TEST_COLUMNS}\nP41_02_0,P41,P41_02,0:0:1.0,00:00:01.00,00:00:02.00,50,100\n", "verb"
    )
    assert list(read_epic_kitchens_100(source)) == []
    assert source.left_out == [("P41_02_0", "it has no label")]


@pytest.mark.parametrize(
    ("rows", "kind", "labels", "message"),
    [
        (
            f"{COLUMNS}\n",
            None,
            None,
            r"label_column is None, but each segment .* Give label_column='verb', label_col",
        ),
        (f"{COLUMNS}\n", "action", None, "label_column is 'action', but each segment"),
        (
            "video_id,verb_class\n",
            "verb",
            None,
            "lacks the columns participant_id, start_timestamp, stop_timestamp. Give",
        ),
        (f"{COLUMNS}\na,b\n", "verb", None, r"list\.csv, line 2: the row has more or fewer values than the header"),
        (
            f"{COLUMNS}\n{ROWS}".replace("00:00:00.14", "0.14"),
            "verb",
            None,
            "line 2: start_timestamp is '0.14'; it must",
        ),
        (f"{COLUMNS}\n{ROWS}".replace(",5,", ",5.0,"), "verb", None, "line 2: verb_class is '5.0'; it must be a whole"),
        (
            f"{COLUMNS}\n{ROWS}".replace(",5,", ",97,"),
            "verb",
            VERBS,
            "line 2: verb_class is 97, but the class names have",
        ),
        (
            f"{COLUMNS}\n{ROWS}",
            "verb",
            NOUNS,
            r"classes\.csv is 300, but EPIC-Kitchens-100 has 97 verb classes",
        ),
        (
            f"{COLUMNS}\n{ROWS}",
            "noun",
            VERBS,
            r"classes\.csv is 97, but EPIC-Kitchens-100 has 300 noun classes",
        ),
        (f"{COLUMNS}\n{ROWS}", "verb", VERBS.replace("verb-9,", "verb-8,"), "has a value twice in the column 'key'"),
    ],
)
def test_mistakes(tmp_path: Path, rows: str, kind: str | None, labels: str | None, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        list(read_epic_kitchens_100(source_of(tmp_path, rows, kind, labels)))


def test_the_command(tmp_path: Path, make_video: Callable[..., Path], run_farfield: Callable[..., int]) -> None:
    source = source_of(tmp_path, f"{COLUMNS}\n{ROWS}", "verb", VERBS)
    shutil.copy(make_video(40, fps=0.01), source.root / "P41/videos/P41_02.MP4")
    words = ["--format=epic-kitchens-100", f"--annotations={source.annotations}", "--label_column=verb"]
    out = tmp_path / "m.csv"
    assert (
        run_farfield("data", "index", source.root, out, *words, f"--labels={source.labels}", "--num_workers=1") == 1
    )  # two left out
    rows = [(row.label, row.start_seconds, row.group) for row in read_manifest(out)]
    assert rows == [("verb-5", 0.14, "P41"), ("verb-11", 3665.16, "P41")]
