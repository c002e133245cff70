"""Read thousands of clips of valid and damaged videos in one process, and check that its memory does not grow.

    python scripts/check_memory.py                    # 20,000 clips, about 3 minutes
    python scripts/check_memory.py --clips 2000 --decoder decord

Exit status 1 if resident memory after the last clip is more than 3% above that after the first 1,000.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from check_decoding import damage, write
from tqdm import tqdm

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.clips import training_clips, video_views
from farfield.data.video_record import VideoRecord
from farfield.errors import VideoError
from farfield.video.decoders import open_video

SPEC = ClipSpec(num_frames=8, frame_stride=4, crop_px=56)
FORMATS = [("mp4", "libx264"), ("mkv", "libx265"), ("webm", "libvpx-vp9"), ("avi", "mpeg4"), ("ts", "libx264")]


def resident_bytes() -> int:
    """Return the resident memory of this process, on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--settled", type=int, default=1000, help="clips after which memory is first measured")
    parser.add_argument(
        "--decoder", choices=["pyav", "decord"], default="pyav", help="with decord, only the MP4 file is read"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        files = []
        for suffix, codec in FORMATS:
            path = Path(name, f"{codec}.{suffix}")
            write(path, codec)
            bad = Path(name, f"damaged_{codec}.{suffix}")
            bad.write_bytes(damage(path.read_bytes(), np.random.default_rng(3))[0])
            files += [path] * 4 + [bad]
        if given.decoder == "decord":
            files = files[:1]
        measured: dict[int, int] = {}
        failed = 0
        for i in tqdm(range(1, given.clips + 1), "clips"):
            path = files[i % len(files)]
            record = VideoRecord(str(path), "x")
            rng = np.random.default_rng(i)
            try:
                if given.decoder == "decord":
                    with open_video(path, "decord") as video:
                        video.frames(rng.integers(0, 48, 8))
                elif i % 10:
                    training_clips(path, record, SPEC, Augmentation(), [rng])
                else:
                    video_views(path, record, SPEC, num_clips=3, num_crops=3)
            except VideoError:
                failed += 1
            if i == given.settled or i == given.clips or i % 5000 == 0:
                measured[i] = resident_bytes()
    growth = measured[given.clips] / measured[given.settled] - 1
    about = {"decoder": given.decoder, "resident_mb": {i: round(b / 1e6, 1) for i, b in measured.items()}}
    about |= {"growth": round(growth, 4), "videos_that_could_not_be_read": failed}
    print(json.dumps(about, indent=2) if given.json else "\n".join(f"{key}: {value}" for key, value in about.items()))
    return 1 if growth > 0.03 else 0


if __name__ == "__main__":
    sys.exit(main())
