"""Cached frames are equal to decoded frames."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farfield.data import frame_cache
from farfield.data.frame_cache import FrameCache
from farfield.video.decoders import DecodeError, open_video
from farfield.video.pyav_decoder import PyAVVideo


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that the cache opens, in order."""
    paths: list[Path] = []

    def watched(path: Path, **options: Any) -> object:
        paths.append(path)
        return open_video(path, **options)

    monkeypatch.setattr(frame_cache, "open_video", watched)
    return paths


def read(cache: FrameCache, path: Path, indices: list[int], short_side_px: int | None = None) -> np.ndarray:
    with cache.open(path) as video:
        return video.frames(np.array(indices), short_side_px)


@pytest.mark.parametrize("short_side_px", [None, 16])
def test_cached_frames_are_the_decoders_and_need_no_file(
    make_video: Callable[..., Path], opened: list[Path], short_side_px: int | None
) -> None:
    cache, rng = FrameCache(10**9), np.random.default_rng(0)
    with open_video(make_video(60)) as video:
        times, expected = video.times, video.frames(np.arange(60), short_side_px)
    for _ in range(30):
        indices = rng.integers(60, size=8).tolist()
        assert np.array_equal(read(cache, make_video(60), indices, short_side_px), expected[indices])
    read(cache, make_video(60), [0, 59], short_side_px)
    before = len(opened)
    assert np.array_equal(read(cache, make_video(60), [5, 41, 5], short_side_px), expected[[5, 41, 5]])
    with cache.open(make_video(60)) as video:
        assert np.array_equal(video.times, times)
    assert len(opened) == before


@pytest.mark.parametrize("frames_of_room", [0.5, 10, 20, 33.3])
def test_the_cache_stays_within_its_size(make_video: Callable[..., Path], frames_of_room: float) -> None:
    with open_video(make_video(60)) as video:
        expected = video.frames(np.arange(60))
    room = int(frames_of_room * expected[0].nbytes)
    cache = FrameCache(room)
    for indices in ([0, 19], [20, 59], [3, 30], [19, 0], [40, 42, 44, 46], [40, 45, 47], [1, 12]):
        assert np.array_equal(read(cache, make_video(60), indices), expected[indices])
        kept = {}
        for each in cache._videos.values():
            for frame in each.frames.values():
                assert frame.base is not None
                kept[id(frame.base)] = frame.base.nbytes
        assert sum(kept.values()) == room - cache.bytes_left <= room


def test_only_few_extra_frames_are_decoded(make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    original = PyAVVideo.frames

    def counted(self: PyAVVideo, indices: np.ndarray, short_side_px: int | None = None) -> np.ndarray:
        asked.append(len(indices))
        return original(self, indices, short_side_px)

    monkeypatch.setattr(PyAVVideo, "frames", counted)
    cache = FrameCache(10**9)
    for indices in ([0, 6, 12], [2, 8, 14], [3, 4, 5], [20, 59]):
        read(cache, make_video(60), indices)
    assert asked == [3, 11, 2]  # as asked; all between but three; nothing; too much between
    full = FrameCache(25 * 48 * 96 * 3)
    asked.clear()
    for _ in range(2):
        for number in range(60, 64):
            read(full, make_video(number), [0, 5, 10, 15, 20, 25, 30, 35, 40, 45])
    assert asked == [10] * 6  # two videos are kept, the others are decoded each time, once


def test_frames_of_different_sizes_are_cached_separately(make_video: Callable[..., Path]) -> None:
    cache = FrameCache(10**9)
    with open_video(make_video(60)) as video:
        whole, small = video.frames(np.array([4, 9])), video.frames(np.array([4, 9]), 16)
    assert whole.shape != small.shape
    for _ in range(2):
        assert np.array_equal(read(cache, make_video(60), [4, 9]), whole)
        assert np.array_equal(read(cache, make_video(60), [4, 9], 16), small)


def test_an_unreadable_file_raises_as_without_cache(bad_files: dict[str, Path]) -> None:
    cache = FrameCache(10**9)
    for _ in range(2):
        with pytest.raises(DecodeError, match="empty"), cache.open(bad_files["empty"]) as video:
            video.frames(np.array([0]))
