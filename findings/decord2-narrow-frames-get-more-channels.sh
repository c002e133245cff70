#!/usr/bin/env bash
# decord2 3.4.0: frames of 8, 16, 24 or 48 pixels of width come back with 12, 6, 4 and 4 channels.
#
# Expected: VideoReader gives (height, width, 3), whatever the width.
# Seen: v[i] has 4 channels at 24 and 48 pixels, 6 at 16, and 12 at 8 (3 at 20, 32, 40, 64 and 112); get_batch raises for the
#   widths that get more than 3. VideoReader(width=..., height=...) on a wider video gives the same shapes.
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
seen = {}
for width in (8, 16, 20, 24, 32, 40, 48, 64, 112):
    options = ["-vf", f"scale={width}:64", "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    subprocess.run([ffmpeg, "-y", "-v", "error", "-i", "wide.mp4", *options, "narrow.mp4"], check=True)
    own = decord.VideoReader("narrow.mp4")[0].shape
    asked = decord.VideoReader("wide.mp4", width=width, height=64)[0].shape
    try:
        batch = decord.VideoReader("narrow.mp4").get_batch([0]).shape
    except decord.DECORDError:
        batch = "raises"
    print(f"width {width}: v[0] {own}, with width= {asked}, get_batch {batch}")
    seen[width] = (own, asked, batch)
channels = {8: 12, 16: 6, 20: 3, 24: 4, 32: 3, 40: 3, 48: 4, 64: 3, 112: 3}
expected = {
    width: ((64, width, count), (64, width, count), (1, 64, width, 3) if count == 3 else "raises")
    for width, count in channels.items()
}
changed = {width: seen[width] for width in expected if seen[width] != expected[width]}
if changed:
    sys.exit(f"changed: {changed}")
PY
