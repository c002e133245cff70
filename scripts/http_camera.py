"""Serve a generated camera as an MPEG transport stream by HTTP on the loopback interface.

    python scripts/http_camera.py 8080 schedule.json      # http://127.0.0.1:8080/camera

The picture is bright during the schedule's intervals, which are times of day, and dark otherwise. Each client gets a
stream of its own.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np

SIDE, FPS = 96, 25
DARK, BRIGHT = 25, 230


class Camera(BaseHTTPRequestHandler):
    """Handler that sends the stream until the client leaves."""

    schedule: list[tuple[float, float]]

    def do_GET(self) -> None:
        """Send the stream at its own pace."""
        self.send_response(200)
        self.send_header("Content-Type", "video/mp2t")
        self.end_headers()
        with suppress(OSError, av.FFmpegError):
            self._send()

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _send(self) -> None:
        rng = np.random.default_rng()
        options = {"tune": "zerolatency", "preset": "ultrafast", "g": str(FPS)}
        with av.open(self.wfile, "w", format="mpegts", options={"flush_packets": "1"}) as container:
            stream = container.add_stream("libx264", rate=FPS, options=options)
            stream.width = stream.height = SIDE
            begin, number = time.monotonic(), 0
            while True:
                now = time.time()
                level = BRIGHT if any(start <= now < end for start, end in self.schedule) else DARK
                picture = level + rng.integers(-8, 8, (SIDE, SIDE))
                frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="gray").reformat(format="yuv420p")
                container.mux(stream.encode(frame))
                number += 1
                time.sleep(max(begin + number / FPS - time.monotonic(), 0))


def main() -> None:
    Camera.schedule = json.loads(Path(sys.argv[2]).read_text())
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Camera)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
