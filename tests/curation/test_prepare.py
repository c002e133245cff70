"""Stores: settings, resumed runs, failures and labels."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from conftest import number_of
from failing_jobs import misbehave
from farfield.curation.encoding import Encoding
from farfield.curation.prepare import prepare
from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.parallel import for_each
from farfield.video.decoders import open_video
from farfield.video.writer import write_video
from video.encoding import encode

SMALL = Encoding(short_side_px=96, keyframe_interval=12, b_frames=5, preset="ultrafast")


def numbers(path: Path) -> list[int]:
    with open_video(path) as video:
        return [number_of(frame) for frame in video.frames(np.arange(len(video.times)))]


def shape(path: Path) -> tuple[int, int]:
    with open_video(path) as video:
        return video.frames(np.array([0])).shape[1:3]


@pytest.mark.slow
def test_a_collection_by_manifest(tmp_path: Path, bad_files: dict[str, Path]) -> None:
    (tmp_path / "in/b").mkdir(parents=True)
    encode(tmp_path / "in/b/x.mp4")
    encode(tmp_path / "in/b/x.avi", "mpeg4", num_frames=20)
    rows = [VideoRecord("b/x.mp4", "one"), VideoRecord("b/x.avi", "two")]
    rows += [VideoRecord("b/x.mp4", "one", 0.4, 1.0), VideoRecord("b/missing.mp4", "one")]
    rows += [VideoRecord(str(bad_files[name]), "two") for name in ("empty", "text", "audio_only", "truncated")]
    write_manifest(tmp_path / "in/all.csv", rows)
    made = prepare(tmp_path / "in/all.csv", tmp_path / "out", encoding=SMALL, num_workers=2, progress=False)
    manifest = read_manifest(tmp_path / "out/manifest.csv")
    assert sorted((r.label, r.num_frames) for r in manifest) == [("one", 15), ("one", 40), ("two", 20)]
    for row in range(3):
        first = 10 if manifest[row].num_frames == 15 else 0
        assert numbers(manifest.path(row)) == list(range(first, first + manifest[row].num_frames))
    assert made.source_bytes == sum((tmp_path / "in/b" / name).stat().st_size for name in ("x.mp4", "x.avi"))
    reasons = {Path(name).name: reason for name, reason in made.failures}
    assert reasons["missing.mp4"] == "there is no such file"
    assert reasons["empty.mp4"] == "the file is empty"
    assert not any(str(tmp_path.parent) in reason for reason in reasons.values()), "such reasons cannot be counted"
    assert reasons["audio_only.mp4"] == "the file has no video stream"
    assert len(reasons) == 5
    kept = json.loads((tmp_path / "out/failures.json").read_text())
    assert [(row["video"], row["reason"]) for row in kept] == made.failures
    assert not list((tmp_path / "out").rglob("*.partial"))

    again = prepare(tmp_path / "in/all.csv", tmp_path / "out", encoding=SMALL, num_workers=1, progress=False)
    assert again.already_there == 3
    assert list(read_manifest(tmp_path / "out/manifest.csv")) == list(manifest)
    with pytest.raises(FarfieldError, match=r"different settings: crf was 23, now 30\. Give the same"):
        prepare(tmp_path / "in/all.csv", tmp_path / "out", encoding=replace(SMALL, crf=30), progress=False)


@pytest.mark.slow
def test_a_collection_by_folders(figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys) -> None:
    for label in ("b", "a"):
        (tmp_path / "in" / label).mkdir(parents=True)
        encode(tmp_path / "in" / label / "clip.mp4", num_frames=15)
    assert run_farfield("data", "prepare", tmp_path / "in", tmp_path / "out", "--encoding.crf=30", "--json") == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["videos"], about["failed"]) == (2, 0)
    assert about["bytes_before"] == sum(path.stat().st_size for path in (tmp_path / "in").rglob("*.mp4"))
    assert [row.label for row in read_manifest(tmp_path / "out/manifest.csv")] == ["a", "b"]


@pytest.mark.slow
def test_a_killed_run_can_be_continued(tmp_path: Path) -> None:
    (tmp_path / "in/a").mkdir(parents=True)
    clip = encode(tmp_path / "clip.mp4", num_frames=60, size=(384, 192))
    for i in range(12):
        (tmp_path / f"in/a/{i:02d}.mp4").write_bytes(clip.read_bytes())
    command = [sys.executable, "-m", "farfield", "data", "prepare", str(tmp_path / "in"), str(tmp_path / "out")]
    options = ["--num_workers=1", "--encoding.preset=slow"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").rglob("*.mp4"))) < 2:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    there = list((tmp_path / "out").rglob("*.mp4"))
    assert 2 <= len(there) < 12
    for path in there:
        assert numbers(path) == list(range(60))
    before = {path: path.stat().st_mtime_ns for path in there}
    assert subprocess.run([*command, *options], stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert len(read_manifest(tmp_path / "out/manifest.csv")) == 12
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


@pytest.mark.slow
def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "in/a").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (10, 192, 192, 3), np.uint8)
    write_video(tmp_path / "in/a/clip.mp4", noise, fps=25)
    command = [sys.executable, "-m", "farfield", "data", "prepare", str(tmp_path / "in"), str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--encoding.crf=0"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "clip.mp4 cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == {"store.json", ".lock"}


def test_a_folder_that_cannot_be_created_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "in/a").mkdir(parents=True)
    encode(tmp_path / "in/a/clip.mp4", num_frames=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(FarfieldError, match=r"cannot be used as a store: Not a directory\. "):
        prepare(tmp_path / "in", tmp_path / "file/out", encoding=SMALL, progress=False)
    with pytest.raises(FarfieldError, match=r"holds no videos\. Give a folder whose subfolders are the classes"):
        prepare(tmp_path / "in/a", tmp_path / "out", encoding=SMALL, progress=False)


@pytest.mark.slow
def test_sources_are_never_overwritten_and_stores_never_mixed(tmp_path: Path) -> None:
    (tmp_path / "data/videos/a").mkdir(parents=True)
    encode(tmp_path / "data/videos/a/x.mp4", num_frames=10)
    write_manifest(tmp_path / "data/manifest.csv", [VideoRecord("videos/a/x.mp4", "a", 0.0, 0.2)])
    for source in ("videos", "manifest.csv"):
        with pytest.raises(FarfieldError, match="Give another folder"):
            prepare(tmp_path / "data" / source, tmp_path / "data", encoding=SMALL, progress=False)
    with pytest.raises(FarfieldError, match="Give another folder"):
        prepare(tmp_path / "data", tmp_path / "data", encoding=SMALL, progress=False)
    inside = tmp_path / "data/videos/store"
    for _ in range(2):  # the store's videos are no part of the collection that holds it
        made = prepare(tmp_path / "data/videos", inside, encoding=SMALL, num_workers=1, progress=False)
        assert len(made.records) == 1
    with pytest.raises(FarfieldError, match="different settings: source was"):
        prepare(tmp_path / "data/manifest.csv", inside, encoding=SMALL, progress=False)
    with FileLock(inside / ".lock"), pytest.raises(FarfieldError, match="another run is preparing"):
        prepare(tmp_path / "data/videos", inside, encoding=SMALL, progress=False)


@pytest.mark.slow
def test_malformed_videos_do_not_stop_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "in/a"
    folder.mkdir(parents=True)
    encode(folder / "far_apart.mp4", num_frames=2, times=[0, 5000])
    encode(folder / "huge.mkv", "ffv1", num_frames=2, size=(20000, 100), b_frames=None)
    encode(folder / "good.mp4", num_frames=5)
    (folder / ("n" * 240 + ".mp4")).write_bytes((folder / "good.mp4").read_bytes())
    (folder / "caf\udce9.mp4").write_bytes((folder / "good.mp4").read_bytes())  # Latin-1
    made = prepare(tmp_path / "in", tmp_path / "out", encoding=Encoding(short_side_px=100), progress=False)
    assert sorted(row.num_frames for row in made.records) == [2, 5, 5, 5]
    assert [Path(name).name for name, _ in made.failures] == ["huge.mkv"]
    assert "cannot be encoded" in made.failures[0][1]
    manifest = read_manifest(tmp_path / "out/manifest.csv")
    assert all(manifest.path(i).is_file() for i in range(4))
    with pytest.raises(FarfieldError, match=r"preset is 'foo'.*Known: ultrafast"):
        Encoding(preset="foo")


@pytest.mark.slow
@pytest.mark.dependency
@pytest.mark.usefixtures("ray_cluster")
def test_over_a_ray_cluster(tmp_path: Path) -> None:
    (tmp_path / "in/a").mkdir(parents=True)
    for i in range(4):
        encode(tmp_path / f"in/a/{i}.mp4", num_frames=10)
    (tmp_path / "in/a/bad.mp4").write_text("no video")
    made = prepare(tmp_path / "in", tmp_path / "out", encoding=SMALL, engine="ray", progress=False)
    assert len(made.records) == 4
    assert [Path(name).name for name, _ in made.failures] == ["bad.mp4"]
    assert numbers(tmp_path / "out" / made.records[2].path) == list(range(10))
    results = dict(for_each(misbehave, ["a", "crash", "bad"], seconds_per_job=300, engine="ray"))
    results |= dict(for_each(misbehave, ["hang"], seconds_per_job=3, engine="ray"))  # others may take long
    assert results["a"] == "A"
    assert results["crash"] == "the decoder crashed"
    assert results["hang"] == "it took longer than 3 s"
    assert results["bad"] == "it is no good"
