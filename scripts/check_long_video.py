"""Check the timeline of a long generated video: segments found, speed, and constant memory.

python scripts/check_long_video.py --checkpoint runs/figures_tiny_nl2/checkpoints/best.ckpt --hours 2

Concatenates clips of the generated *figures* task, several of each action in a row, and predicts the timeline in a
separate process. The windows' hop is a clip's length: a window across a cut would see a jump back from the end of an
action to its beginning, which is the mirrored action. A segment is found if a predicted segment with its label overlaps
it with an intersection over union above 0.5. Memory is the process's resident memory, after a tenth of the windows and
at its peak.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from farfield.inference.predict import PredictOptions, predict_file
from farfield.scoring.load import load_model
from farfield.synthetic import figures
from farfield.timelines.options import TimelineOptions
from farfield.timelines.segments import Segment
from farfield.video.writer import write_video


def course(hours: float, clips_each: int, seed: int) -> list[str]:
    """Draw the sequence of actions, without repeats in a row."""
    rng = np.random.default_rng(seed)
    seconds = clips_each * figures.NUM_FRAMES / figures.FPS
    labels: list[str] = []
    while len(labels) < max(round(hours * 3600 / seconds), 2):
        labels.append(str(rng.choice([label for label in figures.LABELS if label != (labels or [""])[-1]])))
    return labels


def render(labels: list[str], clips_each: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed + 1)
    for label in tqdm(labels, "write", unit="segment"):
        for _ in range(clips_each):
            yield from figures.render(label, rng)


def resident_mb() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def find(video: str, checkpoint: str, options: dict[str, Any]) -> dict[str, Any]:
    """Predict the timeline; return its segments, speed and memory."""
    model = load_model(checkpoint, device="cpu")
    memory: list[float] = []
    bar = tqdm(desc="timeline", unit="window")

    def progress(done: int, total: int) -> None:
        bar.total = total
        bar.update()
        memory.append(resident_mb())

    begin = time.perf_counter()
    chosen = PredictOptions(timeline=TimelineOptions(**options))
    found = predict_file(video, model, chosen, on_progress=progress).timeline
    assert found is not None
    seconds = time.perf_counter() - begin
    bar.close()
    return {
        "segments": found.segments,
        "windows": len(memory),
        "times_real_time": float(found.times[-1]) / seconds,
        "resident_mb_after_a_tenth": memory[len(memory) // 10],
        "resident_mb_most": max(memory),
    }


def overlap(a: Segment, b: Segment) -> float:
    """Compute the intersection over union of two segments."""
    both = min(a.end_seconds, b.end_seconds) - max(a.start_seconds, b.start_seconds)
    return max(both, 0.0) / (max(a.end_seconds, b.end_seconds) - min(a.start_seconds, b.start_seconds))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="checkpoint of a network trained on figures")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--clips_per_segment", type=int, default=15, help="clips of 1.92 s in each segment")
    parser.add_argument("--smooth_seconds", type=float, default=6.0)
    parser.add_argument("--min_seconds", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    labels = course(given.hours, given.clips_per_segment, given.seed)
    seconds = given.clips_per_segment * figures.NUM_FRAMES / figures.FPS
    true = [Segment(i * seconds, (i + 1) * seconds, label, 1.0, 1.0) for i, label in enumerate(labels)]
    options = {
        "hop_seconds": figures.NUM_FRAMES / figures.FPS,
        "smooth_seconds": given.smooth_seconds,
        "min_seconds": given.min_seconds,
    }
    with tempfile.TemporaryDirectory() as folder, get_context("spawn").Pool(1) as pool:
        video = str(Path(folder, "long.mp4"))
        write_video(video, render(labels, given.clips_per_segment, given.seed), fps=figures.FPS)
        result = pool.apply(find, (video, given.checkpoint, options))
    segments: list[Segment] = result.pop("segments")
    hits = [max((overlap(t, s) for s in segments if s.label == t.label), default=0.0) > 0.5 for t in true]
    result |= {"hours": given.hours, "true_segments": len(true), "found": sum(hits), "segments": len(segments)}
    if given.json:
        print(json.dumps(result, indent=1))
    else:
        print(f"{sum(hits)} of {len(true)} segments found, among {len(segments)}, in {given.hours:g} hours of video.")
        print(f"{result['windows']} windows at {result['times_real_time']:.1f} times real time.")
        after, most = result["resident_mb_after_a_tenth"], result["resident_mb_most"]
        print(f"Resident memory: {after:.0f} MB after a tenth of the windows, {most:.0f} MB at most.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
