#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1): the frames of an H.264 AVI with B-frames come in display order with times out of order.
#
# Expected: decoded frames are in display order, so frame.time grows: 0.0, 0.1, 0.2, ... as from the same stream in MP4.
# Seen: the pictures are in display order, but frame.time runs 0.1, 0.3, 0.4, 0.2, 0.6, 0.7, ...: AVI keeps no presentation
#   times, so a frame gets the decoding time of some packet. MPEG-4 Part 2 in AVI is in order, but starts one frame late.
# Why it matters: sampling "the frame at t seconds", bisecting over times, or stopping at the first frame after the end picks
#   wrong frames of such a file, and silently.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check av==18.1.0 imageio-ffmpeg==0.8.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import subprocess
import sys

import av
import imageio_ffmpeg
import numpy as np

frames = np.stack([np.full((64, 64, 3), 20 + 7 * i, np.uint8) for i in range(30)])
ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x64", "-r", "10", "-i", "-"]
h264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "2"]
times = {}
for name, options in (("h264.mp4", h264), ("h264.avi", h264), ("mpeg4.avi", ["-c:v", "mpeg4", "-bf", "2", "-q:v", "2"])):
    subprocess.run([*ffmpeg, *source, *options, name], input=frames.tobytes(), check=True)
    with av.open(name) as container:
        decoded = list(container.decode(video=0))
    numbers = [round((float(f.to_ndarray(format="rgb24").mean()) - 20) / 7) for f in decoded]
    times[name] = [round(float(f.time), 3) for f in decoded]
    print(f"{name}: in display order {numbers == list(range(30))}, times {times[name][:12]} ... {times[name][-1]}")
    if numbers != list(range(30)):
        sys.exit("the pictures are not in display order")
if times["h264.mp4"] != [k / 10 for k in range(30)]:
    sys.exit(f"the MP4 control failed, too: {times['h264.mp4']}")
out_of_order = [0.1, 0.3, 0.4, 0.2, 0.6, 0.7, 0.5, 0.9, 1.0, 0.8, 1.2, 1.3]
if times["h264.avi"][:12] != out_of_order or times["mpeg4.avi"] != [k / 10 for k in range(1, 31)]:
    sys.exit(f"changed: {times}")
PY
