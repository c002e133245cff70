"""A tenth of the matrix of `scripts/check_decoding_matrix.py`, with both decoders, and cases of past bugs."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from check_decoding_matrix import check
from decoding_matrix import NUM_FRAMES, cases, make, read_barcode

from farfield.curation.transcode import Encoding, transcode
from farfield.video import packet_index
from farfield.video.decoders import open_video
from farfield.video.pyav_decoder import PyAVVideo
from video.encoding import encode

ALL = {case.name: case for case in cases()}
REGRESSIONS = [
    "h264_b2.avi",
    "h264_pyramid.asf",
    "copy_of_avi_b2.mp4",
    "copy_of_avi_open.mkv",
    "h264_open.mp4",
    "h264_b2.mpg",
    "h264_b2.h264",
    "h263.avi",
    "cut_b2.mp4",
    "negative_b2.mkv",
    "negative_no_b.mov",
    "cut_hevc_open.mkv",
    "repeated.mp4",
    "variable.mp4",
    "vp8_hidden.webm",
    "vp9_split.nut",
    "raw_palette.avi",
    "raw_palette.mov",
    "wide_pixels.mp4",
    "resized_h264.ts",
    "resized_h264.mp4",
    "resized_mpeg2.mpg",
    "turned_90_mirrored.mp4",
    "turned_90.mp4",
    "mpeg2video_no_b.mpg",
]


def stratified() -> list[str]:
    """Choose about a tenth of the matrix, with every container and every kind of file."""
    seen: set[str] = set()
    chosen = []
    for name in ALL:
        label, _, suffix = name.rpartition(".")
        if not {label.split("_")[0], suffix} <= seen:
            seen |= {label.split("_")[0], suffix}
            chosen.append(name)
    return chosen


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*REGRESSIONS, *stratified()}))
def test_every_frame_is_right_or_refused(name: str, tmp_path: Path) -> None:
    outcome = check(ALL[name], tmp_path, fresh=4)
    assert outcome.not_made is None
    assert not outcome.wrong
    assert not outcome.refused  # all that is refused anywhere is listed in docs/explanations/decoding.md
    assert outcome.num_frames > 15


def numbers(path: Path, *places: int) -> list[int | None]:
    with open_video(path) as video:
        return [read_barcode(frame) for frame in video.frames(np.array(places))]


@pytest.mark.parametrize("suffix", [".avi", ".asf"])
def test_single_frames_equal_those_of_a_pass_through_the_file(suffix: str, tmp_path: Path) -> None:
    """Containers without display times: FFmpeg generates ascending times, which are wrong with B-frames."""
    path = make(ALL[f"h264_b2{suffix}"], tmp_path)
    for place in (1, 13, 12, 39):
        assert numbers(path, place) == [place]
    video = PyAVVideo(path)
    assert [(place, read_barcode(video.to_rgb()(frame))) for place, frame in video.walk(0, 40)] == [
        (place, place) for place in range(40)
    ]
    video.close()
    transcode(path, tmp_path / "stored.mp4", Encoding())
    assert numbers(tmp_path / "stored.mp4", *range(40)) == list(range(40))


def test_hidden_pictures_are_not_counted(tmp_path: Path) -> None:
    path = make(ALL["vp8_hidden.webm"], tmp_path)
    video = PyAVVideo(path)
    assert len(video._reader.index.packets or ()) > NUM_FRAMES == len(video.times)
    video.close()
    assert numbers(path, 38, 39) == [38, 39]


@pytest.mark.parametrize("suffix", [".h264", ".hevc", ".m2v"])
def test_raw_streams_of_any_length_are_read(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {".h264": "h264_b2.h264", ".hevc": "hevc_b4.hevc", ".m2v": "mpeg2video_b2.m2v"}
    path = make(ALL[names[suffix]], tmp_path)
    monkeypatch.setattr(packet_index, "HELD_BYTES", 100)  # as above 64 MiB
    assert numbers(path, 30, 2, 39) == [30, 2, 39]
    assert transcode(path, tmp_path / "stored.mp4", Encoding()).num_frames == NUM_FRAMES


def test_frames_without_times_are_counted_from_the_first_keyframe(tmp_path: Path) -> None:
    with av.open(make(ALL["h264_b2.h264"], tmp_path)) as container:
        index = packet_index.from_packets(container, container.streams.video[0])
    assert [each.stamp for each in index.keyframes] == [0]
    assert index.stamps.tolist() == list(range(NUM_FRAMES))


def test_raw_stream_keeps_its_frame_rate(tmp_path: Path) -> None:
    for suffix, codec in ((".h264", "libx264"), (".hevc", "libx265")):
        with open_video(encode(tmp_path / f"slow{suffix}", codec, fps=12)) as video:
            np.testing.assert_allclose(np.diff(video.times), 1 / 12, atol=1e-6)


def test_a_repeated_time_does_not_move_other_frames(tmp_path: Path) -> None:
    with open_video(make(ALL["repeated.mp4"], tmp_path)) as video:
        np.testing.assert_allclose(video.times, ALL["repeated.mp4"].seconds, atol=1e-3)
        assert np.all(np.diff(video.times) > 0)
        assert np.searchsorted(video.times, 1.0 + 5e-4, side="right") - 1 == 26  # what is shown at 1 s


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_output_pixels_are_square(suffix: str, tmp_path: Path) -> None:
    path = make(ALL[f"wide_pixels{suffix}"], tmp_path)
    for decoder in ("pyav", "decord"):
        with open_video(path, decoder) as video:  # type: ignore[arg-type]
            assert video.frames(np.array([3])).shape == (1, 96, 233, 3)  # 160 x 16 / 11
    made = transcode(path, tmp_path / "stored.mp4", Encoding())
    assert (made.width, made.height) == (232, 96)


def test_a_size_change_is_logged_once_and_letterboxed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make(ALL["resized_h264.mkv"], tmp_path)
    for places in ([5], [30], [5, 30]):
        with open_video(path) as video:
            pictures = video.frames(np.array(places))
        assert pictures.shape[1:] == (96, 160, 3)
    upright = pictures[1]  # 96 wide and 160 high: 58 wide in a height of 96
    assert upright[:, :48].max() < 30
    assert upright[:, -48:].max() < 30
    assert read_barcode(upright[:, 51:109]) == 30
    said = [record.getMessage() for record in caplog.records if "size changes" in record.getMessage()]
    assert len(said) == 1
    assert "resized_h264.mkv: the frame size changes; frames that are not 160 x 96 are letterboxed" in said[0]


def test_decord_is_used_only_where_it_is_exact(tmp_path: Path) -> None:
    for name in ("h264_open.mp4", "cut_b2.mp4", "resized_h264.mkv", "turned_0_mirrored.mp4", "wide_pixels.mp4"):
        with open_video(make(ALL[name], tmp_path), "decord") as video:
            assert video.decoder == "pyav", name
    with open_video(make(ALL["h264_b2.mp4"], tmp_path), "decord") as video:
        assert video.decoder == "decord"
