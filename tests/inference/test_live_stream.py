from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError, VideoError
from farfield.inference.live_stream import LiveStream
from streams import Broadcast, live_windows, write_levels

SPEC = ClipSpec(num_frames=4, crop_px=48, frame_stride=2, short_side_px=48)  # spans 7 frames


def broadcast(path: Path, seconds: float) -> str:
    """Send a file to whoever connects, over so many seconds; return where."""
    return Broadcast([(path.read_bytes(), seconds)]).url


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transport stream of 100 frames, 25 a second, each 2 brighter than the one before."""
    return write_levels(tmp_path_factory.mktemp("stream") / "a.ts", range(20, 220, 2))


@pytest.mark.slow
def test_windows_come_while_the_stream_goes_on(stream: Path) -> None:
    with live_windows(broadcast(stream, 1.5), SPEC, hop_seconds=10 / 25) as windows:
        found = []
        begin = time.perf_counter()
        for window in windows:
            found.append((time.perf_counter() - begin, window))
    assert 4 <= len(found) <= 10
    assert found[0][0] < 1.2  # long before the end
    for _, window in found:
        assert window.frames.shape == (1, 4, 48, 48, 3)
        assert window.end_seconds - window.start_seconds == pytest.approx(7 / 25, abs=0.01)
        levels = window.frames[0].float().mean((1, 2, 3)).numpy()
        places = window.start_seconds * 25 + np.arange(0, 7, 2)
        np.testing.assert_allclose((levels - 20) / 2, places, atol=1.6)  # the codec rounds
    starts = [window.start_seconds for _, window in found]
    assert all(later - earlier >= 10 / 25 - 0.01 for earlier, later in pairwise(starts))


@pytest.mark.slow
def test_who_is_slow_gets_the_newest_and_falls_not_behind(stream: Path) -> None:
    with live_windows(broadcast(stream, 1.5), SPEC, hop_seconds=1 / 25) as windows:
        starts = []
        for window in windows:
            starts.append(window.start_seconds)
            time.sleep(0.4)
    assert len(starts) <= 6
    assert starts[-1] > 2.5  # of 4 s


def test_at_a_rate_of_its_own(stream: Path) -> None:
    spec = SPEC.replace(target_fps=12.5)
    with live_windows(broadcast(stream, 0.3), spec, hop_seconds=0.01) as windows:
        window = next(windows)
    assert window.end_seconds - window.start_seconds == pytest.approx(7 / 12.5, abs=0.01)


def test_a_window_shorter_than_its_frames_shows_all_of_itself(stream: Path) -> None:
    """Three frames for the network's four: one of them twice."""
    with live_windows(str(stream), SPEC, window_seconds=3 / 25) as windows:
        window = next(windows)
    assert window.end_seconds - window.start_seconds == pytest.approx(3 / 25, abs=0.01)
    levels = window.frames[0].float().mean((1, 2, 3)).numpy()
    np.testing.assert_allclose((levels - 20) / 2 - window.start_seconds * 25, [0, 1, 1, 2], atol=1.1)


@pytest.mark.parametrize("target_fps", [None, 12.5])
def test_time_goes_on_where_the_clock_of_a_source_starts_again(
    target_fps: float | None, stream: Path, tmp_path: Path
) -> None:
    (tmp_path / "twice.ts").write_bytes(stream.read_bytes() * 2)
    stream_twice = LiveStream(str(tmp_path / "twice.ts"), SPEC.replace(target_fps=target_fps), 10.0)
    seconds = [at for at, _ in stream_twice.frames(SPEC.span)]
    stream_twice.close()
    step = 1 / (target_fps or 25)
    np.testing.assert_allclose(np.diff(seconds), step, atol=0.05)
    assert seconds[-1] == pytest.approx(8 - step, abs=0.2)


def test_a_camera_is_closed_at_once_though_no_moment_comes(stream: Path) -> None:
    """At a frame in 100 seconds, of a stream that lasts longer than the test waits."""
    with live_windows(broadcast(stream, 20), SPEC.replace(target_fps=0.01)):
        time.sleep(0.3)
        begin = time.perf_counter()
    assert time.perf_counter() - begin < 3


def test_what_is_not_there() -> None:
    with pytest.raises(VideoError, match="Connection refused"), live_windows("tcp://127.0.0.1:9", SPEC):
        pass
    with pytest.raises(VideoError, match=r"/dev/video99: "), live_windows("/dev/video99", SPEC):
        pass
    with (
        pytest.raises(FarfieldError, match="hop_seconds is -1; it must be positive"),
        live_windows("x", SPEC, hop_seconds=-1),
    ):
        pass
    segments = SPEC.replace(sampling="segments")
    with pytest.raises(FarfieldError, match="Give window_seconds"), live_windows("tcp://127.0.0.1:9", segments):
        pass
