"""Transcoding keeps the frames and their times."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from conftest import number_of
from farfield.curation.encoding import Encoding
from farfield.curation.transcode import frame_rate, transcode
from farfield.errors import FarfieldError
from farfield.video.decoders import DecodeError, open_video
from video.encoding import encode

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


def test_sound_is_dropped(tmp_path: Path) -> None:
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
def test_frame_rates_are_recovered_from_rounded_times(fps: float, rate: float) -> None:
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


def test_only_the_setting_that_is_too_high_is_named() -> None:
    for name, value, most in (("b_frames", 17, 16), ("crf", 52, 51)):
        with pytest.raises(FarfieldError, match=rf"^encoding\.{name} is {value}; it must be at most {most}\.$"):
            Encoding(**{name: value})
