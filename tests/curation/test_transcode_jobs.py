"""Which videos of a folder, an archive or a manifest are transcoded, and to which files."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from conftest import number_of
from farfield.curation.encoding import Encoding
from farfield.curation.folder_scan import SkippedFiles
from farfield.curation.prepare import prepare
from farfield.curation.transcode_jobs import Labels, list_jobs
from farfield.data.manifest import write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.video.decoders import open_video
from video.encoding import encode

SMALL = Encoding(short_side_px=96, keyframe_interval=12, b_frames=5, preset="ultrafast")


def numbers(path: Path) -> list[int]:
    with open_video(path) as video:
        return [number_of(frame) for frame in video.frames(np.arange(len(video.times)))]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_kinetics_archives_are_read_without_unpacking(suffix: str, tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", num_frames=10)
    names = ["abcdefghijk_000010_000020.mp4", "-bcdefghij0_000007_000017.mp4", "unknown0000_000001_000011.mp4"]
    (tmp_path / "archives").mkdir()
    with tarfile.open(tmp_path / f"archives/part_0{suffix}", "w:gz" if suffix.endswith("gz") else "w") as tar:
        for name in [*names, "../../../outside.mp4", "/absolute.mp4", "readme.txt", ".Trash-1000/old.mp4"]:
            info = tarfile.TarInfo(name)
            info.size = clip.stat().st_size
            with clip.open("rb") as content:
                tar.addfile(info, content)
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    (tmp_path / "archives/._part_0.tar").write_bytes(b"what macOS puts beside a file")
    (tmp_path / "archives/beside.mp4").write_bytes(clip.read_bytes())
    rows = (
        "label,youtube_id,time_start,time_end,split\nbowling,abcdefghijk,10,20,train\narchery,-bcdefghij0,7,17,train\n"
    )
    (tmp_path / "train.csv").write_text(rows)
    before = set(tmp_path.rglob("*"))
    made = prepare(
        tmp_path / "archives",
        tmp_path / "out/store",
        annotations=tmp_path / "train.csv",
        encoding=SMALL,
        progress=False,
    )
    assert sorted((row.label, Path(row.path).name) for row in made.records) == [
        ("archery", names[1]),
        ("bowling", names[0]),
    ]
    assert (made.unlabelled, made.failures) == (3, [])
    expected = {"hidden": 1, "other_ending": 1, "no_regular_file": 1, "beside_archives": 1}
    assert made.skipped.as_dict() == expected
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "out") for path in new)
    assert sum(path.suffix == ".mp4" for path in new) == 5


def archive(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    return path


def labels_of(source: Path, labels: Labels | None = None) -> list[str | None]:
    jobs, _ = list_jobs(source, source.parent / "out", SMALL, labels, None, SkippedFiles())
    return [job.label for job in jobs]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["run/a.mp4", "jump/b.mp4", "c.mp4"], ["run", "jump", None]),
        (["./run/ann/a.mp4", "./jump/bob/b.mp4", "run/c.mp4"], ["run", "jump", "run"]),
        (["all/readme.txt", "all/run/a.mp4", "all/jump/bob/b.mp4"], ["run", "jump"]),  # one folder around all classes
        (["all/run/a.mp4", "all/jump/b.mp4", "all/c.mp4"], ["run", "jump", None]),
        (["/data/all/train/run/a.mp4", "/data/all/train/jump/b.mp4"], ["run", "jump"]),
        (["all/run/a.mp4", "all/run/b.mp4"], ["run", "run"]),
        (["run/a.mp4", "run/b.mp4"], ["run", "run"]),
        (["a.mp4"], [None]),
    ],
)
def test_class_folders_of_an_archive_are_those_of_a_folder(
    names: list[str], labels: list[str | None], tmp_path: Path
) -> None:
    assert labels_of(archive(tmp_path / "a.tar", *names)) == labels


def test_class_folders_are_at_one_level_in_all_archives(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    archive(tmp_path / "parts/1.tar", "all/run/ann/a.mp4")
    archive(tmp_path / "parts/2.tar", "all/jump/bob/b.mp4", "all/run/c.mp4")
    assert labels_of(tmp_path / "parts") == ["run", "jump", "run"]


def test_class_folders_of_an_archive_are_checked(tmp_path: Path) -> None:
    for name, wanted in (
        ("open|close", r"class folder .*open\|close contains '\|'"),
        ("test", "are splits, not classes: test"),
    ):
        given = archive(tmp_path / "a.tar", f"{name}/a.mp4")
        with pytest.raises(FarfieldError, match=wanted):
            labels_of(given)


def test_a_clip_with_an_empty_label_in_kinetics_csv_has_none(tmp_path: Path) -> None:
    given = archive(tmp_path / "a.tar", "abcdefghijk_000010_000020.mp4", "abcdefghijk_000030_000040.mp4")
    known = {("abcdefghijk", 10.0): "", ("abcdefghijk", 30.0): "run"}
    assert labels_of(given, known) == [None, "run"]


@pytest.mark.slow
def test_a_truncated_archive_raises_and_keeps_complete_videos(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", num_frames=10)
    with tarfile.open(tmp_path / "whole.tar", "w") as tar:
        for name in ("a/1.mp4", "a/2.mp4"):
            tar.add(clip, name)
    whole = (tmp_path / "whole.tar").read_bytes()
    (tmp_path / "part.tar").write_bytes(whole[: clip.stat().st_size * 3 // 2 + 1024])
    with pytest.raises(FarfieldError, match=r"part.tar cannot be read to its end"):
        prepare(tmp_path / "part.tar", tmp_path / "out", encoding=SMALL, progress=False)
    (tmp_path / "part.tar").write_bytes(whole)
    made = prepare(tmp_path / "part.tar", tmp_path / "out", encoding=SMALL, progress=False)
    assert len(made.records) == 2
    assert made.already_there == 1


@pytest.mark.slow
def test_target_names_are_unique_and_inside_the_store(tmp_path: Path) -> None:
    """Another video of the same name, a damaged file, half-written ones: made anew, and only then."""
    (tmp_path / "in/a").mkdir(parents=True)
    encode(tmp_path / "in/a/x.mp4", num_frames=10)
    encode(tmp_path / "in/a/y.mp4", num_frames=12)

    def lengths() -> dict[str, int | None]:
        made = prepare(tmp_path / "in", tmp_path / "out", encoding=SMALL, num_workers=1, progress=False)
        return {Path(row.path).name: row.num_frames for row in made.records} | {"there": made.already_there}

    assert lengths() == {"x.mp4": 10, "y.mp4": 12, "there": 0}
    encode(tmp_path / "in/a/x.mp4", num_frames=20)
    encode(tmp_path / "in/a/x.avi", "mpeg4", num_frames=15)
    (tmp_path / "out/videos/a/y.mp4").write_bytes(bytes(500))
    (tmp_path / "out/videos/a/0123.99.partial").write_bytes(b"half")
    assert lengths() == {"x.mp4": 20, "x.avi.mp4": 15, "y.mp4": 12, "there": 0}
    assert lengths()["there"] == 3
    assert not list((tmp_path / "out").rglob("*.partial"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothere", "there is no .*nothere"),
        ("clip.mp4", "is a video. Give a manifest, a tar archive, or the folder"),
        ("m.csv", "the source is a manifest, which has its own labels"),
    ],
)
def test_an_invalid_source_is_refused(source: str, message: str, tmp_path: Path) -> None:
    encode(tmp_path / "clip.mp4", num_frames=2)
    write_manifest(tmp_path / "m.csv", [VideoRecord("clip.mp4", "a")])
    (tmp_path / "train.csv").write_text("label,youtube_id,time_start\n")
    with pytest.raises(FarfieldError, match=message):
        prepare(tmp_path / source, tmp_path / "out", annotations=tmp_path / "train.csv", progress=False)


def test_groups_and_rows_of_no_class_are_kept(tmp_path: Path) -> None:
    for name in ("a", "b"):
        encode(tmp_path / f"{name}.mp4", num_frames=5)
    rows = [VideoRecord("a.mp4", "run|jump", group="ann"), VideoRecord("b.mp4", "", group="ben")]
    write_manifest(tmp_path / "all.csv", rows)
    made = prepare(tmp_path / "all.csv", tmp_path / "store", encoding=SMALL, num_workers=1, progress=False)
    assert [(row.label, row.group) for row in made.records] == [("run|jump", "ann"), ("", "ben")]
    assert made.unlabelled == 0
