"""Read a matrix of several hundred generated videos in every way, and compare each frame with FFmpeg's own decoding.

    python scripts/check_decoding_matrix.py                     # all: minutes on two cores
    python scripts/check_decoding_matrix.py --only 'h264_*.avi' # some
    python scripts/check_decoding_matrix.py --share 0.1         # every tenth

Each frame shows its number as a barcode. For each decoder and each way in (one walk, frames in random order, one frame
after opening the file afresh, sliding windows, a transcoded copy), the frame has to be the one that was asked for, at
its time, or the video is refused with a reason. A file that PyAV reads in place of decord is read in two of the ways
again. Exit status 1 for a wrong frame or time that was not refused.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import get_args

import numpy as np
from decoding_matrix import NUM_FRAMES, Case, barcode, cases, make, read_barcode, truth
from PIL import Image, ImageOps
from tqdm import tqdm

from farfield.clip_spec import ClipSpec
from farfield.curation.encoding import Encoding
from farfield.curation.transcode import transcode
from farfield.errors import FarfieldError
from farfield.timelines.sliding_windows import sliding_windows
from farfield.video import packet_index
from farfield.video.decoder_names import Decoder
from farfield.video.decoders import open_video

WINDOW = ClipSpec(num_frames=3, crop_px=24, frame_stride=2, short_side_px=24)


@dataclass
class Outcome:
    """Result of one case.

    Attributes:
        name: of the file.
        num_frames: in FFmpeg's own decoding.
        wrong: frames and times that were wrong and not refused, in words.
        by_decord: whether decord itself read it; else PyAV did in its place.
        refused: "decoder, way in: reason" of what was refused.
        not_made: why FFmpeg could not write or read the file; None where it could.
    """

    name: str
    num_frames: int = 0
    by_decord: bool = False
    wrong: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    not_made: str | None = None


def check(case: Case, folder: Path, fresh: int = 8) -> Outcome:
    """Make the file of a case, read it in every way, and remove it.

    Args:
        case: what to make.
        folder: where.
        fresh: so many frames are asked for one by one, each of a file that was opened afresh.
    """
    outcome = Outcome(case.name)
    try:
        path = make(case, folder)
        frames = truth(path, case.size[::-1] if case.shown_as[0] % 2 else case.size)
        numbers = [read_barcode(frame) for frame in frames]
    except (RuntimeError, ValueError) as error:
        outcome.not_made = str(error).splitlines()[-1][-200:]
        return outcome
    outcome.num_frames = len(numbers)
    if not numbers or None in numbers:
        outcome.not_made = f"FFmpeg itself reads {numbers}"
        return outcome
    with suppress(FarfieldError), open_video(path, "decord") as video:
        outcome.by_decord = video.decoder == "decord"
    for decoder in get_args(Decoder):
        same_reader = decoder == "decord" and not outcome.by_decord
        for name, way in WAYS.items():
            if same_reader and name not in WAYS_OF_FALLBACK:
                continue
            try:
                problem = way(path, numbers, case, decoder, fresh)
            except FarfieldError as error:
                outcome.refused.append(f"{decoder}, {name}: {str(error).replace(str(path), '').lstrip(': ')}")
                continue
            except Exception as error:
                problem = f"raised {error!r}"
            if problem:
                outcome.wrong.append(f"{decoder}, {name}: {problem}")
    path.unlink()
    return outcome


def _number(frame: np.ndarray, case: Case) -> int | None:
    """Read the number that a frame shows, also if it is letterboxed."""
    if case.join:
        luma = frame.mean(2)
        rows, columns = np.flatnonzero(luma.max(1) > 20), np.flatnonzero(luma.max(0) > 20)
        frame = frame[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return read_barcode(frame)


def _differ(given: list[int | None], expected: list[int | None]) -> str:
    return "" if given == expected else f"{given} in place of {expected}"


def _times(path: Path, numbers: list, case: Case, decoder: Decoder, _fresh: int) -> str:
    expected = np.array([case.seconds[number] for number in numbers]) - case.seconds[numbers[0]]
    with open_video(path, decoder) as video:
        times = video.times
    if len(times) != len(expected):
        return f"{len(times)} times for {len(expected)} frames"
    off = np.abs(times - expected).max()
    return "" if off < case.tolerance_seconds else f"{off:.4f} s off: {np.round(times, 3).tolist()}"


def _one_walk(path: Path, numbers: list, case: Case, decoder: Decoder, _fresh: int) -> str:
    with open_video(path, decoder) as video:
        return _differ([_number(frame, case) for _, frame in video.pictures(np.arange(len(video.times)))], numbers)


def _few_of_a_walk(path: Path, numbers: list, case: Case, decoder: Decoder, _fresh: int) -> str:
    places = np.arange(1, len(numbers), 5)
    with open_video(path, decoder) as video:
        given = [_number(frame, case) for _, frame in video.pictures(places)]
    return _differ(given, [numbers[place] for place in places])


def _random_order(path: Path, numbers: list, case: Case, decoder: Decoder, _fresh: int) -> str:
    rng = np.random.default_rng(len(numbers))
    with open_video(path, decoder) as video:
        for _ in range(3):
            places = rng.integers(0, len(numbers), 6)
            problem = _differ(
                [_number(frame, case) for frame in video.frames(places)], [numbers[place] for place in places]
            )
            if problem:
                return f"at {places.tolist()}: {problem}"
    return ""


def _opened_afresh(path: Path, numbers: list, case: Case, decoder: Decoder, fresh: int) -> str:
    places = sorted({0, 1, len(numbers) - 1, *np.linspace(1, len(numbers) - 1, fresh).astype(int).tolist()})
    for place in [place for place in places if 0 <= place < len(numbers)]:
        with open_video(path, decoder) as video:
            problem = _differ([_number(video.frames(np.array([place]))[0], case)], [numbers[place]])
        if problem:
            return f"at {place}: {problem}"
    return ""


def _windows(path: Path, numbers: list, case: Case, decoder: Decoder, _fresh: int) -> str:
    moments = np.array([case.seconds[number] for number in numbers]) - case.seconds[numbers[0]]
    with sliding_windows(path, WINDOW, hop_frames=1, decoder=decoder) as windows:
        for start, window in enumerate(windows):
            off = abs(window.start_seconds - moments[start])
            if off > case.tolerance_seconds:
                return f"window {start} begins {off:.4f} s off"
            seen = [_nearest(frame, case) for frame in window.frames[0].numpy()]
            expected = [numbers[place] for place in (start, start + 2, start + 4)]
            if seen != expected:
                return f"window {start}: {seen} in place of {expected}"
    return ""


def _nearest(square: np.ndarray, case: Case) -> int:
    """Find the frame whose central square is most similar: a window is cropped, so its barcode is not complete."""
    sizes = case.join or (case.size,)
    if case.shown_as[0] % 2:
        sizes = tuple((height, width) for width, height in sizes)
    squares = _central_squares(sizes, case.pixel_aspect)
    return int(np.abs(squares - square.mean(2, dtype=np.float32)).mean((1, 2)).argmin())


@cache
def _central_squares(sizes: tuple[tuple[int, int], ...], pixel_aspect: float) -> np.ndarray:
    width, height = sizes[0]
    canvas_size = round(width * pixel_aspect), height
    squares = []
    for number in range(NUM_FRAMES):
        own_width, own_height = sizes[number * len(sizes) // NUM_FRAMES]
        picture = Image.fromarray(barcode(number, round(own_width * pixel_aspect), own_height))
        fitted = ImageOps.pad(picture, canvas_size)  # a frame of another size than the first, between black bars
        squares.append(np.asarray(ImageOps.fit(fitted, (WINDOW.crop_px, WINDOW.crop_px))).mean(2, dtype=np.float32))
    return np.stack(squares)


def _transcoded(path: Path, numbers: list, case: Case, decoder: Decoder, fresh: int) -> str:
    if decoder != "pyav":  # transcoding has one decoder
        return ""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.mp4"
        transcode(path, copy, Encoding())
        problem = _one_walk(copy, numbers, case, decoder, fresh)
        return problem or _times(copy, numbers, case, decoder, fresh)


def _by_seeking(path: Path, numbers: list, case: Case, decoder: Decoder, fresh: int) -> str:
    """Read a file in the way of files that are too large to hold in memory."""
    held, packet_index.HELD_BYTES = packet_index.HELD_BYTES, 1000
    try:
        return _random_order(path, numbers, case, decoder, fresh) or _one_walk(path, numbers, case, decoder, fresh)
    finally:
        packet_index.HELD_BYTES = held


WAYS = {
    "times": _times,
    "one walk": _one_walk,
    "few frames of a walk": _few_of_a_walk,
    "random order": _random_order,
    "opened afresh": _opened_afresh,
    "by seeking": _by_seeking,
    "windows": _windows,
    "transcoded": _transcoded,
}
WAYS_OF_FALLBACK = ("times", "one walk")
"""Ways to read with "decord" a file that PyAV reads in its place. PyAV's own check has the others."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="a shell pattern for the files' names")
    parser.add_argument("--share", type=float, default=1.0, help="fraction of the cases to check, evenly spread")
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--json", help="a file to write all outcomes to")
    arguments = parser.parse_args()
    chosen = [case for case in cases() if fnmatch.fnmatch(case.name, arguments.only)]
    chosen = chosen[:: max(round(1 / arguments.share), 1)]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(arguments.num_workers) as pool:
        running = pool.map(partial(check, folder=Path(folder)), chosen)
        outcomes.extend(tqdm(running, "check", len(chosen), unit="file"))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    return report(outcomes)


def report(outcomes: list[Outcome]) -> int:
    """Print what was wrong, refused and not made; return the exit status."""
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    for outcome in wrong:
        print(f"WRONG {outcome.name}")
        for each in outcome.wrong:
            print(f"    {each[:400]}")
    refused = [(outcome.name, each) for outcome in outcomes for each in outcome.refused]
    print("\nRefused, by reason:")
    for reason, count in Counter(each.split(": ", 1)[1] for _, each in refused).most_common():
        names = sorted({name for name, each in refused if each.endswith(reason)})
        print(f"    {count:4} x {reason}  ({', '.join(names[:6])}{', ...' if len(names) > 6 else ''})")
    not_made = [outcome for outcome in outcomes if outcome.not_made]
    for outcome in not_made:
        print(f"NOT MADE {outcome.name}: {outcome.not_made}")
    refused_names = {name for name, _ in refused}
    whole = len(outcomes) - len({each.name for each in wrong + not_made} | refused_names)
    print(
        f"\n{len(outcomes)} files: {whole} read whole in every way, {len(refused_names)} refused in some way, "
        f"{len(wrong)} wrong, {len(not_made)} not made by FFmpeg. decord itself read "
        f"{sum(outcome.by_decord for outcome in outcomes)}, PyAV the others in its place."
    )
    return 1 if wrong or not_made else 0


if __name__ == "__main__":
    raise SystemExit(main())
