"""A store holds the same frames at the same times, whatever it was made from, and whatever happened meanwhile."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from filelock import FileLock

from conftest import number_of
from data.encoding import encode
from farfield.data.decode import DecodeError, open_video
from farfield.data.manifest import VideoRecord, read_manifest, write_manifest
from farfield.data.parallel import for_each
from farfield.data.prepare import prepare
from farfield.data.transcode import Encoding, frame_rate, transcode
from farfield.errors import FarfieldError, VideoError
from farfield.video_file import write_video

SMALL = Encoding(short_side_px=96, keyframe_interval=12, b_frames=5, preset="ultrafast")


def numbers(path: Path) -> list[int]:
    with open_video(path) as video:
        return [number_of(frame) for frame in video.frames(np.arange(len(video.times)))]


def shape(path: Path) -> tuple[int, int]:
    with open_video(path) as video:
        return video.frames(np.array([0])).shape[1:3]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.avi", "mpeg4", {}),
        ("a.ts", "libx264", {}),
        ("a.webm", "libvpx-vp9", {"b_frames": None, "cpu-used": "8"}),
        ("a.mkv", "libx265", {"pix_fmt": "yuv420p10le"}),
        ("a.mov", "libx264", {"pix_fmt": "yuv444p", "size": (193, 97)}),
    ],
)
def test_the_store_holds_the_same_frames(name: str, codec: str, options: dict, tmp_path: Path) -> None:
    made = transcode(encode(tmp_path / name, codec, **options), tmp_path / "out.mp4", SMALL)
    assert numbers(tmp_path / "out.mp4") == list(range(40))
    assert (made.num_frames, made.fps, made.duration_seconds) == (40, 25, 1.6)
    assert made.bytes == (tmp_path / "out.mp4").stat().st_size
    assert made.source_bytes == (tmp_path / name).stat().st_size
    with av.open(str(tmp_path / "out.mp4")) as container:
        packets = [packet for packet in container.demux() if packet.size]
        assert [place for place, packet in enumerate(packets) if packet.is_keyframe] == [0, 12, 24, 36]
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # the index first: read from the start on


def test_sound_is_left_out(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video, sound = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=16000)
        video.width, video.height = 64, 48
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux([*sound.encode(frame), *sound.encode(None), *video.encode(None)])
    transcode(tmp_path / "a.mkv", tmp_path / "out.mp4", SMALL)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_a_segment_is_cut_out(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mp4")
    transcode(source, tmp_path / "out.mp4", SMALL, start_seconds=0.4, end_seconds=1.0)
    assert numbers(tmp_path / "out.mp4") == list(range(10, 25))
    with pytest.raises(DecodeError, match=r"no frame lies in the segment \[5, end\) s"):
        transcode(source, tmp_path / "other.mp4", SMALL, start_seconds=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "out.mp4"]


def test_a_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 0.5, 0.54, 1.2, 1.24, 3.0]
    transcode(encode(tmp_path / "a.mp4", num_frames=8, times=times), tmp_path / "out.mp4", SMALL)
    with open_video(tmp_path / "out.mp4") as video:
        np.testing.assert_allclose(video.times, times, atol=1e-3)
    assert numbers(tmp_path / "out.mp4") == list(range(8))


@pytest.mark.parametrize(
    ("fps", "rate"), [(25, 25), (30000 / 1001, Fraction(30000, 1001)), (23.976, Fraction(24000, 1001)), (12.5, 12.5)]
)
def test_rates_are_recognised_through_the_rounding_of_containers(fps: float, rate: float) -> None:
    times = np.round(np.arange(200) / fps, 3)  # as Matroska keeps them
    assert frame_rate(times) == (rate, True)
    assert frame_rate(np.cumsum(np.random.default_rng(0).uniform(0.02, 0.06, 50)))[1] is False


def test_large_videos_are_reduced_and_small_ones_are_never_enlarged(tmp_path: Path) -> None:
    transcode(encode(tmp_path / "a.mp4", size=(384, 192)), tmp_path / "a_out.mp4", SMALL)
    transcode(encode(tmp_path / "b.mp4", size=(96, 48)), tmp_path / "b_out.mp4", SMALL)
    assert shape(tmp_path / "a_out.mp4") == (96, 192)
    assert shape(tmp_path / "b_out.mp4") == (48, 96)
    assert numbers(tmp_path / "a_out.mp4") == list(range(40))


def test_pictures_are_upright_and_pixels_square(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mp4", num_frames=3, rotation=90)
    transcode(source, tmp_path / "out.mp4", SMALL)
    with open_video(source) as before, open_video(tmp_path / "out.mp4") as after:
        a, b = before.frames(np.array([1])).astype(int), after.frames(np.array([1])).astype(int)
    assert a.shape == b.shape == (1, 192, 96, 3)
    assert np.abs(a - b).mean() < 4
    with av.open(str(tmp_path / "wide.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.codec_context.sample_aspect_ratio = 96, 96, Fraction(2, 1)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((96, 96, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    transcode(tmp_path / "wide.mp4", tmp_path / "square.mp4", SMALL)
    assert shape(tmp_path / "square.mp4") == (96, 192)


@pytest.mark.parametrize(("colorspace", "pix_fmt"), [(1, "yuv420p"), (5, "yuv420p"), (1, "yuvj420p"), (5, "yuvj444p")])
def test_colours_stay(colorspace: int, pix_fmt: str, tmp_path: Path) -> None:
    """ITU-R BT.709 and BT.601, limited and full range."""
    picture = np.zeros((96, 96, 3), np.uint8)
    for place, colour in enumerate([(200, 30, 30), (30, 200, 30), (30, 30, 200), (240, 240, 10)]):
        picture[:, 24 * place : 24 * (place + 1)] = colour
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt, dst_colorspace=colorspace)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 96, pix_fmt
        stream.codec_context.colorspace = colorspace
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    transcode(tmp_path / "a.mp4", tmp_path / "out.mp4", Encoding(crf=1))
    with open_video(tmp_path / "a.mp4") as before, open_video(tmp_path / "out.mp4") as after:
        a, b = (video.frames(np.array([0]))[0][:, 12::24].astype(int) for video in (before, after))
    assert np.abs(a - picture[:, 12::24]).max() <= 6, "the reader has the source's colours wrong"
    assert np.abs(a - b).max() <= 6


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
    reasons = {Path(name).name: reason for name, reason in made.failures}
    assert reasons["missing.mp4"] == "there is no such file"
    assert reasons["empty.mp4"] == "the file is empty"
    assert not any(str(tmp_path.parent) in reason for reason in reasons.values()), "such reasons cannot be counted"
    assert reasons["audio_only.mp4"] == "it has no video stream"
    assert len(reasons) == 5
    kept = json.loads((tmp_path / "out/failures.json").read_text())
    assert [(row["video"], row["reason"]) for row in kept] == made.failures
    assert not list((tmp_path / "out").rglob("*.partial"))

    again = prepare(tmp_path / "in/all.csv", tmp_path / "out", encoding=SMALL, num_workers=1, progress=False)
    assert again.already_there == 3
    assert list(read_manifest(tmp_path / "out/manifest.csv")) == list(manifest)
    with pytest.raises(FarfieldError, match=r"holds other videos: crf was 23, now 30\. Give the same"):
        prepare(tmp_path / "in/all.csv", tmp_path / "out", encoding=replace(SMALL, crf=30), progress=False)


def test_a_collection_by_folders(figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys) -> None:
    for label in ("b", "a"):
        (tmp_path / "in" / label).mkdir(parents=True)
        encode(tmp_path / "in" / label / "clip.mp4", num_frames=15)
    assert run_farfield("data", "prepare", tmp_path / "in", tmp_path / "out", "--encoding.crf=30", "--json") == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["videos"], about["failed"]) == (2, 0)
    assert about["bytes_before"] == sum(path.stat().st_size for path in (tmp_path / "in").rglob("*.mp4"))
    assert [row.label for row in read_manifest(tmp_path / "out/manifest.csv")] == ["a", "b"]


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
    assert made.left_out.as_dict() == expected
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "out") for path in new)
    assert sum(path.suffix == ".mp4" for path in new) == 5


def test_an_archive_that_is_cut_off_says_so_and_keeps_what_was_read(tmp_path: Path) -> None:
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


def test_killed_it_goes_on(tmp_path: Path) -> None:
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


def test_a_disk_that_takes_no_more_is_a_clear_error(tmp_path: Path) -> None:
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


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "in/a").mkdir(parents=True)
    encode(tmp_path / "in/a/clip.mp4", num_frames=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(FarfieldError, match=r"cannot be used as a store: .*Not a directory"):
        prepare(tmp_path / "in", tmp_path / "file/out", encoding=SMALL, progress=False)
    with pytest.raises(FarfieldError, match=r"holds no videos\. Its subfolders are to be the classes"):
        prepare(tmp_path / "in/a", tmp_path / "out", encoding=SMALL, progress=False)


def test_a_store_holds_what_its_names_say(tmp_path: Path) -> None:
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
    with pytest.raises(FarfieldError, match="holds other videos: source was"):
        prepare(tmp_path / "data/manifest.csv", inside, encoding=SMALL, progress=False)
    with FileLock(inside / ".lock"), pytest.raises(FarfieldError, match="another run is preparing"):
        prepare(tmp_path / "data/videos", inside, encoding=SMALL, progress=False)


def test_odd_videos_cost_themselves_only(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothere", "there is no .*nothere"),
        ("clip.mp4", "is a video. Give the folder"),
        ("m.csv", "has its labels already"),
    ],
)
def test_a_source_that_is_none_says_so(source: str, message: str, tmp_path: Path) -> None:
    encode(tmp_path / "clip.mp4", num_frames=2)
    write_manifest(tmp_path / "m.csv", [VideoRecord("clip.mp4", "a")])
    (tmp_path / "train.csv").write_text("label,youtube_id,time_start\n")
    with pytest.raises(FarfieldError, match=message):
        prepare(tmp_path / source, tmp_path / "out", annotations=tmp_path / "train.csv", progress=False)


def misbehave(job: str) -> str:
    if job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == "hang":
        time.sleep(60)
    if job == "bad":
        raise VideoError("x.mp4", "it is no good")
    if job == "defect":
        raise KeyError("a defect of ours")
    return job.upper()


def test_a_crash_or_a_hang_costs_one_video() -> None:
    jobs = ["a", "crash", "b", "hang", "bad", *"cdefgh"]
    results = dict(for_each(misbehave, jobs, num_workers=2, seconds_per_job=2))
    assert results.pop("crash") == "the decoder crashed (exit code -11)"
    assert results.pop("hang") == "it took longer than 2 s"
    assert results.pop("bad") == "it is no good"
    assert results == {job: job.upper() for job in "abcdefgh"}
    with pytest.raises(KeyError, match="a defect of ours"):
        list(for_each(misbehave, ["a", "defect"], num_workers=1))


def test_jobs_are_made_as_they_are_needed() -> None:
    made = []
    jobs = (made.append(i) or str(i) for i in range(100))
    running = for_each(misbehave, jobs, num_workers=1)
    next(running)
    assert len(made) < 10
    running.close()


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
    results = dict(for_each(misbehave, ["a", "crash", "hang", "bad"], seconds_per_job=12, engine="ray"))
    assert results["a"] == "A"
    assert results["crash"] == "the decoder crashed"
    assert results["hang"] == "it took longer than 12 s"
    assert results["bad"] == "it is no good"
