#!/usr/bin/env bash
# decord2 3.4.0: uncompressed 8-bit palette video and QuickTime Graphics (SMC) come out all black.
#
# Expected: the palette's colours, as PyAV shows them, and as decord2 itself shows palette video in PNG or MS RLE.
# Seen: every pixel of raw pal8 in AVI or MOV and of SMC is 0; the number of frames and their size are right and nothing is raised.
# Why it matters: a class whose clips are of such an old recording is learned as "the black ones", without anyone seeing one.
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

source = ["-f", "lavfi", "-i", "testsrc2=s=64x64:r=10:d=0.5"]
seen = {}
for name, codec in (("png.mov", "png"), ("rle.avi", "msrle"), ("raw.avi", "rawvideo"), ("raw.mov", "rawvideo"), ("smc.mov", "smc")):
    options = ["-c:v", codec, "-pix_fmt", "pal8"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, *options, name], check=True)
    with av.open(name) as container:
        pyav = next(container.decode(video=0)).to_ndarray(format="rgb24")
    reader = decord.VideoReader(name)
    frame = reader[0].asnumpy()
    print(f"{name}: mean and maximum in PyAV {pyav.mean():.1f} {pyav.max()}, in decord2 {frame.mean():.1f} {frame.max()}")
    if not pyav.any():
        sys.exit("the file is not as meant: black in PyAV, too")
    same = np.array_equal(frame, pyav)
    black = not reader.get_batch(range(len(reader))).asnumpy().any()
    seen[name] = (len(reader), frame.shape, "as PyAV" if same else "black" if black else "something else")
expected = {
    name: (5, (64, 64, 3), picture)
    for name, picture in {
        "png.mov": "as PyAV", "rle.avi": "as PyAV", "raw.avi": "black", "raw.mov": "black", "smc.mov": "black"
    }.items()
}
if seen != expected:
    sys.exit(f"changed: {seen}")
PY
