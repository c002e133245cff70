#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1): the GIF demuxer's options min_delay and default_delay are accepted, and do nothing.
#
# Expected: as the demuxer's help says, delays below min_delay (2/100 s by default) become default_delay (10/100 s), as in
#   browsers, which show a frame for 100 ms where the file says 10 ms or nothing.
# Seen: a delay of 10 ms stays 10 ms and one of 30 ms stays 30 ms, with the defaults and with min_delay=2, 3 or 6000; a delay of
#   0 is 100 ms in all of them.
# Why it matters: a GIF that everybody has seen at 10 frames per second is decoded at 100.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check av==18.1.0 pillow==12.3.0
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import av
from PIL import Image

pictures = [Image.new("RGB", (32, 32), (20 * i, 0, 0)) for i in range(8)]
seen = {}
for delay_ms in (0, 10, 30):
    name = f"{delay_ms}.gif"
    pictures[0].save(name, save_all=True, append_images=pictures[1:], duration=delay_ms, loop=0)
    for min_delay in (None, "2", "3", "6000"):
        options = {} if min_delay is None else {"min_delay": min_delay, "default_delay": "10"}
        with av.open(name, options=options) as container:
            stream = container.streams.video[0]
            times = [float(packet.pts * stream.time_base) for packet in container.demux(stream) if packet.size]
        seen[delay_ms, min_delay] = round(times[1] - times[0], 3)
        print(f"written {delay_ms} ms, min_delay {min_delay}: shown every {seen[delay_ms, min_delay]} s")
shown = {0: 0.1, 10: 0.01, 30: 0.03}
expected = {(delay_ms, min_delay): shown[delay_ms] for delay_ms in shown for min_delay in (None, "2", "3", "6000")}
changed = {key: seen[key] for key in expected if seen[key] != expected[key]}
if changed:
    sys.exit(f"changed: {changed}")
PY
