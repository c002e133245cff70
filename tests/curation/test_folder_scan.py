"""A scan of a folder finds every video once, and records skipped files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from farfield.curation.folder_scan import VIDEO_SUFFIXES, Reason, SkippedFiles, scan_folder
from farfield.curation.index import index_videos
from farfield.curation.verify import verify
from farfield.curation.video_inputs import find_videos
from farfield.data.manifest import read_manifest
from farfield.errors import FarfieldError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def scanned(root: Path, **options: Path) -> tuple[list[str], dict[str, str]]:
    """Names of the videos, and of what was left out to the reason."""
    skipped = SkippedFiles(keep_names=True)
    videos = scan_folder(root, skipped, **options)
    assert len(skipped.names) == sum(skipped.counts.values())
    names = {Path(path).relative_to(root).as_posix(): reason.name for path, reason in skipped.names}
    return [video.relative_to(root).as_posix() for video in videos], names


def test_every_file_is_found_or_recorded_as_skipped(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "project/root", tmp_path / "elsewhere"
    touch(root, "run/a.MP4", "run/deep/b.mxf", "run/notes.txt", "run/README", "run/.a.mp4", ".Trash-1000/files/old.mp4")
    touch(root, "$RECYCLE.BIN/S-1-5/$R1.mp4", "jump/@eaDir/preview.mp4")
    touch(elsewhere, "dive/c.mkv", "0af3", "dive/more/d.mov")
    os.mkfifo(root / "run/pipe.mp4")
    (root / "run/gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (root / "run/me.mp4").symlink_to("me.mp4")
    (root / "run/named.mp4").symlink_to(elsewhere / "0af3")  # a store that names files by their content
    (root / "dive").symlink_to(elsewhere / "dive")
    (root / "again").symlink_to("run")
    (root / "run/deep/up").symlink_to("..")
    (elsewhere / "dive/back").symlink_to(root.parent)
    touch(root.parent, "other/beside.mp4")
    videos, names = scanned(root)
    assert videos == ["dive/c.mkv", "dive/more/d.mov", "run/a.MP4", "run/deep/b.mxf", "run/named.mp4"]
    assert names == {
        ".Trash-1000": "HIDDEN",
        "run/.a.mp4": "HIDDEN",
        "$RECYCLE.BIN": "SYSTEM_FOLDER",
        "jump/@eaDir": "SYSTEM_FOLDER",
        "run/notes.txt": "OTHER_ENDING",
        "run/README": "OTHER_ENDING",
        "run/gone.mp4": "BROKEN_LINK",
        "run/me.mp4": "BROKEN_LINK",
        "run/pipe.mp4": "NO_REGULAR_FILE",
        "run/deep/up": "LINK_LOOP",
        "dive/back": "LINK_LOOP",
        "again": "SCANNED_ALREADY",
    }


def test_a_folder_keeps_its_own_name_rather_than_a_links(tmp_path: Path) -> None:
    touch(tmp_path, "z/a.mp4")
    (tmp_path / "a").symlink_to("z")
    assert scanned(tmp_path) == (["z/a.mp4"], {"a": "SCANNED_ALREADY"})


def test_the_folder_itself_may_be_hidden_or_a_link(tmp_path: Path) -> None:
    touch(tmp_path, ".cache/run/a.mp4")
    (tmp_path / "link").symlink_to(".cache")
    for root in (tmp_path / ".cache", tmp_path / "link"):
        assert scanned(root) == (["run/a.mp4"], {})


def test_the_output_folder_is_excluded(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "out/a.mp4", "out/deep/a.mp4")
    (tmp_path / "link.mp4").symlink_to("out/a.mp4")
    assert scanned(tmp_path, exclude=tmp_path / "out") == (["a.mp4"], {})
    everything = ["a.mp4", "link.mp4", "out/a.mp4", "out/deep/a.mp4"]
    for whole in (tmp_path, tmp_path.parent):
        assert scanned(tmp_path, exclude=whole) == (everything, {})


def test_a_folder_without_read_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "run/a.mp4", "shut/b.mp4")
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    (tmp_path / "shut").chmod(0o000)
    skipped = SkippedFiles(keep_names=True)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # who may read everything is no test
        videos = scan_folder(".", skipped)
    finally:
        if user == 0:
            os.seteuid(0)
        (tmp_path / "shut").chmod(0o755)
    assert videos == [Path("run/a.mp4")]
    assert skipped.names == [("shut", Reason.UNREADABLE)]


def test_skipped_files_are_summarised_in_one_line(tmp_path: Path) -> None:
    skipped = SkippedFiles()
    for name in [".a", ".b", ".c"]:
        skipped.add(Reason.HIDDEN, name)
    for number in range(12):
        skipped.add(Reason.OTHER_ENDING, f"{number}.{'txt' if number < 10 else 'JPG'}")
    skipped.add(Reason.BROKEN_LINK, "x.mp4")
    assert skipped.summary() == "3 hidden, 12 files without a video suffix (.txt 10, .jpg 2), 1 broken link"
    assert skipped.as_dict() == {"hidden": 3, "other_ending": 12, "broken_link": 1}
    assert skipped.names == []
    for number in range(9):
        skipped.add(Reason.OTHER_ENDING, f"a.x{number}")
    skipped.add(Reason.OTHER_ENDING, "README")
    assert (
        "22 files without a video suffix (.txt 10, .jpg 2, none 1, .x0 1, .x1 1, .x2 1, 6 others)" in skipped.summary()
    )
    assert SkippedFiles().summary() == SkippedFiles().sentence() == ""


def test_endings_that_ffmpeg_writes_videos_to_are_videos() -> None:
    """FFmpeg's own lists; left out are those of sound, single pictures, subtitles and manifests."""
    endings = {".asf", ".vob", ".m2v", ".h264", ".264", ".hevc", ".265", ".h265", ".mxf", ".y4m", ".apng", ".dv", ".rm"}
    endings |= {".rmvb", ".f4v", ".mod", ".tod", ".webp", ".ogg", ".qt", ".divx"}
    of_formats = "3gp 3g2 apng asf av1 avi avs2 avs3 dv f4v flv gif h261 h263 h264 hevc ivf matroska mjpeg mov mp4 mpeg"
    of_formats += " mpeg2video mpegts mxf nut obu ogg ogv rm svcd vc1 vcd vob vvc webm wtv yuv4mpegpipe dnxhd gxf"
    for name in of_formats.split():
        try:
            found = {f".{each}" for each in av.ContainerFormat(name, "w").extensions}
        except ValueError:
            continue  # not in this FFmpeg
        endings |= found - {".m2a", ".ra", ".mka", ".mks", ".wma", ".avs"}  # .avs: scripts
    assert endings - VIDEO_SUFFIXES == set()
    assert not VIDEO_SUFFIXES & {
        ".jpg",
        ".png",
        ".bmp",
        ".tif",
        ".mp3",
        ".wav",
        ".m4a",
        ".srt",
        ".txt",
        ".csv",
        ".m3u8",
    }


@pytest.fixture
def linked(tmp_path: Path, make_video: Callable[..., Path]) -> Path:
    """Classes of links: one to files that are named by content, one to a folder."""
    video = make_video(40)
    store = tmp_path / "store"
    for name in ("objects/3f/9a1c", "dive/c.mp4"):
        (store / name).parent.mkdir(parents=True)
        shutil.copy(video, store / name)
    root = tmp_path / "project" / "videos"
    (root / "run").mkdir(parents=True)
    (root / "run/first.mp4").symlink_to(store / "objects/3f/9a1c")
    (root / "dive").symlink_to(store / "dive")
    (root / "run/notes.txt").write_text("none")
    return root


@pytest.mark.slow
def test_links_keep_their_names_in_manifests_and_predictions(
    linked: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = linked.parent / "m.csv"
    assert run_farfield("data", "index", linked, out) == 0
    manifest = read_manifest(out)
    assert [(row.path, row.label) for row in manifest] == [
        ("videos/dive/c.mp4", "dive"),
        ("videos/run/first.mp4", "run"),
    ]
    assert all(manifest.path(row).is_file() for row in range(2))
    last = "left out: 1 file without a video suffix (.txt 1); --list_left_out names them"
    assert capsys.readouterr().err.splitlines()[-1] == last
    skipped = SkippedFiles()
    assert find_videos([str(linked)], skipped=skipped) == [str(manifest.path(row)) for row in range(2)]
    assert skipped.as_dict() == {"other_ending": 1}
    assert run_farfield("data", "index", linked, out, "--list_left_out") == 0
    assert f"left out: {linked / 'run/notes.txt'}: file without a video suffix\n" in capsys.readouterr().err
    found = verify([linked], linked.parent / "checked", num_workers=1, sample=0)
    assert found.videos == 2
    assert found.skipped.as_dict() == {"other_ending": 1}
    assert json.loads((linked.parent / "checked/report.json").read_text())["left_out"] == {"other_ending": 1}
    assert {row.path for row in read_manifest(linked.parent / "checked/videos.csv")} == {
        str(linked / "dive/c.mp4"),
        str(linked / "run/first.mp4"),
    }


@pytest.mark.slow
def test_prepare_follows_links_and_reports_skipped_files(
    linked: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    store = linked / "prepared"  # among the videos
    for _ in range(2):
        assert run_farfield("data", "prepare", linked, store, "--num_workers", 1, "--json") == 0
        captured = capsys.readouterr()
        about = json.loads(captured.out)
        assert (about["videos"], about["left_out"]) == (2, {"other_ending": 1})
        assert "left out: 1 file without a video suffix (.txt 1); --list_left_out names them" in captured.err
    assert [row.label for row in read_manifest(store / "manifest.csv")] == ["dive", "run"]


def test_the_error_for_a_folder_without_videos_counts_skipped_files(
    tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    touch(tmp_path, "run/a.txt")
    for call in (
        lambda: index_videos(str(tmp_path), str(tmp_path / "m.csv")),
        lambda: verify([tmp_path], tmp_path / "out"),
        lambda: find_videos([str(tmp_path)]),
    ):
        with pytest.raises(FarfieldError, match=r"no videos.*Left out: 1 file without a video suffix \(\.txt 1\)"):
            call()
