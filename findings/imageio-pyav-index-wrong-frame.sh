#!/usr/bin/env bash
# imageio 2.38.1 with PyAV 18.1.0: imread(file, index=k, plugin="pyav") gives another frame than the k-th of MPEG-TS, FLV, or
# fragmented MP4.
#
# Expected: index=k is the k-th frame that imiter gives; the rate of these files is constant.
# Seen: right for 0 and 1, wrong later: in fragmented MP4 and FLV k=5 gives frame 3 and k=15 frame 13 (two frames too early:
#   the streams do not start at time 0), in MPEG-TS k=5 gives frame 0 and k=15 frame 12. Nothing is raised.
# Why it matters: single frames looked up by index (thumbnails, labels on frames) are off by 2 frames to a group of pictures,
#   for the containers that streams and cameras write.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
    imageio==2.38.1 av==18.1.0 imageio-ffmpeg==0.8.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import subprocess
import sys

import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np

frames = np.stack([np.full((64, 64, 3), 20 + 7 * i, np.uint8) for i in range(30)])


def number(frame):
    return round((float(frame.mean()) - 20) / 7)


ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x64", "-r", "10", "-i", "-"]
encode = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "12", "-bf", "2", "-sc_threshold", "0"]
subprocess.run([*ffmpeg, *source, *encode, "plain.mp4"], input=frames.tobytes(), check=True)
copies = {"plain.ts": [], "plain.flv": [], "fragments.mp4": ["-movflags", "frag_keyframe+empty_moov"]}
for name, options in copies.items():
    subprocess.run([*ffmpeg, "-i", "plain.mp4", "-c", "copy", *options, name], check=True)
wanted = [0, 1, 5, 10, 15, 20, 25]
got = {}
for name in ("plain.mp4", *copies):
    in_order = [number(frame) for frame in iio.imiter(name, plugin="pyav")]
    got[name] = [number(iio.imread(name, index=k, plugin="pyav")) for k in wanted]
    print(f"{name}: imiter in order {in_order == list(range(30))}, index {wanted} gives {got[name]}")
    if in_order != list(range(30)):
        sys.exit("the file is not as meant")
if got["plain.mp4"] != wanted:
    sys.exit("the MP4 control failed, too")
if all(got[name] == wanted for name in copies):
    sys.exit("changed: the index gives the right frame")
PY
