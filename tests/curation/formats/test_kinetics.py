from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.curation.folder_scan import Reason
from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.kinetics import read_kinetics
from farfield.curation.index import index_videos
from farfield.curation.subset import write_subset
from farfield.data.manifest import read_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError


def test_kinetics_files_without_a_row_are_recorded_as_skipped(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    root = tmp_path / "k"
    names = ["part_0/0123456789A_000000_000010.mp4", "replacement/0123456789A_000000_000010.mp4"]
    for name in [*names, "part_0/unlisted_id_000001_000011.mp4", "part_0/trailer.mp4"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(make_video(40), root / name)
    csv = tmp_path / "kinetics.csv"
    csv.write_text("label,youtube_id,time_start,time_end,split\nsneezing,0123456789A,0,10,train\n")
    out = str(tmp_path / "m.csv")
    made = index_videos(str(root), out, format="kinetics", annotations=str(csv), num_workers=1, list_left_out=True)
    assert [row.path for row in read_manifest(out)] == [f"k/{names[1]}"]
    assert {(Path(path).relative_to(root).as_posix(), reason.name) for path, reason in made.skipped.names} == {
        (names[0], "SAME_CLIP"),
        ("part_0/unlisted_id_000001_000011.mp4", "NOT_ANNOTATED"),
        ("part_0/trailer.mp4", "OTHER_NAME"),
    }


def test_kinetics_csv(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    root = tmp_path / "k"
    (root / "some class").mkdir(parents=True)
    shutil.copy(make_video(40), root / "some class" / "-a_b-c_d-e0_000012_000022.mp4")
    shutil.copy(make_video(40), root / "0123456789A_000000_000010.mp4")
    csv = tmp_path / "kinetics.csv"
    csv.write_text(
        "label,youtube_id,time_start,time_end,split\n"
        "high jump,-a_b-c_d-e0,12,22,train\n"
        "sneezing,0123456789A,0,10,train\n"
        "sneezing,neverLoaded,5,15,train\n"
    )
    made = index_videos(str(root), str(tmp_path / "m.csv"), format="kinetics", annotations=str(csv))
    rows = {row.path: row.label for row in read_manifest(tmp_path / "m.csv")}
    assert rows == {
        "k/some class/-a_b-c_d-e0_000012_000022.mp4": "high jump",
        "k/0123456789A_000000_000010.mp4": "sneezing",
    }
    assert made.failures == [(str(root / "neverLoaded_000005_000015.mp4"), "there is no such file")]


KINETICS_400 = """\
label,youtube_id,time_start,time_end,split,is_cc
"flying kites, big ones",abcdefghij0,7,17,val,0
jumping,abcdefghij1,1234,1244,validate,1
jumping,abcdefghij1,5,15,train,0
,abcdefghij2,5,15,test,0
"""


def make_source(tmp_path: Path, text: str, subset: str | None = None) -> AnnotationSource:
    (tmp_path / "k/part").mkdir(parents=True, exist_ok=True)
    for name in ("abcdefghij1_001234_001244.mp4", "abcdefghij1_000005_000015.mkv"):
        (tmp_path / "k/part" / name).touch()
    (tmp_path / "k.csv").write_bytes(text.encode())
    return AnnotationSource(tmp_path / "k", tmp_path / "k.csv", subset=subset)


def test_rows_get_their_youtube_id_as_group(tmp_path: Path) -> None:
    source = make_source(tmp_path, KINETICS_400.replace("\n", "\r\n"))
    assert list(read_kinetics(source)) == [
        VideoRecord("abcdefghij0_000007_000017.mp4", "flying kites, big ones", group="abcdefghij0"),
        VideoRecord("part/abcdefghij1_001234_001244.mp4", "jumping", group="abcdefghij1"),
        VideoRecord("part/abcdefghij1_000005_000015.mkv", "jumping", group="abcdefghij1"),
    ]
    assert source.left_out == [("abcdefghij2_000005_000015.mp4", "it has no label")]


@pytest.mark.parametrize(("subset", "starts"), [("val", [7, 1234]), ("Validation", [7, 1234]), ("train", [5])])
def test_val_and_validate_are_one_subset(tmp_path: Path, subset: str, starts: list[int]) -> None:
    source = make_source(tmp_path, KINETICS_400, subset)
    assert [int(Path(record.path).stem.split("_")[1]) for record in read_kinetics(source)] == starts
    assert source.skipped.counts[Reason.NOT_ANNOTATED] == 0


def test_a_subset_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        FarfieldError, match="no clips of the subset 'dev': the column 'split' has the values test, train, val, val"
    ):
        list(read_kinetics(make_source(tmp_path, KINETICS_400, "dev")))
    with pytest.raises(FarfieldError, match=r"the column 'split' is missing or empty\. Leave subset out\."):
        list(read_kinetics(make_source(tmp_path, "label,youtube_id,time_start\na,abcdefghij0,7\n", "train")))


def test_a_test_list_without_labels_is_left_out(tmp_path: Path) -> None:
    text = "youtube_id,time_start,time_end,split\nabcdefghij1,5,15,test\nabcdefghij0,7,17,test\n"
    source = make_source(tmp_path, text)
    assert list(read_kinetics(source)) == []
    assert source.left_out == [
        ("part/abcdefghij1_000005_000015.mkv", "it has no label"),
        ("abcdefghij0_000007_000017.mp4", "it has no label"),
    ]
    with pytest.raises(
        FarfieldError, match=r"no annotated video can be used \(2 left out\)\. The first is part/.*: it has no label"
    ):
        index_videos(source.root, tmp_path / "m.csv", format="kinetics", annotations=source.annotations)
    with pytest.raises(FarfieldError, match="has no column 'label': it is one of Kinetics' test lists"):
        write_subset(source.annotations, tmp_path / "few.csv")
    (tmp_path / "k.csv").write_text(KINETICS_400)
    with pytest.raises(FarfieldError, match=r"k\.csv, line 5: the clip has no label\. Leave the row out"):
        write_subset(source.annotations, tmp_path / "few.csv")
