from __future__ import annotations

import json
from pathlib import Path

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.diving48 import read_diving48
from farfield.errors import FarfieldError

VOCABULARY = [["Back", "15som", "05Twis", "FREE"], ["Inward", "Dive", "NoTwis", "PIKE"]]


def entry(name: object, label: object, start_frame: int = 0) -> dict[str, object]:
    return {"vid_name": name, "end_frame": 48, "start_frame": start_frame, "label": label}


def source_of(folder: Path, entries: object, vocabulary: object = None) -> AnnotationSource:
    (folder / "rgb").mkdir()
    (folder / "list.json").write_text(json.dumps(entries, indent=2))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    return AnnotationSource(folder, folder / "list.json", None if vocabulary is None else folder / "vocab.json")


def test_cut_files_with_the_words_of_the_vocabulary(tmp_path: Path) -> None:
    entries = [entry("-a_b-c_d-e0_00155", 1), entry("-a_b-c_d-e0_00156", 0), entry("0123456789A_00000", 0)]
    source = source_of(tmp_path, entries, VOCABULARY)
    for each in entries[:2]:
        (tmp_path / f"rgb/{each['vid_name']}.mp4").touch()
    found = [
        (each.path, each.label, each.start_seconds, each.end_seconds, each.group) for each in read_diving48(source)
    ]
    assert found == [
        ("rgb/-a_b-c_d-e0_00155.mp4", "Inward Dive NoTwis PIKE", None, None, "-a_b-c_d-e0"),
        ("rgb/-a_b-c_d-e0_00156.mp4", "Back 15som 05Twis FREE", None, None, "-a_b-c_d-e0"),
        ("0123456789A_00000.mp4", "Back 15som 05Twis FREE", None, None, "0123456789A"),  # is not there
    ]


def test_numbers_without_a_vocabulary_and_what_is_left_out(tmp_path: Path) -> None:
    source = source_of(tmp_path, [entry("a_1", 47), entry("a_2", 3, start_frame=12), entry("a_3", None)])
    assert [(each.path, each.label, each.group) for each in read_diving48(source)] == [("a_1.mp4", "47", "a")]
    assert source.left_out == [
        ("a_2", "start_frame is 12, but the files of Diving48 are whole dives, from frame 0"),
        ("a_3", "it has no label"),
    ]


@pytest.mark.parametrize(
    ("entries", "vocabulary", "message"),
    [
        ({}, None, "list.json must be a JSON list of videos. Give a list of Diving48"),
        ([entry(None, 0)], None, "list.json, entry 1: vid_name is None; it must be the name of a video"),
        ([entry("a_1", "0")], None, r"entry 1 \(a_1\): the label is '0'; it must be a whole number, counted from 0"),
        (
            [entry("a_1", 2)],
            VOCABULARY,
            r"the label is 2; it must be below the number of classes in the vocabulary, 2\. Give",
        ),
        ([entry("a_1", 0)], ["Back"], "vocab.json must be a JSON list with a list of words for each class"),
        ([entry("a_1", 0)], VOCABULARY[:1] * 2, "vocab.json has a class more than once: Back 15som 05Twis FREE"),
    ],
)
def test_malformed_files(tmp_path: Path, entries: object, vocabulary: object, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        list(read_diving48(source_of(tmp_path, entries, vocabulary)))
