"""The doctor finds what was put into a collection, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farfield.curation.encoding import Encoding
from farfield.curation.inspection import InspectionJob, compare_decoders, inspect
from farfield.curation.transcode import transcode
from farfield.curation.verify import verify
from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.synthetic.synthesize import synthesize
from farfield.video.decord_decoder import DecordVideo
from farfield.video.writer import write_video
from video.encoding import encode


def write_split(folder: Path, name: str, rows: list[tuple[Path, str]]) -> Path:
    write_manifest(folder / f"{name}.csv", [VideoRecord(str(path), label) for path, label in rows])
    return folder / f"{name}.csv"


@pytest.mark.slow
def test_a_healthy_collection(figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys) -> None:
    manifests = [figures / f"{name}.csv" for name in ("train", "val", "test")]
    assert run_farfield("data", "verify", *manifests, f"--out={tmp_path}", "--sample=5", "--num_workers=2") == 0
    assert "40 videos" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["undecodable"] == report["leaks"] == report["same_file"] == report["look_alike"] == []
    assert sum(report["resolutions"].values()) == 40
    assert sum(report["decord"].values()) == 5
    with Image.open(tmp_path / "collection.png") as picture:
        assert picture.size[0] > 500
    clean = read_manifest(tmp_path / "train.csv")
    assert [clean.path(i).resolve() for i in range(20)] == [
        read_manifest(manifests[0]).path(i).resolve() for i in range(20)
    ]


@pytest.mark.slow
def test_everything_that_is_wrong_is_found(
    figures: Path, bad_files: dict[str, Path], tmp_path: Path, run_farfield: Callable[..., int], capsys
) -> None:
    train = read_manifest(figures / "train.csv")
    good = [(train.path(i), train[i].label) for i in range(4)]
    copy, smaller = tmp_path / "copy.mp4", tmp_path / "smaller.mp4"
    copy.write_bytes(good[0][0].read_bytes())
    transcode(good[1][0], smaller, Encoding(short_side_px=48, crf=30))
    kinetics = [tmp_path / "abcdefghijk_000010_000020.mp4", tmp_path / "abcdefghijk_000050_000060.mp4"]
    for i, path in enumerate(kinetics):
        path.write_bytes(train.path(10 + i).read_bytes())
    bad = [(path, good[3][1]) for name, path in sorted(bad_files.items())]
    first = write_split(tmp_path, "train", [*good, *bad, (copy, "another class"), (kinetics[0], good[0][1])])
    second = write_split(tmp_path, "val", [(smaller, good[1][1]), good[2], (kinetics[1], good[0][1])])
    out = tmp_path / "out"
    assert run_farfield("data", "verify", first, second, f"--out={out}", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((out / "report.json").read_text())
    reasons = {Path(path).stem: reason for path, reason in report["undecodable"]}
    assert reasons.keys() == bad_files.keys()
    assert reasons["missing"] == "there is no such file"
    assert reasons["empty"] == "the file is empty"
    assert reasons["audio_only"] == "the file has no video stream"
    assert report["same_file"] == [[str(good[0][0]), str(copy)]]
    assert [row[1:] for row in report["other_labels"]] == [[good[0][1], str(copy), "another class"]]
    assert [str(good[1][0]), str(smaller)] in report["look_alike"]
    leaks = {(Path(a).name, Path(b).name): why for a, _, b, _, why in report["leaks"]}
    assert leaks == {
        (good[1][0].name, "smaller.mp4"): "they look alike",
        (good[2][0].name, good[2][0].name): "the same file",
        (kinetics[0].name, kinetics[1].name): "both cut from video abcdefghijk",
    }
    assert ["val", "another class"] in report["classes_without_videos"]
    quarantine = (out / "quarantine.csv").read_text().splitlines()
    assert len(quarantine) == 1 + len(bad_files)
    assert len(read_manifest(out / "train.csv")) == 6
    text = (out / "report.md").read_text()
    assert f"Cannot be decoded: {len(bad_files)}" in text


def test_a_frame_that_is_damaged_late_is_found_and_a_segment_outside(tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.mp4", num_frames=60)
    damaged = bytearray(whole.read_bytes())
    damaged[-1500:-1200] = bytes(300)
    (tmp_path / "b.mp4").write_bytes(damaged)
    made = inspect(InspectionJob(whole, (VideoRecord("a", "x"),), True))
    assert (made.num_frames, made.fps, made.width, made.height, made.duration_seconds) == (60, 25, 192, 96, 2.4)
    with pytest.raises(FarfieldError, match=r"damaged|Invalid data"):
        inspect(InspectionJob(tmp_path / "b.mp4", (VideoRecord("b", "x"),), False))
    rows = (VideoRecord("a", "x", 7, 9), VideoRecord("a", "x", 1, 2), VideoRecord("a", "x", num_frames=59))
    outside, none, other_length = inspect(InspectionJob(whole, rows, False)).row_errors
    assert outside is not None
    assert outside.startswith("no frame lies in the segment [7, 9) s")
    assert (none, other_length) == (None, "the video has 60 frames, but the manifest says 59")


def test_a_file_that_is_cut_off_is_found(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (30, 48, 96, 3), np.uint8)
    write_video(tmp_path / "noise.mp4", noise, fps=25)  # the index comes first
    whole = (tmp_path / "noise.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FarfieldError, match=r"ends|Invalid data|damaged"):
        inspect(InspectionJob(tmp_path / "cut.mp4", (VideoRecord("a", "x"),), False))


def test_decoders_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", size=(288, 96))
    assert compare_decoders(path) == ("agrees", None)
    assert compare_decoders(encode(tmp_path / "a.ts")) == ("not compared", "container mpegts")
    frames = DecordVideo.frames

    def shifted(self: DecordVideo, indices: np.ndarray) -> np.ndarray:
        return frames(self, np.minimum(indices + 1, len(self.times) - 1))

    monkeypatch.setattr(DecordVideo, "frames", shifted)
    assert compare_decoders(path) == ("differs", None)


def test_videos_that_farfield_reads_with_pyav_anyway_are_not_compared(
    tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["a.avi", "b.avi", "c.mp4"]
    made = [encode(tmp_path / name, numbers=range(100 * n, 100 * n + 9), num_frames=9) for n, name in enumerate(names)]
    manifest = write_split(tmp_path, "all", [(path, "x") for path in made])
    options = (f"--out={tmp_path / 'out'}", "--num_workers=1", "--seconds_per_video=60")
    run_farfield("data", "verify", manifest, *options, "--sample=3")
    [line] = [each for each in capsys.readouterr().out.splitlines() if each.startswith("decord's frames")]
    start = "decord's frames, compared with PyAV's, on a sample of 3 of 3 videos: "
    assert line == f"{start}1 x agrees, 2 x not compared: farfield reads them with PyAV (container avi)"
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["decord"] == {"not compared": 2, "agrees": 1}
    assert report["not_compared"] == {"container avi": 2}


@pytest.mark.slow
def test_videos_are_verified_with_the_chosen_decoder(
    tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    plain, damaged = encode(tmp_path / "a.mp4", num_frames=60, numbers=range(100, 160)), tmp_path / "b.mp4"
    data = bytearray(encode(tmp_path / "c.mp4", num_frames=60, gop=60).read_bytes())
    data[2000:2200] = bytes(200)
    damaged.write_bytes(data)
    (tmp_path / "c.mp4").unlink()
    rows = [(plain, "x"), (encode(tmp_path / "d.ts", num_frames=30, numbers=range(200, 230)), "x"), (damaged, "x")]
    manifest = write_split(tmp_path, "all", rows)
    options = (f"--out={tmp_path / 'out'}", "--sample=0", "--num_workers=1", "--seconds_per_video=60")
    assert run_farfield("data", "verify", manifest, *options, "--decoder=decord") == 1
    assert "decoded by PyAV instead of decord: 1 x container mpegts" in capsys.readouterr().out
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert (report["decoder"], report["fallbacks"]) == ("decord", {"container mpegts": 1})
    assert [path for path, _ in report["undecodable"]] == [str(damaged)]
    with_decord = read_manifest(tmp_path / "out/all.csv")
    run_farfield("data", "verify", manifest, *options)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert (report["decoder"], report["fallbacks"]) == ("pyav", {})
    assert list(read_manifest(tmp_path / "out/all.csv")) == list(with_decord)


def test_both_decoders_see_the_same_video(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", num_frames=50, size=(288, 96))
    by_pyav, by_decord = (
        inspect(InspectionJob(path, (VideoRecord("a", "x"),), False, decoder)) for decoder in ("pyav", "decord")
    )
    assert by_decord.fallback_reason is None
    np.testing.assert_allclose(by_decord.thumbnails.astype(int), by_pyav.thumbnails, atol=2)
    assert replace(by_decord, thumbnails=None) == replace(by_pyav, thumbnails=None)
    (outside,) = inspect(InspectionJob(path, (VideoRecord("a", "x", 7, 9),), False, "decord")).row_errors
    assert outside is not None
    assert outside.startswith("no frame lies in the segment [7, 9) s")


def hangs_or_crashes(job: InspectionJob):
    if job.path.name == "hang.mp4":
        time.sleep(60)
    if job.path.name == "crash.mp4":
        os.abort()
    return inspect(job)


@pytest.mark.slow
def test_a_hang_or_a_crash_of_the_decoder_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from farfield.curation import verify as module

    rows = []
    for name in ("a", "hang", "crash", "b"):
        rows.append((encode(tmp_path / f"{name}.mp4", num_frames=len(name) + 2), "x"))
    monkeypatch.setattr(module, "inspect", hangs_or_crashes)
    found = verify([write_split(tmp_path, "all", rows)], tmp_path / "out", seconds_per_video=5, progress=False)
    assert {Path(path).stem: reason for path, reason in found.undecodable} == {
        "hang": "it took longer than 5 s",
        "crash": "the decoder crashed (exit code -6)",
    }


def test_mistakes_are_clear(tmp_path: Path, figures: Path) -> None:
    with pytest.raises(FarfieldError, match="have the same name"):
        verify([figures / "val.csv", figures / "val.csv"], tmp_path)
    with pytest.raises(FarfieldError, match="holds no videos"):
        verify([tmp_path], tmp_path / "out")
    with pytest.raises(
        FarfieldError, match=r"val\.csv would be overwritten by a file of the report\. Give another folder"
    ):
        verify([figures / "val.csv"], figures)
    shutil.copy(figures / "val.csv", tmp_path / "quarantine.csv")
    with pytest.raises(FarfieldError, match=r"named quarantine: the report lists the undec.* Rename .*ne.csv\.$"):
        verify([tmp_path / "quarantine.csv"], tmp_path / "out", root=figures)
    (tmp_path / "file").write_text("")
    with pytest.raises(FarfieldError, match="cannot be created: Not a directory"):
        verify([figures / "val.csv"], tmp_path / "file/out")


@pytest.mark.slow
def test_groups_that_cross_splits_are_found(figures: Path, tmp_path: Path, run_farfield: Callable[..., int]) -> None:
    rows = {name: list(read_manifest(figures / f"{name}.csv"))[:4] for name in ("train", "val")}
    people = {"train": ("ann", "ben", "ann", "cem"), "val": ("dan", "ben", "ben", "eve")}
    for name, records in rows.items():
        named = [
            replace(r, path=str(figures / r.path), group=who) for r, who in zip(records, people[name], strict=True)
        ]
        write_manifest(tmp_path / f"{name}.csv", named)
    found = verify([tmp_path / "train.csv", tmp_path / "val.csv"], tmp_path / "report", num_workers=1, sample=0)
    assert [(Path(leak[0]).name, Path(leak[2]).name, leak[4]) for leak in found.leaks] == [
        (Path(rows["train"][1].path).name, Path(rows["val"][1].path).name, "both of group ben")
    ]
    assert not found.is_healthy()
    assert read_manifest(tmp_path / "report" / "train.csv")[0].group == "ann"
    by_name = verify(
        [figures / "train.csv", figures / "val.csv"], tmp_path / "b", group="_(00)", num_workers=1, sample=0
    )
    assert by_name.leaks[0][4] == "both of group 00"


@pytest.mark.slow
def test_copies_are_told_from_other_videos_of_the_same_place(tmp_path: Path) -> None:
    """Figures: of 60 videos and their copies in half the size and low quality, all are found, and no other pair."""
    folder = synthesize("figures", str(tmp_path / "figures"), num_train=60, num_val=10, num_test=10, seed=3)
    manifest = read_manifest(Path(folder) / "train.csv")
    rows = [(manifest.path(i), manifest[i].label) for i in range(60)]
    for path, label in list(rows):
        copy = tmp_path / f"copy_of_{path.name}"
        transcode(path, copy, Encoding(short_side_px=56, crf=33))
        rows.append((copy, label))
    found = verify([write_split(tmp_path, "all", rows)], tmp_path / "out", sample=0, progress=False)
    pairs = {tuple(sorted(Path(path).name.removeprefix("copy_of_") for path in pair)) for pair in found.look_alike}
    assert len(found.look_alike) == 60
    assert all(a == b for a, b in pairs)


def test_odd_names_and_rows_cost_themselves_only(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", num_frames=5)
    (tmp_path / "caf\udce9.mp4").write_text("Latin-1, and no video")
    rows = [VideoRecord("clip.mp4", "x", num_frames=5), VideoRecord("n" * 300 + ".mp4", "x")]
    rows += [VideoRecord("caf\udce9.mp4", "x"), VideoRecord(str(clip), "x", num_frames=9)]
    write_manifest(tmp_path / "all.csv", rows)
    found = verify([tmp_path / "all.csv"], tmp_path / "out", sample=3, progress=False)
    reasons = [reason for _, reason in found.undecodable]
    assert reasons[0] == "File name too long"
    assert reasons[2] == "the video has 5 frames, but the manifest says 9"
    assert len(reasons) == 3
    assert len((tmp_path / "out/quarantine.csv").read_bytes().splitlines()) == 4
    assert len(read_manifest(tmp_path / "out/all.csv")) == 1


@pytest.mark.slow
def test_segments_of_one_video_are_no_copies_and_equal_rows_are_told(
    tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    encode(tmp_path / "a.mp4", num_frames=50)  # 2 s
    parts = [VideoRecord("a.mp4", "jump", 0.0, 1.0), VideoRecord("a.mp4", "run", 1.0, 2.0)]
    write_manifest(tmp_path / "parts.csv", parts)
    words = ["data", "verify", tmp_path / "parts.csv", "--num_workers", 1, "--sample"]
    assert run_farfield(*words, 0, "--out", tmp_path / "parts") == 0
    assert "same video with two labels: 0; repeated rows: 0" in capsys.readouterr().out
    write_manifest(tmp_path / "parts.csv", [*parts, parts[0], VideoRecord("a.mp4", "run", 0.0, 1.0)])
    assert run_farfield(*words, 0, "--out", tmp_path / "again") == 1
    assert "same video with two labels: 1; repeated rows: 1" in capsys.readouterr().out
    assert "## Repeated rows: 1\n\n- parts: `a.mp4`, 2 times\n" in (tmp_path / "again" / "report.md").read_text()
    assert run_farfield(*words, -1) == 2
    assert "sample is -1; it must be at least 0" in capsys.readouterr().err


@pytest.mark.slow
def test_a_video_with_several_rows_counts_once(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", num_frames=50)  # 2 s
    encode(tmp_path / "b.mp4", num_frames=75, numbers=range(100, 175))  # 3 s
    train = [VideoRecord("a.mp4", "jump", k / 2, k / 2 + 0.5) for k in range(4)] + [VideoRecord("a.mp4", "run", 7, 8)]
    write_manifest(tmp_path / "train.csv", [*train, VideoRecord("gone.mp4", "run"), VideoRecord("gone.mp4", "jump")])
    shared = [VideoRecord("a.mp4", "run", k, k + 1) for k in range(2)]
    write_manifest(tmp_path / "val.csv", [*shared, VideoRecord("b.mp4", "jump")])
    found = verify([tmp_path / "train.csv", tmp_path / "val.csv"], tmp_path / "out", num_workers=1, progress=False)
    assert (found.videos, found.hours, sum(found.resolutions.values()), sum(found.decord.values())) == (3, 0.001, 2, 2)
    assert (found.durations["0%"], found.durations["50%"], found.durations["100%"]) == (2, 2.5, 3)
    assert [(Path(path).name, reason.split(";")[0]) for path, reason in found.undecodable] == [
        ("a.mp4", "no frame lies in the segment [7, 8) s"),
        ("gone.mp4", "there is no such file"),
    ]
    assert [(Path(a).name, b, Path(c).name, d, why) for a, b, c, d, why in found.leaks] == [
        ("a.mp4", "train", "a.mp4", "val", "the same file")
    ]
    assert [len(read_manifest(tmp_path / "out" / f"{split}.csv")) for split in ("train", "val")] == [4, 3]
