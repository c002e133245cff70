#!/usr/bin/env bash
# decord2 3.4.0: in an MP4 with an edit list, the frame at an index depends on which frame was read before.
#
# Expected: v[k] is one frame; a file cut with `ffmpeg -ss 0.55 -c copy` (edit list over the frames before the cut) shows
#   24 frames, as in PyAV, and has 24 indices, or 30 with the hidden ones at the front.
# Seen: len(v) is 30. Read forwards, v[0] is the first shown frame (6) and the last one (29) stands seven times at the end;
#   read backwards, v[0..7] are the same, and v[8..29] are frames 8 to 29. The first time stamp is -0.6.
# Why it matters: the same index gives different pictures in a sequential pass and under random sampling, so features cached by
#   index do not match what training sees. Lossless cutting is how clips are taken from long videos.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
    decord2==3.4.0 av==18.1.0 imageio-ffmpeg==0.8.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import subprocess
import sys

import av
import decord
import imageio_ffmpeg
import numpy as np

frames = np.stack([np.full((64, 64, 3), 20 + 7 * i, np.uint8) for i in range(30)])


def number(frame):
    return round((float(frame.mean()) - 20) / 7)


ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x64", "-r", "10", "-i", "-"]
encode = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "12", "-bf", "2", "-sc_threshold", "0"]
subprocess.run([*ffmpeg, *source, *encode, "whole.mp4"], input=frames.tobytes(), check=True)
subprocess.run([*ffmpeg, "-ss", "0.55", "-i", "whole.mp4", "-c", "copy", "cut.mp4"], check=True)
seen = {}
for name in ("whole.mp4", "cut.mp4"):
    with av.open(name) as container:
        pyav = [number(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    count = len(decord.VideoReader(name))
    reader = decord.VideoReader(name)
    forwards = {k: number(reader[k].asnumpy()) for k in range(count)}
    reader = decord.VideoReader(name)
    backwards = {k: number(reader[k].asnumpy()) for k in reversed(range(count))}
    print(f"{name}: PyAV {len(pyav)} frames {pyav}")
    print(f"{name}: decord2 forwards  {[forwards[k] for k in range(count)]}")
    print(f"{name}: decord2 backwards {[backwards[k] for k in range(count)]}")
    first_time = round(float(reader.get_frame_timestamp(0)[0]), 3)
    print(f"{name}: decord2's time of the first frame {first_time}")
    seen[name] = (pyav, list(forwards.values()), [backwards[k] for k in range(count)], first_time)
every = list(range(30))
if seen["whole.mp4"] != (every, every, every, 0.0):
    sys.exit(f"the control without an edit list failed, too: {seen['whole.mp4']}")
expected = (every[6:], [*every[6:], *[29] * 6], [*every[6:14], *every[8:]], -0.6)
if seen["cut.mp4"] != expected:
    sys.exit(f"changed: {seen['cut.mp4']}")
PY
