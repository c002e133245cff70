#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1): of raw H.264 at 12 frames per second, no rate that the stream reports is 12.
#
# Expected: guessed_rate (r_frame_rate) is the stream's own rate, as it is for 30 frames per second and for raw HEVC.
# Seen: average_rate, guessed_rate and base_rate are 25, 24, 24 for H.264 at 12 frames per second and 25, 30, 60 at 30; for HEVC
#   25, 12, 12 and 25, 30, 30. The duration of each packet is right everywhere.
# Why it matters: recordings of network and Raspberry Pi cameras are raw H.264 at low rates; actions last half as long.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check av==18.1.0 imageio-ffmpeg==0.8.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import subprocess
import sys

import av
import imageio_ffmpeg

seen = {}
for (suffix, codec), rate in [(kind, rate) for kind in (("h264", "libx264"), ("hevc", "libx265")) for rate in (12, 30)]:
    name = f"{rate}.{suffix}"
    source = ["-f", "lavfi", "-i", f"testsrc2=s=160x96:r={rate}:d=2"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", *source, "-c:v", codec, name], check=True)
    with av.open(name) as container:
        stream = container.streams.video[0]
        by_packet = {1 / float(packet.duration * stream.time_base) for packet in container.demux(stream) if packet.size}
        seen[name] = (stream.average_rate, stream.guessed_rate, stream.base_rate)
        print(f"{name}: average {stream.average_rate}, guessed {stream.guessed_rate}, base {stream.base_rate}, "
              f"by the packets' durations {sorted(round(each, 3) for each in by_packet)}")
    if {round(each, 3) for each in by_packet} != {float(rate)}:
        sys.exit("the packets' durations are not those of the stream")
# average, guessed and base rate
expected = {"12.h264": (25, 24, 24), "30.h264": (25, 30, 60), "12.hevc": (25, 12, 12), "30.hevc": (25, 30, 30)}
if seen != expected:
    sys.exit(f"changed: {seen}")
PY
