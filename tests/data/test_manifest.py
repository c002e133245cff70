from __future__ import annotations

from pathlib import Path

import pytest

from farfield.data.manifest import Manifest, VideoRecord, read_manifest, write_manifest
from farfield.errors import FarfieldError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    records = [
        VideoRecord("a b.mp4", "jump", 1.25, 3.5, 100, 25.0, 320, 240, 4.0),
        VideoRecord('sub/"c",d.mp4', "läuft", None, None, 7, 29.97, 64, 48, 0.2333),
    ]
    write_manifest(tmp_path / "m.csv", records)
    manifest = read_manifest(tmp_path / "m.csv")
    assert list(manifest) == records
    assert manifest.path(1) == tmp_path / 'sub/"c",d.mp4'
    assert read_manifest(tmp_path / "m.csv", root="/videos").path(0) == Path("/videos/a b.mp4")


def test_columns_that_nothing_fills_are_left_out(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", [VideoRecord("a.mp4", "x")])
    assert (tmp_path / "m.csv").read_text() == "path,label\na.mp4,x\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column 'path'"),
        ("path,label\n", "lists no videos"),
        ("a.mp4 3\nb.mp4 1\n", r"has a column 'a\.mp4 3'"),
        ("path,lable\na,b\n", "has a column 'lable'.*Did you mean 'label'"),
        ("path\na\n", "has no column 'label'.*`farfield data index` reads other formats"),
        ("path,label\na\n", "line 2: 1 values for 2 columns"),
        ("path,label\na,\n", "line 2: the label is empty"),
        ("path,label,fps\na,b,fast\n", "line 2: fps is 'fast'; it must be a number"),
        ("path,label,start_seconds,end_seconds\na,b,3,2\n", r"line 2: the segment \[3.0, 2.0\) is empty"),
        ("path,label\n\xff\xfe", "is not a CSV file"),
    ],
)
def test_a_malformed_manifest_is_refused_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(FarfieldError, match=message):
        read_manifest(tmp_path / "m.csv")


def test_a_missing_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match=r"no manifest at .*m\.csv.*`farfield data index` makes one"):
        read_manifest(tmp_path / "m.csv")


def test_targets_follow_the_networks_labels() -> None:
    manifest = Manifest([VideoRecord("1", "b"), VideoRecord("2", "a"), VideoRecord("3", "b")], root=".")
    assert manifest.targets(["c", "b", "a"]).tolist() == [1, 2, 1]
    with pytest.raises(
        FarfieldError, match=r"2 has the label 'a', which is not one of the 2.*Known: b, aa\. Did you mean"
    ):
        manifest.targets(["b", "aa"])


def test_labels_that_are_numbers_are_sorted_as_numbers() -> None:
    manifest = Manifest([VideoRecord("v", str(i)) for i in (10, 9, 0, 100)], root=".")
    assert manifest.labels == ["0", "9", "10", "100"]
