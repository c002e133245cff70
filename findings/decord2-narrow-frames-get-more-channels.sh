#!/usr/bin/env bash
# decord2 3.4.0: frames of 8, 16, 24 or 48 pixels of width come back with 12, 6, 4 and 4 channels.
#
# Expected: VideoReader gives (height, width, 3), whatever the width.
# Seen: the number of channels is the row's padded length in bytes divided by the width: 4 at 24 and 48 pixels, 6 at 16, 12 at
#   8. The extra "channels" are the next pixels of the row, so the picture is sheared as well. get_batch raises instead. The same
#   happens with VideoReader(width=48, height=...) on a video of any size.
# Why it matters: tiny frames are what tests, toy sets and motion thumbnails use; v[i] hands on a wrong picture with a shape
#   that looks like RGBA.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check decord2==3.4.0 imageio-ffmpeg==0.8.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import subprocess
import sys

import decord
import imageio_ffmpeg

ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
source = ["-f", "lavfi", "-i", "testsrc2=s=128x64:r=10:d=0.5"]
subprocess.run([ffmpeg, "-v", "error", *source, "-c:v", "libx264", "-pix_fmt", "yuv420p", "wide.mp4"], check=True)
channels = {}
for width in (8, 16, 20, 24, 32, 40, 48, 64, 112):
    options = ["-vf", f"scale={width}:64", "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    subprocess.run([ffmpeg, "-y", "-v", "error", "-i", "wide.mp4", *options, "narrow.mp4"], check=True)
    own = decord.VideoReader("narrow.mp4")[0].shape
    asked = decord.VideoReader("wide.mp4", width=width, height=64)[0].shape
    try:
        batch = decord.VideoReader("narrow.mp4").get_batch([0]).shape
    except decord.DECORDError as error:
        batch = next(line for line in str(error).splitlines() if "Check failed" in line).split("Check failed:")[1]
    print(f"width {width}: v[0] {own}, with width= {asked}, get_batch {batch}")
    channels[width] = own[2]
if channels[64] != 3:
    sys.exit("the control failed: 64 pixels should give 3 channels")
if channels[48] == 3 and channels[24] == 3:
    sys.exit("changed: narrow frames have 3 channels")
PY
