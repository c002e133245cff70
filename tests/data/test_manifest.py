from __future__ import annotations

from pathlib import Path

import pytest

from farfield.data import manifest_csv
from farfield.data.manifest import Manifest, read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError


def test_a_written_manifest_is_read_back(tmp_path: Path) -> None:
    records = [
        VideoRecord("a b.mp4", "jump", 1.25, 3.5, 100, 25.0, 320, 240, 4.0),
        VideoRecord('sub/"c",d.mp4', "läuft", None, None, 7, 29.97, 64, 48, 0.2333),
    ]
    write_manifest(tmp_path / "m.csv", records)
    manifest = read_manifest(tmp_path / "m.csv")
    assert list(manifest) == records
    assert manifest.path(1) == tmp_path / 'sub/"c",d.mp4'
    assert read_manifest(tmp_path / "m.csv", root="/videos").path(0) == Path("/videos/a b.mp4")


def test_empty_columns_are_left_out(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", [VideoRecord("a.mp4", "x")])
    assert (tmp_path / "m.csv").read_text() == "path,label\na.mp4,x\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column 'path'"),
        ("path,label\n", "lists no videos"),
        ("a.mp4 3\nb.mp4 1\n", r"has an unknown column 'a\.mp4 3'"),
        ("path,lable\na,b\n", "has an unknown column 'lable'.*Did you mean 'label'"),
        ("path\na\n", "has no column 'label'.*`farfield data index` reads other formats"),
        ("path,label\na\n", r"line 2: the row has more or fewer values than the header \(1 instead of 2\)"),
        ("path,label\n,a\n", "line 2: the path is empty"),
        ("path,label\na,b\n , c\n", "line 3: the path is empty"),
        ('path,label\na,b\n\n" ","a"\n', "line 4: the path is empty"),
        ('path,label,label\n"a",b,c\n', "has the column 'label' twice: its first line is 'path,label,label'"),
        ("path,label,fps\na,b,25\na,b,-1\n", "line 3: fps is '-1'; it must be a number"),
        ("path,label,fps\na,b,\na,b,nan\n", "line 3: fps is 'nan'; it must be a number"),
        ("path,label,width\na,b,inf\n", "line 2: width is 'inf'; it must be a number"),
        ('path,label,start_seconds,end_seconds\n"a",b,,2\na,b,3,3\n', r"line 3: the segment \[3.0, 3.0\) is empty"),
        ("path,label,fps\na,b,fast\n", "line 2: fps is 'fast'; it must be a number"),
        ("path,label,start_seconds,end_seconds\na,b,3,2\n", r"line 2: the segment \[3.0, 2.0\) is empty"),
        ("\x00\x00\x00\x1cftypisom\xff\xfe", "is not a CSV file"),
        ('path,label\n"a",b\nc,"d\ne,f\n', "line 3: a quotation mark is not closed"),
        ('path,label\n"a"b,c\n', "line 2: a quotation mark is not closed, or text follows it"),
        ("path,label\n\xff\xfe", r"line 2: the row has more or fewer values than the header \(1 instead of 2\)"),
    ],
)
def test_a_malformed_manifest_is_refused_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(FarfieldError, match=message):
        read_manifest(tmp_path / "m.csv")


def test_a_missing_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match=r"no manifest at .*m\.csv.*`farfield data index` makes a manifest"):
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


def test_quotes_line_ends_and_empty_lines_read_as_the_csv_module_reads_them(tmp_path: Path) -> None:
    plain = "path,label,fps\na.mp4,x,25\nb.mp4,y,\nc.mp4,x,29.97\n"
    for text in (
        plain,
        plain.replace("\n", "\r\n"),
        plain.removesuffix("\n"),
        plain.replace("b.mp4,y,\n", "\nb.mp4,y,\n\n"),
        plain.replace("b.mp4", '"b.mp4"'),
    ):
        (tmp_path / "m.csv").write_bytes(text.encode())
        rows = [(row.path, row.label, row.fps) for row in read_manifest(tmp_path / "m.csv")]
        assert rows == [("a.mp4", "x", 25.0), ("b.mp4", "y", None), ("c.mp4", "x", 29.97)]


@pytest.mark.parametrize("quote", ["", '"'])
def test_blanks_around_a_value_are_stripped(quote: str, tmp_path: Path) -> None:
    text = f"path, label , num_frames\n{quote}a b.mp4{quote}, {quote}jump{quote}, 7\n c.mp4,jump ,\n"
    (tmp_path / "m.csv").write_text(text)
    manifest = read_manifest(tmp_path / "m.csv")
    assert [(row.path, row.num_frames) for row in manifest] == [("a b.mp4", 7), ("c.mp4", None)]
    assert manifest.labels == ["jump"]


def test_many_rows_are_read_in_blocks_and_named_by_their_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_csv, "_BLOCK", 7)
    lines = ["path,label,num_frames"] + [f"vidéo_{i}.mp4,{i % 3},{i}" for i in range(50)]
    quoted = [*lines[:20], '"with ""quotes"",\nand a line end",1,5', *lines[20:]]
    for content in (lines, quoted):
        (tmp_path / "m.csv").write_text("\n".join(content))
        manifest = read_manifest(tmp_path / "m.csv")
        assert [row.path for row in manifest if row.path.startswith("v")] == [f"vidéo_{i}.mp4" for i in range(50)]
        assert [row.num_frames for row in manifest if row.path.startswith("v")] == list(range(50))
    assert manifest[19].path == 'with "quotes",\nand a line end'
    lines[31] = "broken.mp4,1,many"
    (tmp_path / "m.csv").write_text("\n".join(lines))
    with pytest.raises(FarfieldError, match="line 32: num_frames is 'many'"):
        read_manifest(tmp_path / "m.csv")
    lines[31], lines[33] = "a,1", "b,1,2,3"  # as many commas in all as there should be
    (tmp_path / "m.csv").write_text("\n".join(lines))
    with pytest.raises(FarfieldError, match=r"line 32: .* the header \(2 instead of 3\)"):
        read_manifest(tmp_path / "m.csv")


def test_a_very_long_path_needs_only_its_own_length(tmp_path: Path) -> None:
    records = [VideoRecord(f"{i}.mp4", "x") for i in range(1000)] + [VideoRecord("y" * 3000, "x")]
    manifest = Manifest(records, root=tmp_path)
    assert manifest._paths.bytes.nbytes < 10_000
    assert manifest[-1].path == "y" * 3000
    assert manifest[999].path == "999.mp4"


def test_several_labels_or_none(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label\na.mp4,sit|walk\nb.mp4,\nc.mp4,walk | jump\nd.mp4,sit\n")
    manifest = read_manifest(tmp_path / "m.csv")
    assert manifest.labels == ["jump", "sit", "walk"]
    assert [row.labels for row in manifest] == [("sit", "walk"), (), ("walk", "jump"), ("sit",)]
    assert manifest.target_matrix(["walk", "jump", "sit", "swim"]).tolist() == [
        [1, 0, 1, 0],
        [0, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 0],
    ]
    with pytest.raises(FarfieldError, match=r"b\.mp4 has no label, but a single-label network needs"):
        manifest.targets(["jump", "sit", "walk"])
    with pytest.raises(FarfieldError, match="has the label 'jump', which is not one of the 2 classes"):
        manifest.target_matrix(["sit", "walk"])
    write_manifest(tmp_path / "again.csv", list(manifest))
    assert list(read_manifest(tmp_path / "again.csv")) == list(manifest)


def test_groups_are_read_and_written(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label,group\na.mp4,sit,ann\nb.mp4,sit,\n")
    manifest = read_manifest(tmp_path / "m.csv")
    assert [row.group for row in manifest] == ["ann", None]
    write_manifest(tmp_path / "again.csv", list(manifest))
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "m.csv").read_text()
    (tmp_path / "p.csv").write_text("path,label,person\na.mp4,sit,ann\n")
    assert [row.group for row in read_manifest(tmp_path / "p.csv", group_column="person")] == ["ann"]
    with pytest.raises(FarfieldError, match="unknown column 'person'"):
        read_manifest(tmp_path / "p.csv")
    (tmp_path / "q.csv").write_text("path,group,label,camera,person\na.mp4,x,sit,north,ann\n")
    assert read_manifest(tmp_path / "q.csv", group_column="person")[0] == VideoRecord("a.mp4", "sit", group="ann")
