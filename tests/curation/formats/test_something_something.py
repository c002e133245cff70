from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.jester import read_jester
from farfield.curation.formats.something_something import read_something_something
from farfield.curation.index import index_videos
from farfield.data.manifest import read_manifest
from farfield.errors import FarfieldError

TRAIN = """[
{"id":"905","label":"tilting a mug, so it spills","template":"Tilting [something], so [something] spills","placeholders":["a mug"]},
{"id":"17","label":"spoon's handle bent","template":"[Something]'s handle bent","placeholders":["spoon"]},
{"id":"31","label":"tilting a jar, so it spills","template":"Tilting [something], so [something] spills","placeholders":["a jar"]},
{"id":"8"}
]"""  # noqa: E501
LABELS = {"Tilting something, so something spills": "0", "Something's handle bent": "1"}


def source_of(folder: Path, annotations: str, labels: str | None = None) -> AnnotationSource:
    (folder / "list").write_bytes(annotations.encode())
    if labels is not None:
        (folder / "labels").write_bytes(labels.encode())
    (folder / "videos/20bn").mkdir(parents=True, exist_ok=True)
    return AnnotationSource(folder / "videos", folder / "list", None if labels is None else folder / "labels")


def test_version_2(tmp_path: Path) -> None:
    source = source_of(tmp_path, TRAIN, json.dumps(LABELS))
    for name in ("905.webm", "17.mp4"):
        (source.root / "20bn" / name).touch()
    assert [(each.path, each.label) for each in read_something_something(source)] == [
        ("20bn/905.webm", "Tilting something, so something spills"),
        ("20bn/17.mp4", "Something's handle bent"),
        ("31.webm", "Tilting something, so something spills"),  # is not there: index_videos reports it
    ]
    assert source.left_out == [("8", "it has no label")]


def test_version_1_and_test_answers(tmp_path: Path) -> None:
    source = source_of(tmp_path, "905;Tilting something, so something spills\r\n17;Bending it\r\n\r\n31\r\n8;\r\n")
    (source.root / "905").mkdir()
    (source.root / "20bn/17.webm").touch()
    assert [(each.path, each.label) for each in read_something_something(source)] == [
        ("905", "Tilting something, so something spills"),
        ("20bn/17.webm", "Bending it"),
    ]
    assert source.left_out == [("31", "it has no label"), ("8", "it has no label")]


@pytest.mark.parametrize("labels", ['{"Bending it": "0"}', "Bending it\r\nTilting it\r\n"])
def test_a_class_must_be_among_the_labels(tmp_path: Path, labels: str) -> None:
    source = source_of(tmp_path, "17;Bending it\n905;Bending that\n", labels)
    with pytest.raises(FarfieldError, match=r"video 905 has the class 'Bending that', which .*labels lacks\. Known: "):
        list(read_something_something(source))


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (
            '[{"id": "1"},\n{"id": "2"',
            r"list cannot be read: it is not JSON \(line 2, column 11\)\. Give",
        ),
        ('{"id": "1"}', "list holds a JSON object; it must be a list of videos"),
        ('[{"id": 1}]', "list, entry 1: the id is 1; it must be a string of digits"),
        ('[{"id": "1", "label": "x"}]', r"entry 1 \(id 1\): the template is None; it must be a string, since it names"),
        ("id;label\n", "list, line 1: 'id;label' must begin with a whole number, the id, and may end in a label"),
        ("1;a;b\n", "list, line 1: '1;a;b' must be"),
    ],
)
def test_malformed_lists(tmp_path: Path, annotations: str, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        list(read_something_something(source_of(tmp_path, annotations)))


def test_labels_must_be_an_object_or_lines(tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match="labels holds a JSON list; it must map class names to numbers"):
        list(read_something_something(source_of(tmp_path, TRAIN, '["a"]')))


def test_jester_reads_frame_folders_and_files(tmp_path: Path) -> None:
    source = source_of(tmp_path, "34;Shaking Hand\r\n7;Doing other things\r\n90;No gesture\r\n2\r\n")
    (source.root / "34").mkdir()
    for name in ("7.webm", "34.mp4"):  # a folder of frames goes before a file
        (source.root / "20bn" / name).touch()
    assert [(each.path, each.label) for each in read_jester(source)] == [
        ("34", "Shaking Hand"),
        ("20bn/7.webm", "Doing other things"),
        ("90", "No gesture"),  # is not there
    ]
    assert source.left_out == [("2", "it has no label")]


def test_index_names_what_it_leaves_out(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    source = source_of(tmp_path, TRAIN)
    shutil.copy(make_video(40), source.root / "905.mp4")
    out = tmp_path / "m.csv"
    made = index_videos(source.root, out, format="something-something", annotations=source.annotations, num_workers=1)
    assert [(row.path, row.label) for row in read_manifest(out)] == [
        ("videos/905.mp4", "Tilting something, so something spills")
    ]
    assert made.failures == [
        ("8", "it has no label"),
        (str(source.root / "17.webm"), "there is no such file"),
        (str(source.root / "31.webm"), "there is no such file"),
    ]


def test_a_list_of_test_videos_alone_is_refused(tmp_path: Path) -> None:
    source = source_of(tmp_path, "34\n7\n")
    with pytest.raises(
        FarfieldError, match=r"no annotated video can be used \(2 left out\)\. The first is 34: it has no label"
    ):
        index_videos(source.root, tmp_path / "m.csv", format="jester", annotations=source.annotations)
