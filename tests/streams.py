"""Streams on the loopback interface, as cameras send them: made here, sent over time, interrupted and back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import numpy as np

from farfield.clip_spec import ClipSpec
from farfield.inference.camera_group import open_cameras
from farfield.inference.camera_options import CameraOptions
from farfield.timelines.sliding_windows import Window


def write_levels(path: Path, levels: Iterable[int], *, fps: int = 25, side: int = 96, **options: str) -> Path:
    """Write noisy frames of these mean levels, with a keyframe every 5 frames; the suffix gives the container.

    The noise gives all frames about the same size, so that bytes arrive as evenly as a camera's.
    """
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        made = container.add_stream(
            "libx264", rate=fps, options={"g": "5", "bf": "0", "crf": "12", "sc_threshold": "0"} | options
        )
        made.width = made.height = side
        for level in levels:
            noise = rng.integers(-9, 10, (side, side, 3))
            container.mux(made.encode(av.VideoFrame.from_ndarray(np.clip(level + noise, 0, 255).astype(np.uint8))))
        container.mux(made.encode(None))
    return path


class Broadcast:
    """A server that sends one piece of a stream to each client in turn, over some time, and then hangs up.

    Args:
        pieces: what each client gets: bytes, and the seconds that sending them takes. When all have been sent, further
            clients are refused.
        protocol: "tcp", or "http", whose clients send a request first.
    """

    def __init__(self, pieces: Sequence[tuple[bytes, float]], *, protocol: str = "tcp") -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._pieces = list(pieces)
        self.port = self._server.getsockname()[1]
        self._protocol = protocol
        self.url = f"{protocol}://127.0.0.1:{self.port}"
        self.accepted: list[float] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with self._server:
            for content, seconds in self._pieces:
                with suppress(OSError), self._server.accept()[0] as client:
                    self.accepted.append(time.monotonic())
                    if self._protocol == "http":
                        client.recv(4096)
                    send_over(client.sendall, content, seconds)


def send_over(send: Callable[[bytes], object], content: bytes, seconds: float) -> None:
    """Send content in equal parts, about 25 a second, so that it takes so many seconds."""
    parts = max(round(25 * seconds), 1)
    begin = time.monotonic()
    for i in range(parts):
        send(content[len(content) * i // parts : len(content) * (i + 1) // parts])
        time.sleep(max(begin + seconds * (i + 1) / parts - time.monotonic(), 0))


def nal_units(data: bytes) -> list[bytes]:
    """Divide an H.264 packet into its units, from either framing: start codes (streams), or lengths (MP4, Matroska)."""
    if data.startswith((b"\0\0\0\1", b"\0\0\1")):
        units = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
        return [unit.rstrip(b"\0") for unit in units]
    units, place = [], 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        units.append(data[place + 4 : place + 4 + length].rstrip(b"\0"))
        place += 4 + length
    return units


def packets_of(path: str | Path) -> list[tuple[list[bytes], bool]]:
    """Return the units of each packet of a file's video, and whether it is a keyframe."""
    with av.open(str(path)) as container:
        return [
            (nal_units(bytes(each)), each.is_keyframe)
            for each in container.demux(container.streams.video[0])
            if each.size
        ]


@contextmanager
def live_windows(source: str, spec: ClipSpec, **options: float) -> Iterator[Iterator[Window]]:
    """The newest windows of one stream, which is not opened again."""
    with open_cameras([source], spec, CameraOptions(**options, reconnect="never")) as group:

        def windows() -> Iterator[Window]:
            while not group.has_ended:
                yield from (each.window for each in group.next_windows(1))

        yield windows()
