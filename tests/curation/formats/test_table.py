from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.table import read_table
from farfield.data.manifest import read_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

COLUMNS = {"path": "file", "label": "action", "start": "begin", "end": "finish", "group": "person"}


@pytest.fixture
def source(tmp_path: Path) -> AnnotationSource:
    root = tmp_path / "videos"
    for name in ("run/a.mp4", "walk/take.2.mkv", "walk/both.mp4", "run/both.mp4", "walk/both.avi", "gone.mp4.mkv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return AnnotationSource(root, tmp_path / "a.csv", columns=COLUMNS)


def given(source: AnnotationSource, content: str, suffix: str = ".csv") -> list[VideoRecord]:
    source.annotations = source.annotations.with_suffix(suffix)
    source.annotations.write_text(content, newline="")
    return list(read_table(source))


EXPECTED = [
    VideoRecord("run/a.mp4", "run|laugh, loudly", 1.5, 4, group="p3"),
    VideoRecord("run/a.mp4", "", None, 3723.25, group="p3"),
    VideoRecord("walk/take.2.mkv", "7"),
    VideoRecord("gone.mp4", "walk", 2),
]


def test_csv(source: AnnotationSource) -> None:
    content = (
        "\ufefffile, action,begin,finish,note,person\r\n"
        'run/a.mp4,"run|laugh, loudly",0:00:01.5,4,"two\nlines",p3\r\n'
        "\r\n"
        "run/a.mp4,,,01:02:03.25,,p3\r\n"
        "take.2,7,,,,\r\n"
        "gone.mp4, walk ,2,,,\r\n"
    )
    assert given(source, content) == EXPECTED
    assert source.left_out == []


def test_tsv(source: AnnotationSource) -> None:
    rows = [
        ["person", "file", "action", "begin", "finish"],
        ["p3", "run/a.mp4", "run|laugh, loudly", "1.5", "4"],
        ["p3", "run/a.mp4", "", "", "3723.25"],
        ["", "walk/take.2", "7", "", ""],
        ["", "gone.mp4", "walk", "00:00:02", ""],
    ]
    assert given(source, "".join("\t".join(row) + "\n" for row in rows), ".TSV") == EXPECTED


def test_json_lines(source: AnnotationSource) -> None:
    content = (
        '{"file": "run/a.mp4", "action": ["run", "laugh, loudly"], "begin": 1.5, "finish": "4", "person": "p3"}\n'
        '{"file": "run/a.mp4", "action": null, "begin": null, "finish": "1:02:03.25", "person": "p3"}\n\n'
        '{"file": "take.2", "action": 7, "note": {"any": [1]}}\n'
        '{"file": "gone.mp4", "action": ["walk", ""], "begin": 2, "finish": ""}'
    )
    assert given(source, content, ".jsonl") == EXPECTED


def test_a_manifest_needs_no_columns(source: AnnotationSource) -> None:
    source.columns = {}
    assert given(source, "path,label,start_seconds,end_seconds,num_frames,group\nrun/a.mp4,x,1,2,50,g\n") == [
        VideoRecord("run/a.mp4", "x", 1, 2, group="g")
    ]
    assert given(source, "label,path\nx,run/a.mp4\n") == [VideoRecord("run/a.mp4", "x")]


def test_paths_are_absolute_or_relative_and_may_lack_the_suffix(source: AnnotationSource) -> None:
    source.columns = {}
    absolute = source.root / "run/a"
    paths = [f"{absolute}.mp4", str(absolute), "a", "run/both", "walk/a", "nowhere", "both", "walk/both"]
    rows = given(source, "path,label\n" + "".join(f"{path},x\n" for path in paths))
    assert [row.path for row in rows] == [
        f"{absolute}.mp4",
        "run/a.mp4",
        "run/a.mp4",
        "run/both.mp4",
        "walk/a",
        "nowhere",
    ]
    assert source.left_out == [
        ("both", "several videos have this name: run/both.mp4, walk/both.avi, walk/both.mp4"),
        ("walk/both", "several videos have this name: walk/both.avi, walk/both.mp4"),
    ]


@pytest.mark.parametrize(
    ("columns", "header", "message"),
    [
        (
            {},
            "file,label",
            r"a\.csv has no column 'path', from which path is read\. Known: file, label\. Give the name of the column",
        ),
        (
            {"path": "flie"},
            "file,label",
            r"no column 'flie', from which path is read\. Known: file, label\. Did you mean 'file'\?",
        ),
        ({"path": "file"}, "file,class", r"no column 'label', from which label is read\. .* for example label=file\."),
        ({"start": "begin"}, "path,label", r"has no column 'begin', from which start is read\. Known: path, label\."),
        ({"strat": "begin"}, "path,label", r"columns has an unknown field 'strat'\. Known: path, .* mean 'start'\?"),
        ({}, "path;label", r"by commas in a \.csv file and by tabs in a \.tsv file, not by ';'\."),
        ({}, "path,label,label", r"a\.csv has a column twice: its columns are path, label, label\."),
        ({}, "", r"a\.csv is empty\. Give a table with one row for each video or segment\."),
    ],
)
def test_mistakes_of_the_columns_are_named(
    columns: dict[str, str], header: str, message: str, source: AnnotationSource
) -> None:
    source.columns = columns
    with pytest.raises(FarfieldError, match=message):
        given(source, f"{header}\n")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            'a.mp4,x,"1,5",2',
            r"line 3: begin is '1,5'; it must be seconds >= 0 or HH:MM:SS\(\.s\)\. Write a decimal point",
        ),
        ('a.mp4,x,"00:00:01,5",2', "line 3: begin is '00:00:01,5'; .* not a comma"),
        ("a.mp4,x,1,1:30", r"line 3: finish is '1:30'; it must be seconds >= 0 or HH:MM:SS\(\.s\)\.$"),
        ("a.mp4,x,0:00:75,", "line 3: begin is '0:00:75'"),
        ("a.mp4,x,-1,", "line 3: begin is '-1'"),
        ("a.mp4,x,nan,", "line 3: begin is 'nan'"),
        ("a.mp4,x,2,1.5", r"line 3: the segment \[2, 1\.5\) is empty\. The end must be after the start\."),
        ("a.mp4,x,,0", r"line 3: the segment \[0, 0\) is empty"),
        (",x,1,2", r"line 3: the path is empty\. Every row needs a path\."),
        ("a.mp4,x,1", r"line 3: the row has more or fewer values than the header \(3 instead of 4\)"),
        ("a.mp4,x,1,5,2,5", r"line 3: the row has more or fewer values than the header \(6 instead of 4\)"),
        ('a.mp4,"x,1,2', r"line 3 cannot be read: unexpected end of data"),
    ],
)
def test_mistakes_of_a_row_are_named(row: str, message: str, source: AnnotationSource) -> None:
    source.columns = {name: column for name, column in COLUMNS.items() if name != "group"}
    with pytest.raises(FarfieldError, match=message):
        given(source, f"file,action,begin,finish\nb.mp4,x,,\n{row}\n")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"path": "a.mp4", "label": 1.5}', "line 2: label is 1.5; it must be text or a whole number"),
        ('{"path": "a.mp4", "label": [true]}', "line 2: label is True; it must be text or a whole number"),
        ('{"path": ["a.mp4"], "label": "x"}', r"line 2: path is \['a\.mp4'\]; it must be text"),
        ('{"label": "x"}', "line 2: the path is empty"),
        ('{"path": "a.mp4", "start_seconds": [1]}', r"line 2: start_seconds is \[1\]; it must be seconds >= 0"),
        ('{"path": "a.mp4", "end_seconds": true}', "line 2: end_seconds is True; it must be seconds >= 0"),
        ("[]", r"a\.jsonl, line 2: '\[\]' is not a JSON object\. Give one object per line\."),
        ('{"path": ', "line 2: .* is not a JSON object"),
    ],
)
def test_mistakes_of_json_lines_are_named(row: str, message: str, source: AnnotationSource) -> None:
    source.columns = {}
    with pytest.raises(FarfieldError, match=message):
        given(source, f'{{"path": "b.mp4", "label": "x"}}\n{row}\n', ".jsonl")


def test_other_suffixes_are_refused(source: AnnotationSource) -> None:
    with pytest.raises(
        FarfieldError, match=r"a\.txt has the suffix '\.txt'; it must be one of \.csv, \.tsv, \.jsonl\."
    ):
        given(source, "path,label\n", ".txt")


def test_the_command_takes_columns(
    source: AnnotationSource, tmp_path: Path, make_video: Callable[..., Path], run_farfield: Callable[..., int]
) -> None:
    shutil.copy(make_video(40), source.root / "run/a.mp4")
    source.annotations.write_text("file,action,begin,finish\na,run|laugh,0:00:00.5,1.25\nrun/a.mp4,,,\n")
    words = ["data", "index", source.root, tmp_path / "m.csv", "--format", "table", "--annotations", source.annotations]
    assert run_farfield(*words, "--columns", "path=file,label=action,start=begin,end=finish", "--num_workers=1") == 0
    manifest = read_manifest(tmp_path / "m.csv")
    assert [(row.path, row.labels, row.start_seconds, row.end_seconds) for row in manifest] == [
        ("videos/run/a.mp4", ("run", "laugh"), 0.5, 1.25),
        ("videos/run/a.mp4", (), None, None),
    ]


def test_short_names_of_the_times_are_recognised(source: AnnotationSource) -> None:
    source.columns = {}
    assert given(source, "path,label,start,end\nrun/a.mp4,run,1,2\n") == [VideoRecord("run/a.mp4", "run", 1, 2)]
    both = "path,label,start,start_seconds\nrun/a.mp4,run,1,2\n"
    assert given(source, both) == [VideoRecord("run/a.mp4", "run", 2)]


def test_names_of_columns_may_have_any_case(source: AnnotationSource) -> None:
    source.columns = {}
    rows = given(source, "Path,LABEL,Start,End_Seconds,Group\nrun/a.mp4,run,1,2,p3\n")
    assert rows == [VideoRecord("run/a.mp4", "run", 1, 2, group="p3")]
    rows = given(source, "Path,Label,label,path\nx.mp4,7,run,run/a.mp4\n")  # the exact name first
    assert rows == [VideoRecord("run/a.mp4", "run")]


def test_a_column_that_may_be_meant_is_named(source: AnnotationSource, caplog: pytest.LogCaptureFixture) -> None:
    source.columns = {"end": "finish"}
    rows = given(source, "path,label,Start time,finish,stop,Person id,source_url\nrun/a.mp4,run,1,2,9,p3,x\n")
    assert rows == [VideoRecord("run/a.mp4", "run", None, 2)]
    assert caplog.messages == [
        f"{source.annotations}: the column {name} is not read. If it holds the {field}, add the option --columns "
        f"{field}={name}."
        for name, field in (("Start time", "start"), ("Person id", "group"))
    ]


def test_blanks_before_quotes_are_no_part_of_a_value(source: AnnotationSource) -> None:
    source.columns = {}
    rows = given(source, 'path, "label"\nrun/a.mp4, "run, fast"\n"run/a.mp4",walk\n')
    assert [row.label for row in rows] == ["run, fast", "walk"]


def test_several_columns_make_the_labels_of_several_heads(source: AnnotationSource) -> None:
    source.columns = {"path": "file", "label": "verb+noun"}
    rows = "file,verb,noun\nrun/a.mp4,open|push,door\ngone.mp4,close,\n"
    assert [record.label for record in given(source, rows)] == ["verb:open|verb:push|noun:door"]
    assert source.left_out == [("gone.mp4", "it has no label")]
    source.columns = {"path": "file", "label": "verb+nouns"}
    with pytest.raises(FarfieldError, match=r"has no column 'nouns', from which label is read"):
        given(source, rows)


def test_a_column_may_have_a_plus_in_its_name(source: AnnotationSource) -> None:
    source.columns = {"path": "file", "label": "a+b"}
    assert [record.label for record in given(source, "file,a+b\nrun/a.mp4,open\n")] == ["open"]
