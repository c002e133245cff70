"""Frames that are kept are the frames that the decoder gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from farfield.data import memory as memory_module
from farfield.data.decode import DecodeError, open_video
from farfield.data.memory import FrameMemory


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that a memory opens, as it opens them."""
    paths: list[Path] = []

    def watched(path: Path, decoder: str = "PyAV") -> object:
        paths.append(path)
        return open_video(path, decoder)  # type: ignore[arg-type]

    monkeypatch.setattr(memory_module, "open_video", watched)
    return paths


def read(memory: FrameMemory, path: Path, indices: list[int], short_side_px: int | None = None) -> np.ndarray:
    with memory.open(path) as video:
        return video.frames(np.array(indices), short_side_px)


@pytest.mark.parametrize("short_side_px", [None, 16])
def test_gives_the_decoders_frames_and_opens_the_file_no_more(
    make_video: Callable[..., Path], opened: list[Path], short_side_px: int | None
) -> None:
    memory, rng = FrameMemory(10**9), np.random.default_rng(0)
    with open_video(make_video(60)) as video:
        times, expected = video.times, video.frames(np.arange(60), short_side_px)
    for _ in range(30):
        indices = rng.integers(60, size=8).tolist()
        assert np.array_equal(read(memory, make_video(60), indices, short_side_px), expected[indices])
    read(memory, make_video(60), [0, 59], short_side_px)
    before = len(opened)
    assert np.array_equal(read(memory, make_video(60), [5, 41, 5], short_side_px), expected[[5, 41, 5]])
    with memory.open(make_video(60)) as video:
        assert np.array_equal(video.times, times)
    assert len(opened) == before


def test_keeps_no_more_than_there_is_room_for(make_video: Callable[..., Path]) -> None:
    with open_video(make_video(60)) as video:
        expected = video.frames(np.arange(60))
    room = expected[:20].nbytes
    memory = FrameMemory(room)
    for indices in ([0, 19], [20, 59], [3, 30], [19, 0]):
        assert np.array_equal(read(memory, make_video(60), indices), expected[indices])
        kept = {
            id(picture.base): picture.base for each in memory._videos.values() for picture in each.pictures.values()
        }
        assert sum(base.nbytes for base in kept.values()) <= room
    assert memory.bytes_left == 0


def test_sizes_do_not_mix(make_video: Callable[..., Path]) -> None:
    memory = FrameMemory(10**9)
    with open_video(make_video(60)) as video:
        whole, small = video.frames(np.array([4, 9])), video.frames(np.array([4, 9]), 16)
    assert whole.shape != small.shape
    for _ in range(2):
        assert np.array_equal(read(memory, make_video(60), [4, 9]), whole)
        assert np.array_equal(read(memory, make_video(60), [4, 9], 16), small)


def test_a_bad_file_is_refused_as_without_it(bad_files: dict[str, Path]) -> None:
    memory = FrameMemory(10**9)
    for _ in range(2):
        with pytest.raises(DecodeError, match="empty"), memory.open(bad_files["empty"]) as video:
            video.frames(np.array([0]))
