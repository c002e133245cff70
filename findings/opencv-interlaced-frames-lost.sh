#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: VideoCapture.read() answers True for interlaced video, but the array is not the picture.
#
# Expected: cv2.VideoCapture reads interlaced H.264 as it reads progressive H.264 (fields woven together), or read()
#   answers False.
# Seen: libswscale refuses the conversion ("Cannot convert interlaced to progressive frames or vice versa"); read() answers
#   True all the same, and what comes back is far from the frame that PyAV decodes.
# Why it matters: broadcast, DVD and camcorder recordings (MPEG-2, DV, interlaced H.264 or ProRes) turn into noise without an
#   exception; a training run goes on.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
    opencv-python-headless==5.0.0.93 imageio-ffmpeg==0.8.1 av==18.1.0 numpy==2.4.6
cd "$work"
cat > read.py <<'PY'
import sys

import cv2

ok, frame = cv2.VideoCapture(sys.argv[1]).read()
print(int(ok), *(frame[..., ::-1].mean(axis=(0, 1)).round() if ok else ()))
PY
"$work/venv/bin/python" - <<'PY'
import subprocess
import sys

import av
import imageio_ffmpeg

ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
colour = (200, 120, 40)
kinds = {
    "progressive.mp4": ["-c:v", "libx264"],
    "interlaced.mp4": ["-c:v", "libx264", "-flags", "+ildct+ilme", "-x264-params", "tff=1"],
    "interlaced.mpg": ["-c:v", "mpeg2video", "-flags", "+ildct+ilme"],
    "interlaced.dv": ["-c:v", "dvvideo"],
}
right = {}
for name, options in kinds.items():
    source = ["-f", "lavfi", "-i", "color=c=0xC87828:s=720x576:r=25:d=0.4"]
    subprocess.run([ffmpeg, "-v", "error", *source, *options, "-pix_fmt", "yuv420p", name], check=True)
    with av.open(name) as container:
        pyav = next(container.decode(video=0)).to_ndarray(format="rgb24").mean(axis=(0, 1)).round()
    done = subprocess.run([sys.executable, "read.py", name], check=True, capture_output=True, text=True)
    ok, *opencv = [float(word) for word in done.stdout.split()]
    right[name] = bool(ok) and max(abs(a - b) for a, b in zip(opencv, colour)) < 5
    print(f"{name}: drawn {colour}, PyAV {pyav}, OpenCV ok={bool(ok)} {opencv} right={right[name]}", done.stderr[:200])
    if max(abs(pyav - colour)) > 5:
        sys.exit("the file is not as meant: PyAV does not see the colour")
if not right.pop("progressive.mp4"):
    sys.exit("the progressive control failed, too")
if any(right.values()):
    sys.exit("changed: OpenCV reads an interlaced file")
PY
