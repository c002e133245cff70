#!/usr/bin/env bash
# decord2 3.4.0: read from the start, an MPEG-TS file begins at a later frame, and its last frame is given again and again.
#
# Expected: v[0] .. v[len(v)-1] are the frames of the file in order, as from MP4, and as PyAV reads the same MPEG-TS.
# Seen: len(v) is right (30), the first time stamp is 0.0, but v[0] is the first frame of the second group of pictures (number
#   12 where a group has 12 frames), v[k] is frame k + 12, and the last thirteen indices all give the last frame. Nothing is
#   raised.
# Why it matters: .ts is what streams and cameras record. Every label by frame or by second is shifted by up to a group of
#   pictures, and the beginning of the clip is never seen.
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
subprocess.run([*ffmpeg, *source, *encode, "a.mp4"], input=frames.tobytes(), check=True)
subprocess.run([*ffmpeg, "-i", "a.mp4", "-c", "copy", "a.ts"], check=True)
seen = {}
for name in ("a.mp4", "a.ts"):
    with av.open(name) as container:
        pyav = [number(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    reader = decord.VideoReader(name)
    seen[name] = ([number(reader[i].asnumpy()) for i in range(len(reader))], float(reader.get_frame_timestamp(0)[0]))
    print(f"{name}: PyAV    {pyav}\n{name}: decord2 {seen[name][0]}, first time {seen[name][1]}")
    if pyav != list(range(30)):
        sys.exit("the file is not as meant: PyAV does not see 30 frames in order")
if seen["a.mp4"] != (list(range(30)), 0.0):
    sys.exit(f"the MP4 control failed, too: {seen['a.mp4']}")
if seen["a.ts"] != ([*range(12, 30), *[29] * 12], 0.0):
    sys.exit(f"changed: {seen['a.ts']}")
PY
