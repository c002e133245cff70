from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.curation.folder_scan import SkippedFiles
from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.thumos14 import read_thumos14
from farfield.data.manifest import read_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

CHECK, PROBE, MIXED = "video_validation_0000017", "video_test_0000023", "video_test_0000031"


@pytest.fixture
def source(tmp_path: Path) -> AnnotationSource:
    folder = tmp_path / "annotation"
    folder.mkdir()
    (folder / "Juggling_val.txt").write_text(f"{CHECK}  7.5 11.3\n{CHECK}  1.1 2.9\n")
    (folder / "ClubJuggling_val.txt").write_text(f"{CHECK} 1.1 2.9 \n\n")
    (folder / "Ambiguous_val.txt").write_text(f"{CHECK}  0.3 1.1\n")
    (folder / "Juggling_test.txt").write_text(f"{PROBE}  5.0 5.0\n{PROBE}  0.7 1.9\n")
    (folder / "Ambiguous_test.txt").write_text(f"{MIXED}  0.2 0.9\n")
    (folder / "detclasslist.txt").write_text("3 Juggling\n5 ClubJuggling\n")
    (folder / "README.txt").write_text("The folder has a file for each class.\n")
    root = tmp_path / "videos"
    for name in (f"val/{CHECK}.mp4", f"{PROBE}.webm", "video_validation_0000099.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return AnnotationSource(root, folder, skipped=SkippedFiles(keep_names=True))


def test_one_row_per_segment_by_video_and_time(source: AnnotationSource) -> None:
    assert list(read_thumos14(source)) == [
        VideoRecord(f"{PROBE}.webm", "Juggling", 0.7, 1.9, group=PROBE),
        VideoRecord(f"val/{CHECK}.mp4", "ClubJuggling", 1.1, 2.9, group=CHECK),
        VideoRecord(f"val/{CHECK}.mp4", "Juggling", 1.1, 2.9, group=CHECK),
        VideoRecord(f"val/{CHECK}.mp4", "Juggling", 7.5, 11.3, group=CHECK),
    ]
    assert source.left_out == [
        (PROBE, "the segment [5, 5) of 'Juggling' is empty"),
        (MIXED, "the segment [0.2, 0.9) is ambiguous: it may or may not show the action"),
        (CHECK, "the segment [0.3, 1.1) is ambiguous: it may or may not show the action"),
    ]
    assert [(Path(path).name, reason.name) for path, reason in source.skipped.names] == [
        ("video_validation_0000099.mp4", "NOT_ANNOTATED")
    ]


def test_a_subset_has_its_own_videos_and_reports_only_those(source: AnnotationSource) -> None:
    source.subset = "validation"
    assert {record.group for record in read_thumos14(source)} == {CHECK}
    assert [name for name, _ in source.left_out] == [CHECK]
    assert [Path(path).name for path, _ in source.skipped.names] == ["video_validation_0000099.mp4"]


def test_files_of_multithumos_have_both_subsets(source: AnnotationSource, tmp_path: Path) -> None:
    source.annotations = tmp_path / "annotations"
    source.annotations.mkdir()
    (source.annotations / "OneHandedCatch.txt").write_text(f"{PROBE} 0.37 1.93\n{CHECK} 2.03 2.71\n")
    rows = [
        VideoRecord(f"{PROBE}.webm", "OneHandedCatch", 0.37, 1.93, group=PROBE),
        VideoRecord(f"val/{CHECK}.mp4", "OneHandedCatch", 2.03, 2.71, group=CHECK),
    ]
    assert list(read_thumos14(source)) == rows
    source.subset = "test"
    assert list(read_thumos14(source)) == rows[:1]


def test_a_video_that_is_there_twice_is_left_out_once(source: AnnotationSource) -> None:
    (source.root / f"{CHECK}.mp4").touch()
    assert {record.group for record in read_thumos14(source)} == {PROBE}
    (reason,) = (reason for name, reason in source.left_out if name == CHECK)
    assert reason.startswith("several videos have this name: ")


@pytest.mark.parametrize("line", [f"{CHECK}  1.1", f"{CHECK}  1.1 2.9 3", f"{CHECK}  1.1 nan", f"{CHECK},1.1,2.9"])
def test_malformed_lines(source: AnnotationSource, line: str) -> None:
    (source.annotations / "Juggling_val.txt").write_text(f"{CHECK}  7.5 11.3\n{line}\n")
    with pytest.raises(FarfieldError, match=rf"Juggling_val\.txt, line 2: '{line}' must be `video start end`"):
        list(read_thumos14(source))


def test_other_folders_and_subsets_are_refused(source: AnnotationSource) -> None:
    source.subset = "val"
    with pytest.raises(FarfieldError, match="subset is 'val'; it must be validation or test"):
        list(read_thumos14(source))
    source.subset = "test"
    for file in source.annotations.glob("*_test.txt"):
        file.unlink()
    with pytest.raises(
        FarfieldError, match=r"annotation lists no video of the subset 'test': none is named video_test_"
    ):
        list(read_thumos14(source))
    source.annotations = source.annotations.parent
    with pytest.raises(
        FarfieldError, match=r"no files <class>\.txt in .*\. There are such files in .*annotation\. Give the folder"
    ):
        list(read_thumos14(source))


def test_the_command_leaves_out_what_lies_after_the_end(
    source: AnnotationSource,
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(make_video(60, fps=10), source.root / f"val/{CHECK}.mp4")  # 6 s
    options = ["--format", "thumos14", "--annotations", source.annotations, "--subset", "validation"]
    assert run_farfield("data", "index", source.root, tmp_path / "m.csv", *options) == 1
    shown = capsys.readouterr()
    assert "m.csv: 2 segments in 1 videos of 2 classes" in shown.out
    assert "is ambiguous" in shown.err
    assert "7.5" in shown.err
    rows = read_manifest(tmp_path / "m.csv")
    assert [(row.label, row.start_seconds, row.end_seconds) for row in rows] == [
        ("ClubJuggling", 1.1, 2.9),
        ("Juggling", 1.1, 2.9),
    ]
