#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93, decord2 3.4.0, PyAV 18.1.0: a video whose display matrix mirrors it is turned by 180 degrees.
#
# Expected: the display matrix of an MP4 may mirror as well as rotate. A reader applies it (as ffmpeg does by itself) or leaves
#   the frame as it is stored.
# Seen: for a horizontal mirror OpenCV and decord2 turn the picture by 180 degrees, so it ends upside down, which neither the
#   stored nor the shown picture is; PyAV's frame.rotation says -180 for a mirror as for a half turn.
# Why it matters: left and right, and up and down, are what classes like "pushing from left to right" or "falling" hang on, and
#   an upside-down clip is neither of the two pictures that a person checking the data would look for.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
    opencv-python-headless==5.0.0.93 decord2==3.4.0 av==18.1.0 imageio-ffmpeg==0.8.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import subprocess
import sys

import av
import cv2
import decord
import imageio_ffmpeg
import numpy as np

ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
frames = np.zeros((3, 64, 128, 3), np.uint8)
frames[:, :32, :64] = 250
source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "128x64", "-r", "10", "-i", "-"]
subprocess.run([*ffmpeg, *source, "-c:v", "libx264", "-pix_fmt", "yuv420p", "stored.mp4"], input=frames.tobytes(), check=True)
subprocess.run([*ffmpeg, "-display_hflip", "-i", "stored.mp4", "-c", "copy", "mirrored.mp4"], check=True)
subprocess.run([*ffmpeg, "-display_rotation", "180", "-i", "stored.mp4", "-c", "copy", "turned.mp4"], check=True)


def bright_corner(frame):
    quarters = {
        "top left": frame[:32, :64],
        "top right": frame[:32, 64:],
        "bottom left": frame[32:, :64],
        "bottom right": frame[32:, 64:],
    }
    return max(quarters, key=lambda name: quarters[name].mean())


seen = {}
for name in ("stored.mp4", "mirrored.mp4", "turned.mp4"):
    raw = subprocess.run(
        [*ffmpeg, "-i", name, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True
    ).stdout
    with av.open(name) as container:
        frame = next(container.decode(video=0))
    seen[name] = {
        "ffmpeg": bright_corner(np.frombuffer(raw, np.uint8).reshape(64, 128, 3)),
        "OpenCV": bright_corner(cv2.VideoCapture(name).read()[1]),
        "decord2": bright_corner(decord.VideoReader(name)[0].asnumpy()),
        "PyAV, matrix left alone": bright_corner(frame.to_ndarray(format="rgb24")),
    }
    print(name, "bright corner:", seen[name], "PyAV frame.rotation:", frame.rotation)
    seen[name]["frame.rotation"] = frame.rotation
readers = ("ffmpeg", "OpenCV", "decord2", "PyAV, matrix left alone", "frame.rotation")
expected = {
    "stored.mp4": dict(zip(readers, ("top left", "top left", "top left", "top left", 0))),
    "mirrored.mp4": dict(zip(readers, ("top right", "bottom right", "bottom right", "top left", -180))),
    "turned.mp4": dict(zip(readers, ("bottom right", "bottom right", "bottom right", "top left", -180))),
}
if seen != expected:
    sys.exit(f"changed: {seen}")
PY
