"""GIF and WebP are timed as browsers play them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import number_of, numbered_frame
from farfield.curation.inspection import InspectionJob, inspect
from farfield.curation.transcode import Encoding, transcode
from farfield.data.video_record import VideoRecord
from farfield.video.decoders import DecodeError, open_video


def animation(path: Path, durations_ms: list[int]) -> Path:
    pictures = [
        Image.fromarray(numbered_frame(number).repeat(2, 0).repeat(2, 1)) for number in range(len(durations_ms))
    ]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations_ms, loop=0, **options)
    return path


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
@pytest.mark.parametrize(
    ("written_ms", "shown_ms"),
    [(0, 100), (10, 100), (20, 20), (30, 30), (100, 100), (250, 250)],  # as Chromium and Firefox play them
)
def test_delays_of_up_to_10_ms_become_100_ms(name: str, written_ms: int, shown_ms: int, tmp_path: Path) -> None:
    with open_video(animation(tmp_path / name, [written_ms] * 6)) as video:
        np.testing.assert_allclose(video.times, np.arange(6) * shown_ms / 1000, atol=1e-6)
        assert [number_of(frame) for frame in video.frames(np.array([5, 0, 3]))] == [5, 0, 3]


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_each_frame_has_its_own_delay(name: str, tmp_path: Path) -> None:
    with open_video(animation(tmp_path / name, [10, 200, 30, 0, 500, 100])) as video:
        np.testing.assert_allclose(video.times, [0, 0.1, 0.3, 0.33, 0.43, 0.93], atol=1e-6)


def test_animated_webp_is_read_by_every_function(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.webp", [40] * 30)
    with open_video(path) as video:
        assert [number_of(frame) for frame in video.frames(np.array([29, 2, 2, 11]), 24)] == [29, 2, 2, 11]
        assert [(place, number_of(frame)) for place, frame in video.pictures(np.array([0, 7, 28]))] == [
            (0, 0),
            (7, 7),
            (28, 28),
        ]
    seen = inspect(InspectionJob(path, (VideoRecord("a.webp", "x"),), compare_decoders=True))
    assert (seen.num_frames, seen.fps, seen.decord) == (30, 25.0, "not compared")
    for source in (path, path.open("rb")):
        made = transcode(source, tmp_path / "a.mp4", Encoding())
        assert (made.num_frames, made.fps) == (30, 25.0)
    with open_video(tmp_path / "a.mp4") as video:
        assert [number_of(frame) for frame in video.frames(np.arange(30))] == list(range(30))
        np.testing.assert_allclose(video.times, np.arange(30) / 25, atol=1e-3)


def test_a_single_picture_is_refused(tmp_path: Path) -> None:
    Image.fromarray(numbered_frame(3)).save(tmp_path / "a.webp")
    with pytest.raises(DecodeError, match=r"a\.webp: the file is a single picture, not a video"):
        open_video(tmp_path / "a.webp").__enter__()


def test_a_damaged_animation_is_refused(tmp_path: Path) -> None:
    whole = animation(tmp_path / "a.webp", [40] * 30).read_bytes()
    (tmp_path / "b.webp").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DecodeError, match=r"b\.webp: "):
        open_video(tmp_path / "b.webp").__enter__()
