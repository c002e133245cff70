"""Serve a generated camera by RTSP on the loopback interface, with GStreamer's server.

    /usr/bin/python3 scripts/rtsp_camera.py 8554 schedule.json      # rtsp://127.0.0.1:8554/camera

Needs Debian's packages gir1.2-gst-rtsp-server-1.0, python3-gi, gstreamer1.0-plugins-good and -ugly, and runs with the
system's Python, for which they are; it imports nothing else. The picture is bright during the schedule's intervals,
which are times of day, and dark otherwise.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import gi  # type: ignore[import-not-found]  # of the system's Python

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]  # noqa: E402

WIDTH, HEIGHT, FPS = 96, 96, 25
DARK, BRIGHT = 25, 230
PIPELINE = (
    f"( appsrc name=source is-live=true format=time do-timestamp=true "
    f"caps=video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},framerate={FPS}/1 "
    f"! videoconvert ! video/x-raw,format=I420 ! x264enc tune=zerolatency key-int-max={FPS} bitrate=400 "
    "! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


def noisy(level: int) -> bytes:
    """Return a grey picture of this level, with noise so that frames have a size as a camera's."""
    return bytes(level + (value & 15) - 8 for value in os.urandom(WIDTH * HEIGHT))


def main() -> None:
    port, schedule = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    pictures = {level: [noisy(level) for _ in range(50)] for level in (DARK, BRIGHT)}

    def configure(factory: Any, media: Any) -> None:
        source = media.get_element().get_child_by_name("source")
        number = 0

        def push() -> bool:
            nonlocal number
            now = time.time()
            level = BRIGHT if any(start <= now < end for start, end in schedule) else DARK
            number += 1
            buffer = Gst.Buffer.new_wrapped(pictures[level][number % 50])
            return source.emit("push-buffer", buffer) == Gst.FlowReturn.OK

        GLib.timeout_add(1000 // FPS, push)

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE)
    factory.set_shared(True)
    factory.connect("media-configure", configure)
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
