from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.eaf import read_eaf
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

MEDIA = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/shots/a.mp4" MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="./a.mp4"/>'

TYPES = """
  <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="acts" TIME_ALIGNABLE="true"/>
  <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="talk" TIME_ALIGNABLE="true"/>
  <LINGUISTIC_TYPE CONSTRAINTS="Symbolic_Association" LINGUISTIC_TYPE_ID="mood" TIME_ALIGNABLE="false"/>
  <LINGUISTIC_TYPE CONSTRAINTS="Symbolic_Subdivision" LINGUISTIC_TYPE_ID="words" TIME_ALIGNABLE="false"/>
"""


def between(key: str, first: str, last: str, value: str) -> str:
    return (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{key}" TIME_SLOT_REF1="{first}" TIME_SLOT_REF2="{last}">'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
    )


def about(key: str, parent: str, value: str) -> str:
    return (
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{key}" ANNOTATION_REF="{parent}">'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
    )


def tier(name: str, kind: str, *annotations: str, parent: str | None = None) -> str:
    reference = f' PARENT_REF="{parent}"' if parent else ""
    return f'<TIER LINGUISTIC_TYPE_REF="{kind}" TIER_ID="{name}"{reference}>{"".join(annotations)}</TIER>'


def source(
    tmp_path: Path, *tiers: str, media: str = MEDIA, units: str = "milliseconds", **options: Any
) -> AnnotationSource:
    """Time slots ts0, ts1, ... are at 0 s, 1 s, ...; "open" has no time."""
    slots = "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{n}" TIME_VALUE="{1000 * n}"/>' for n in range(9))
    (tmp_path / "videos/shots").mkdir(parents=True, exist_ok=True)
    for name in ("a.mp4", "b c ü.mp4"):
        (tmp_path / "videos/shots" / name).touch()
    (tmp_path / "x.eaf").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-01-02T03:04:05Z" '
        'FORMAT="3.0" VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">'
        f'<HEADER MEDIA_FILE="" TIME_UNITS="{units}">{media}</HEADER>'
        f'<TIME_ORDER>{slots}<TIME_SLOT TIME_SLOT_ID="open"/></TIME_ORDER>{"".join(tiers)}{TYPES}'
        "</ANNOTATION_DOCUMENT>",
        encoding="utf-8",
    )
    return AnnotationSource(tmp_path / "videos", tmp_path / "x.eaf", **options)


def test_annotations_of_all_tiers_of_a_type_are_segments(tmp_path: Path) -> None:
    given = source(
        tmp_path,
        tier("Ann", "acts", between("a1", "ts2", "ts4", " run "), between("a2", "ts4", "ts5", "jump &amp; fall")),
        tier("Bob", "acts", between("a3", "ts1", "ts3", "run")),
        tier("Ann's mood", "mood", about("a4", "a1", "glad"), parent="Ann"),
        tier("empty", "talk"),
    )
    assert list(read_eaf(given)) == [
        VideoRecord("shots/a.mp4", "run", 1, 3),
        VideoRecord("shots/a.mp4", "run", 2, 4),
        VideoRecord("shots/a.mp4", "jump & fall", 4, 5),
    ]
    assert given.left_out == []


def test_label_column_chooses_a_type_or_a_tier(tmp_path: Path) -> None:
    tiers = (
        tier("Ann", "acts", between("a1", "ts2", "ts4", "run")),
        tier("Bob", "acts", between("a2", "ts3", "ts4", "jump")),
        tier("Bob's talk", "talk", between("a3", "ts1", "ts3", "yes")),
        tier("Ann's mood", "mood", about("a4", "a1", "glad"), parent="Ann"),
        tier("Ann's words", "words", about("a5", "a1", "one"), about("a6", "a1", "two"), parent="Ann"),
    )
    with pytest.raises(FarfieldError, match=r"several tier types with labels: acts, talk\. Give label_column"):
        list(read_eaf(source(tmp_path, *tiers)))
    chosen = {
        "talk": [VideoRecord("shots/a.mp4", "yes", 1, 3)],
        "Bob": [VideoRecord("shots/a.mp4", "jump", 3, 4)],
        "mood": [VideoRecord("shots/a.mp4", "glad", 2, 4)],  # the times of the parent
        "words": [],
    }
    for name, expected in chosen.items():
        given = source(tmp_path, *tiers, label_column=name)
        assert list(read_eaf(given)) == expected
    assert [reason for _, reason in given.left_out] == [
        "annotation a5 on tier Ann's words has no times of its own",
        "annotation a6 on tier Ann's words has no times of its own",
    ]
    with pytest.raises(FarfieldError, match=r"has no tier type 'act' with labels.*Did you mean 'acts'"):
        list(read_eaf(source(tmp_path, *tiers, label_column="act")))


@pytest.mark.parametrize("name", ["acts", None])
def test_a_tier_named_like_the_type_is_not_read_if_its_type_is_another(tmp_path: Path, name: str | None) -> None:
    given = source(
        tmp_path,
        tier("Ann", "acts", between("a1", "ts2", "ts4", "run")),
        tier("acts", "mood", about("a2", "a1", "glad"), parent="Ann"),
        label_column=name,
    )
    assert list(read_eaf(given)) == [VideoRecord("shots/a.mp4", "run", 2, 4)]


def test_annotations_without_times_or_text_are_left_out(tmp_path: Path) -> None:
    spoiled = between("a1", "ts2", "open", "run"), between("a2", "ts3", "ts3", "run"), between("a3", "ts4", "ts5", " ")
    given = source(tmp_path, tier("Ann", "acts", *spoiled, between("a4", "ts5", "ts6", "run")))
    assert [row.start_seconds for row in read_eaf(given)] == [5]
    assert [reason.removeprefix("annotation ") for _, reason in given.left_out] == [
        "a1 on tier Ann has no times of its own",
        "a2 on tier Ann is empty or begins before the video: 3000 to 3000 ms",
        "a3 on tier Ann has no text",
    ]


def test_a_reference_to_itself_has_no_times(tmp_path: Path) -> None:
    circle = tier("x", "mood", about("a1", "a2", "glad"), about("a2", "a1", "glad"), parent="y")
    assert list(read_eaf(source(tmp_path, circle, tier("y", "acts"), label_column="mood"))) == []


def test_the_video_is_found_by_its_url_in_any_spelling(tmp_path: Path) -> None:
    audio = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/a.wav" MIME_TYPE="audio/x-wav"/>'
    for url in ("file:///x/shots/b c ü.mp4", "file:///x/shots/b%20c%20%C3%BC.mp4"):
        video = f'<MEDIA_DESCRIPTOR MEDIA_URL="{url}" MIME_TYPE="video/mp4" TIME_ORIGIN="1500"/>'
        given = source(tmp_path, tier("Ann", "acts", between("a1", "ts2", "ts4", "run")), media=audio + video)
        assert list(read_eaf(given)) == [VideoRecord("shots/b c ü.mp4", "run", 3.5, 5.5)]
    given = source(tmp_path, tier("Ann", "acts", between("a1", "ts2", "ts4", "run")), media=audio)
    (tmp_path / "x.eaf").rename(tmp_path / "a.eaf")
    given.annotations = tmp_path
    assert list(read_eaf(given)) == [VideoRecord("shots/a.mp4", "run", 2, 4)]


def test_a_video_without_a_url_has_the_files_own_name(tmp_path: Path) -> None:
    media = '<MEDIA_DESCRIPTOR MEDIA_URL="" MIME_TYPE="video/mp4" TIME_ORIGIN="1500"/>'
    given = source(tmp_path, tier("Ann", "acts", between("a1", "ts2", "ts4", "run")), media=media)
    (tmp_path / "x.eaf").rename(tmp_path / "a.eaf")
    given.annotations = tmp_path
    assert list(read_eaf(given)) == [VideoRecord("shots/a.mp4", "run", 3.5, 5.5)]


def test_a_file_without_annotations_may_say_that_nothing_happens(tmp_path: Path) -> None:
    given = source(tmp_path, tier("Ann", "acts"))
    assert list(read_eaf(given)) == []
    assert given.left_out == [(str(tmp_path / "x.eaf"), "it has no label")]
    assert list(read_eaf(source(tmp_path, tier("Ann", "acts"), unlabelled_as_none=True))) == [
        VideoRecord("shots/a.mp4", "")
    ]


def test_mistakes_are_named(tmp_path: Path) -> None:
    def fails(message: str, *tiers: str, **more: Any) -> None:
        with pytest.raises(FarfieldError, match=message):
            list(read_eaf(source(tmp_path, *tiers, **more)))

    fails("has times in PAL-frames; they must be in milliseconds", units="PAL-frames")
    fails("annotation a1: there is no time slot 'ts99'", tier("Ann", "acts", between("a1", "ts99", "ts1", "run")))
    fails("contains '|', which separates labels", tier("Ann", "acts", between("a1", "ts1", "ts2", "run|jump")))
    fails("TIME_ORIGIN is '1.5'; it must be a whole number", media=MEDIA.replace("/>", ' TIME_ORIGIN="1.5"/>'))
    given = source(tmp_path)
    (tmp_path / "x.eaf").write_text("<annotations><HEADER/></annotations>")
    with pytest.raises(FarfieldError, match="is not a file of ELAN: it has no <ANNOTATION_DOCUMENT> with <HEADER>"):
        list(read_eaf(given))
    (tmp_path / "x.eaf").write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><ANNOTATION_DOCUMENT/>")
    with pytest.raises(FarfieldError, match="declares a document type or entities, which files of ELAN never do"):
        list(read_eaf(given))
    given.annotations = tmp_path / "videos"
    with pytest.raises(FarfieldError, match=r"there is no \.eaf file in"):
        list(read_eaf(given))
