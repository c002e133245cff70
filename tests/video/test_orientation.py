"""Rotated and mirrored videos equal those of FFmpeg's command line."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from decoding_matrix import run_ffmpeg

from farfield.curation.transcode import Encoding, transcode
from farfield.video.decoders import open_video

WIDTH, HEIGHT = 64, 48


def turned(tmp_path: Path, *options: str) -> tuple[Path, np.ndarray]:
    """Write a lossless video with a display matrix; return it and its first picture from FFmpeg's command line."""
    source, path = tmp_path / "plain.mov", tmp_path / "turned.mov"
    run_ffmpeg("-f", "lavfi", "-i", f"testsrc=s={WIDTH}x{HEIGHT}:r=5:d=0.8", "-c:v", "ffv1", "-pix_fmt", "bgr0",
               str(source))  # fmt: skip
    run_ffmpeg(*options, "-i", str(source), "-c", "copy", str(path))
    raw = run_ffmpeg("-i", str(path), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    shape = (-1, HEIGHT, 3) if "90" in options or "270" in options else (HEIGHT, WIDTH, 3)
    return path, np.frombuffer(raw, np.uint8).reshape(shape)


@pytest.mark.parametrize(("degrees", "mirror"), product(("0", "90", "180", "270"), ((), ("-display_hflip",))))
def test_all_eight_orientations(degrees: str, mirror: tuple[str, ...], tmp_path: Path) -> None:
    path, expected = turned(tmp_path, "-display_rotation", degrees, *mirror)
    with open_video(path) as video:
        np.testing.assert_array_equal(video.frames(np.array([0]))[0], expected)
    with open_video(path, "decord") as video:  # which mirrors nothing, and leaves that to PyAV
        assert np.abs(video.frames(np.array([0]))[0].astype(int) - expected).mean() < 2
    made = transcode(path, tmp_path / "stored.mp4", Encoding(crf=0))
    assert (made.height, made.width) == expected.shape[:2]
    with open_video(tmp_path / "stored.mp4") as video:
        stored = video.frames(np.array([0]))[0].astype(int)
    assert np.abs(stored - expected).mean() < 12 < np.abs(stored[::-1, ::-1] - expected).mean()  # 4:2:0


def test_a_vertical_flip(tmp_path: Path) -> None:
    path, expected = turned(tmp_path, "-display_vflip")
    with open_video(path) as video:
        np.testing.assert_array_equal(video.frames(np.array([0]))[0], expected)


@pytest.mark.parametrize(("degrees", "quarter_turns"), [("30", 0), ("88", 1), ("268", 3)])
def test_other_angles_are_rounded_to_quarter_turns(degrees: str, quarter_turns: int, tmp_path: Path) -> None:
    path, _ = turned(tmp_path, "-display_rotation", degrees)
    with open_video(path) as video, open_video(tmp_path / "plain.mov") as plain:
        expected = np.rot90(plain.frames(np.array([0]))[0], quarter_turns)
        np.testing.assert_array_equal(video.frames(np.array([0]))[0], expected)
