#!/usr/bin/env bash
# rerun-sdk 0.41.0: AssetVideo.read_frame_timestamps_nanos gives times of 4.8 days for a three-second CMAF file.
#
# Expected: frame times 0.1, 0.2, 0.3, ..., as PyAV reads them; in fragments ("trun" boxes of version 1) the composition offset
#   is a signed number, and ffmpeg's `-movflags cmaf` writes negative ones for B-frames.
# Seen: the offset is taken as unsigned: some frames stand 2**32 ticks late (419433 s at 10240 ticks a second), and the other
#   times are not those of the frames either. The same stream with non-negative offsets, fragmented or not, is right.
# Why it matters: these times are what send_columns logs annotations and predictions against; DASH and HLS recordings are CMAF.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
    rerun-sdk==0.41.0 av==18.1.0 imageio-ffmpeg==0.8.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import subprocess
import sys

import av
import imageio_ffmpeg
import rerun

ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
source = ["-f", "lavfi", "-i", "testsrc2=s=64x64:r=10:d=3"]
encode = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "12", "-bf", "2"]
subprocess.run([*ffmpeg, *source, *encode, "plain.mp4"], check=True)
last = {}
for flags in ("frag_keyframe+empty_moov", "cmaf"):
    subprocess.run([*ffmpeg, "-y", "-i", "plain.mp4", "-c", "copy", "-movflags", flags, "fragments.mp4"], check=True)
    with av.open("fragments.mp4") as container:
        pyav = [round(float(f.time), 3) for f in container.decode(video=0)]
    times = [round(int(t) / 1e9, 3) for t in rerun.AssetVideo(path="fragments.mp4").read_frame_timestamps_nanos()]
    print(f"{flags}: PyAV  {pyav[:6]} ... {pyav[-1]}\n{flags}: rerun {times[:6]} ... {times[-1]}")
    last[flags] = abs(times[-1] - pyav[-1])
if last["frag_keyframe+empty_moov"] > 0.5:
    sys.exit("the control with non-negative offsets failed, too")
if last["cmaf"] < 1:
    sys.exit("changed: rerun reads negative composition offsets")
PY
