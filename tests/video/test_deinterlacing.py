"""Deinterlaced frames equal those of FFmpeg's command line, whichever frames are requested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from decoding_matrix import run_ffmpeg

from farfield.clip_spec import ClipSpec
from farfield.curation.transcode import Encoding, transcode
from farfield.data.augmentation import Augmentation
from farfield.data.clips import training_clips, video_views
from farfield.data.frame_cache import FrameCache
from farfield.data.video_record import VideoRecord
from farfield.timelines.sliding_windows import sliding_windows
from farfield.video.decoders import open_video
from streams import live_windows

WIDTH, HEIGHT, FRAMES = 176, 144, 20
MOVING = ("-f", "lavfi", "-i", f"testsrc2=s={WIDTH}x{HEIGHT}:r=50:d=0.8")
WOVEN = "tinterlace=mode=interleave_top,setfield=tff"


@pytest.fixture(scope="module", params=["mpeg2.ts", "h264.mkv"])
def interlaced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interlaced video of 25 frames per second, 50 fields, top field first."""
    path = tmp_path_factory.mktemp("interlaced") / request.param
    codec = ("mpeg2video", "-q:v", "2") if "mpeg2" in request.param else ("libx264", "-crf", "12")
    run_ffmpeg(*MOVING, "-vf", WOVEN, "-c:v", *codec, "-g", "6", "-bf", "2", "-flags", "+ilme+ildct",
               "-pix_fmt", "yuv420p", str(path))  # fmt: skip
    return path


def expected(path: Path, mode: str) -> np.ndarray:
    raw = run_ffmpeg("-i", str(path), "-vf", f"bwdif=mode={mode}:deint=interlaced", "-fps_mode", "passthrough",
                     "-f", "rawvideo", "-pix_fmt", "rgb24", "-")  # fmt: skip
    return np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT, WIDTH, 3).astype(int)


def test_pictures_are_those_of_ffmpeg(interlaced: Path) -> None:
    oracle = expected(interlaced, "send_frame")
    with open_video(interlaced) as video:
        assert len(video.times) == len(oracle) == FRAMES
        walked = np.stack([picture for _, picture in video.pictures(np.arange(FRAMES))])
    assert np.abs(walked - oracle).mean((1, 2, 3)).max() < 1.5  # of 255: two builds' conversion to RGB
    with open_video(interlaced, deinterlace="off") as video:
        woven = video.frames(np.arange(FRAMES))
    assert np.abs(woven - oracle).mean() > 4


def test_a_frame_is_the_same_alone_and_in_a_clip(interlaced: Path) -> None:
    with open_video(interlaced) as video:
        together = video.frames(np.arange(FRAMES))
    for place in (0, 5, 6, 7, 19):
        with open_video(interlaced) as video:
            np.testing.assert_array_equal(video.frames(np.array([place]))[0], together[place])
    with open_video(interlaced) as video:
        np.testing.assert_array_equal(video.frames(np.array([13, 3])), together[[13, 3]])


@pytest.mark.parametrize(("deinterlace", "rate"), [("frames", 25), ("fields", 50)])
def test_a_store_is_deinterlaced(interlaced: Path, deinterlace: str, rate: int, tmp_path: Path) -> None:
    encoding = Encoding(deinterlace=deinterlace, crf=4)  # type: ignore[arg-type]
    made = transcode(interlaced, tmp_path / "a.mp4", encoding)
    oracle = expected(interlaced, "send_field" if deinterlace == "fields" else "send_frame")
    assert (made.num_frames, made.fps) == (len(oracle), pytest.approx(rate, abs=0.01))
    with open_video(tmp_path / "a.mp4") as video:
        np.testing.assert_allclose(np.diff(video.times), 1 / rate, atol=1e-3)
        stored = video.frames(np.arange(len(oracle)))
    assert np.abs(stored - oracle).mean((1, 2, 3)).max() < 3.5  # lossy


def test_every_reader_follows_the_clips_setting(interlaced: Path) -> None:
    record = VideoRecord(interlaced.name, "x")
    auto = ClipSpec(num_frames=4, crop_px=96, short_side_px=HEIGHT, num_crops=1)
    off = auto.replace(deinterlace="off")

    def of_views(spec: ClipSpec) -> np.ndarray:
        return video_views(interlaced, record, spec, num_clips=1, num_crops=1).frames.numpy()

    def of_training(spec: ClipSpec) -> np.ndarray:
        clips = training_clips(interlaced, record, spec, Augmentation(), [np.random.default_rng(0)])
        return clips[0].frames.numpy()

    def of_windows(spec: ClipSpec) -> np.ndarray:
        with sliding_windows(interlaced, spec) as windows:
            return np.stack([window.frames.numpy() for window in windows])

    def of_memory(spec: ClipSpec) -> np.ndarray:
        memory = FrameCache(10**8, deinterlace=spec.deinterlace, tone_map=spec.tone_map)
        with memory.open(interlaced) as video:
            return video.frames(np.arange(4))

    def of_live(spec: ClipSpec) -> np.ndarray:
        with live_windows(str(interlaced), spec) as windows:
            return next(windows).frames.numpy()

    for way in (of_views, of_training, of_windows, of_memory):
        assert np.abs(way(auto).astype(int) - way(off)).mean() > 2, way.__name__
    assert of_live(auto).shape == of_live(off).shape == (1, 4, 96, 96, 3)


def test_progressive_frames_are_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    run_ffmpeg(*MOVING, "-c:v", "ffv1", str(path))
    with open_video(path) as video, open_video(path, deinterlace="off") as plain:
        np.testing.assert_array_equal(video.frames(np.arange(40)), plain.frames(np.arange(40)))
