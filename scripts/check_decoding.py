"""Decode damaged files, and count crashes, hangs, failures by reason, and wrong frames.

Writes numbered videos in several codecs and containers, damages copies of them (bits flipped, ranges overwritten,
zeroed or removed, ends cut off), and reads each in a child process with a timeout, as random clips and from end to end.

    python scripts/check_decoding.py                     # 500 variants
    python scripts/check_decoding.py --variants 60       # as the tests do

Exit status 1 if a decoder crashed, hung or raised an error other than farfield's, or if an undamaged file was refused
or gave a wrong frame.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from tqdm import tqdm

from farfield.errors import VideoError
from farfield.parallel import CRASHED, for_each
from farfield.video.decoders import open_video

NUM_FRAMES = 48
CELL = 16
FORMATS = [
    ("mp4", "libx264"),
    ("mkv", "libx264"),
    ("ts", "libx264"),
    ("mp4", "libx265"),
    ("webm", "libvpx-vp9"),
    ("mkv", "libsvtav1"),
    ("avi", "mpeg4"),
    ("mpg", "mpeg2video"),
    ("gif", "gif"),
    ("flv", "libx264"),
]


@dataclass(frozen=True)
class Outcome:
    """Result of reading one file.

    Attributes:
        wrong: number of frames that show another number than the requested one.
        frames: number of frames read.
    """

    wrong: int
    frames: int


@dataclass(frozen=True)
class Variant:
    """Damaged file."""

    path: Path
    seed: int
    damage: str


def picture(number: int) -> np.ndarray:
    """Draw a frame that shows its number, with motion, so that B-frames are used."""
    frame = np.full((96, 192, 3), 128, np.uint8)
    frame[60:90, number * 3 : number * 3 + 20] = (200, 60, 20)
    for bit in range(6):
        frame[CELL : 2 * CELL, (bit + 2) * CELL : (bit + 3) * CELL] = 235 if number >> bit & 1 else 20
    return frame


def number_in(frame: np.ndarray) -> int:
    """Read the number that `picture` drew into a frame."""
    middle = frame[CELL + CELL // 2]
    return sum(int(middle[(bit + 2) * CELL + CELL // 2].mean() > 128) << bit for bit in range(6))


def write(path: Path, codec: str) -> None:
    options = {"g": "12", "crf": "18"} if codec.startswith("lib") else {"g": "12", "qmin": "1", "qmax": "3"}
    if codec == "libsvtav1":
        options |= {"preset": "8", "svtav1-params": "pred-struct=1"}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = 192, 96, "rgb8" if codec == "gif" else "yuv420p"
        for number in range(NUM_FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))


def damage(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Damage a file in one of five ways, at a random place."""
    data = bytearray(content)
    kind = ["bytes flipped", "overwritten", "cut out", "cut off", "zeroed"][int(rng.integers(5))]
    start = int(rng.integers(len(data)))
    length = int(rng.integers(1, max(len(data) // 8, 2)))
    if kind == "bytes flipped":
        for place in rng.integers(len(data), size=int(rng.integers(1, 40))):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == "overwritten":
        data[start : start + length] = rng.bytes(len(data[start : start + length]))
    elif kind == "cut out":
        del data[start : start + length]
    elif kind == "cut off":
        del data[start:]
    else:
        data[start : start + length] = bytes(len(data[start : start + length]))
    return bytes(data), kind


def read(variant: Variant) -> Outcome:
    """Read random clips, then the whole file; runs in a child process."""
    rng = np.random.default_rng(variant.seed)
    wrong = frames = 0
    with open_video(variant.path) as video:
        count = len(video.times)
        for wanted in [*(np.sort(rng.choice(count, min(count, 4), replace=False)) for _ in range(3)), np.arange(count)]:
            shown = np.array([number_in(frame) for frame in video.frames(wanted)])
            # A file that lacks its beginning starts with a later frame; from there on, times tell which is which.
            first = number_in(video.frames(np.array([0]))[0])
            frames += len(shown)
            wrong += int(np.sum(shown != first + np.round(25 * video.times[wanted])))
    return Outcome(wrong, frames)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variants", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20, help="time limit for each file")
    parser.add_argument("--num_workers", type=int, default=None)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wholes = []
        for suffix, codec in FORMATS:
            path = folder / f"whole_{codec}.{suffix}"
            write(path, codec)
            wholes.append(Variant(path, 0, "whole"))
        variants = list(wholes)
        for i in range(given.variants):
            rng = np.random.default_rng([given.seed, i])
            source = wholes[i % len(wholes)].path
            content, kind = damage(source.read_bytes(), rng)
            path = folder / f"{i:04d}_{source.name}"
            path.write_bytes(content)
            variants.append(Variant(path, i, kind))
        counts: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        shown_wrong: Counter[str] = Counter()
        bad: list[str] = []
        running = for_each(read, variants, num_workers=given.num_workers, seconds_per_job=given.seconds)
        for variant, result in tqdm(running, "decode", len(variants), unit="file"):
            if isinstance(result, Outcome):
                counts["read"] += 1
                if result.wrong:
                    shown_wrong[f"{variant.path.suffix} {variant.damage}"] += 1
                    if variant.damage == "whole":
                        bad.append(f"{variant.path.name}: {result.wrong} wrong frames")
                continue
            crashed, hung = result.startswith(CRASHED), result.startswith("it took longer")
            counts["crashed" if crashed else "hung" if hung else "named"] += 1
            reasons[result] += 1
            if crashed or hung or variant.damage == "whole":
                bad.append(f"{variant.path.name} ({variant.damage}): {result}")
    about = {
        "files": len(variants),
        **{name: counts[name] for name in ("read", "named", "crashed", "hung")},
        "damaged_files_with_pictures_that_show_another_number": dict(shown_wrong),
        "reasons": dict(reasons.most_common(15)),
        "bad": bad,
    }
    print(json.dumps(about, indent=2) if given.json else "\n".join(f"{name}: {value}" for name, value in about.items()))
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except VideoError as error:
        sys.exit(str(error))
