from __future__ import annotations

import socket
import threading
import time
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from farfield.clip_spec import ClipSpec
from farfield.data.live import live_windows
from farfield.errors import FarfieldError, VideoError

SPEC = ClipSpec(num_frames=4, crop_px=48, frame_stride=2, short_side_px=48)  # spans 7 frames


def broadcast(path: Path, seconds: float) -> str:
    """Sends a file to whoever connects, over so much time; returns where."""
    server = socket.create_server(("127.0.0.1", 0))
    content = path.read_bytes()

    def send() -> None:
        with server, server.accept()[0] as client:
            parts = 50
            for i in range(parts):
                client.sendall(content[len(content) * i // parts : len(content) * (i + 1) // parts])
                time.sleep(seconds / parts)

    threading.Thread(target=send, daemon=True).start()
    return f"tcp://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transport stream of 100 frames, 25 a second, each 2 brighter than the one before."""
    path = tmp_path_factory.mktemp("stream") / "a.ts"
    with av.open(str(path), "w") as container:
        made = container.add_stream("libx264", rate=25, options={"g": "5", "bf": "0", "crf": "1"})
        made.width = made.height = 96
        for number in range(100):
            picture = np.full((96, 96, 3), 20 + 2 * number, np.uint8)
            container.mux(made.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(made.encode(None))
    return path


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


def test_what_is_not_there() -> None:
    with pytest.raises(VideoError, match="Connection refused"), live_windows("tcp://127.0.0.1:9", SPEC):
        pass
    with pytest.raises(VideoError, match=r"/dev/video99: "), live_windows("/dev/video99", SPEC):
        pass
    segments = SPEC.replace(sampling="segments")
    with pytest.raises(FarfieldError, match="Give window_seconds"), live_windows("tcp://127.0.0.1:9", segments):
        pass
