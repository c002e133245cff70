"""Measure whether the blocks of a network trained on *recall* attend from one cue to the other.

python scripts/measure_recall_attention.py runs/ablation/recall/NAME/seed0/checkpoints/last.ckpt --clips 200

Renders test videos of *recall*, whose two cues are at known places, and computes each block's attention from the
position of one cue. It counts the clips in which

    strongest   the strongest key outside the query's own cue lies within one cell of the other cue, in a frame of it
    most        the other cue gets more than half of the attention outside the query's own cue

Chance is the share of keys outside the own cue that lie at the other. --random measures the network with random weights
as a control: even nearly uniform attention has a strongest key, which is often at a salient place. So "strongest" alone
is weak evidence, and "most" is the result that must come from training.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from farfield import build_model
from farfield.checkpoints.checkpoint import load_network
from farfield.clip_spec import ClipSpec
from farfield.data.crops import resize_short_side, spread_crops
from farfield.data.frame_sampling import uniform_views
from farfield.data.randomness import Purpose, generator
from farfield.data.transforms import network_input
from farfield.errors import FarfieldError
from farfield.evaluation.metrics import Estimate, wilson
from farfield.interpretability.attention_maps import AttentionMap, attention_maps
from farfield.models.network import ActionNet
from farfield.synthetic import recall
from farfield.synthetic.canvas import Point

TASK, TEST = 1, 2
"""Indices of the task *recall* and of the test split, which synthetic/synthesize.py uses as seeds."""


COUNTED = ("strongest", "most")


@dataclass(frozen=True)
class Cue:
    """Place of a cue in a clip: its centre (h, w) in [0, 1) of the crop, and the frames that show it."""

    place: tuple[float, float]
    frames: list[int]


def cue_places(rng: np.random.Generator) -> list[Point]:
    """Find the places of the two cues, by repeating the random draws of `recall.render`."""
    rng.permutation(len(recall.COLOURS))
    rng.integers(len(recall.COLOURS), size=2)
    corner = int(rng.integers(4))
    margin = 12 + rng.uniform(0, 6, (2, 2))
    return [recall._corner(corner, margin[0]), recall._corner(3 - corner, margin[1])]


def render_clip(index: int, seed: int, spec: ClipSpec) -> tuple[torch.Tensor, list[Cue], str]:
    """Render a test video as the network's input (1 1 t h w c), with its cues and its label."""
    label = recall.LABELS[index % 2]
    draw = (Purpose.SYNTHESIS, seed, TASK, TEST, index)
    frames = torch.from_numpy(np.stack(list(recall.render(label, generator(*draw)))))
    chosen = uniform_views(len(frames), spec, 1)[0]
    resized = resize_short_side(frames[torch.from_numpy(chosen)], spec.test_short_side_px)
    (crop,) = spread_crops(resized, spec.test_side_px, 1)
    factor, offset = spec.test_short_side_px / recall.SIZE, round((spec.test_short_side_px - spec.test_side_px) / 2)
    early, late = cue_places(generator(*draw))
    cues = []
    for place, shown in ((early, chosen < recall.CUE_FRAMES), (late, chosen >= recall.NUM_FRAMES - recall.CUE_FRAMES)):
        w, h = ((at * factor - offset) / spec.test_side_px for at in place)
        cues.append(Cue((h, w), np.flatnonzero(shown).tolist()))
    return crop[None, None], cues, label


def near(attention: AttentionMap, cue: Cue, num_frames: int) -> np.ndarray:
    """Mark the keys within one cell of a cue: in t, of a frame that shows it; in h and w, of its centre."""
    inside = []
    for axis, (middles, at) in enumerate(zip(attention.middles, (None, *cue.place), strict=True)):
        cell = 1 / len(middles)
        if axis == 0:
            ends = (min(cue.frames) + 0.5) / num_frames, (max(cue.frames) + 0.5) / num_frames
            inside.append((middles >= ends[0] - cell - 1e-9) & (middles <= ends[1] + cell + 1e-9))
        else:
            inside.append(np.abs(middles - at) <= cell + 1e-9)
    t, h, w = inside
    return t[:, None, None] & h[None, :, None] & w[None, None]


def look(network: ActionNet, clip: torch.Tensor, own: Cue, other: Cue) -> dict[str, dict[str, Any]]:
    """Measure each block's attention from the centre of a cue, in the last frame that shows it."""
    num_frames = clip.shape[2]
    frame = own.frames[0] if own.frames[0] < num_frames / 2 and 0 in own.frames else own.frames[-1]
    found = {}
    for each in attention_maps(network, clip, position=((frame + 0.5) / num_frames, *own.place)):
        theirs, mine = near(each, other, num_frames), near(each, own, num_frames)
        outside = ~mine if each.reach is None else ~mine & each.reach.numpy()
        weights = each.weights.numpy()
        best = np.unravel_index(np.argmax(np.where(outside, weights, -1)), weights.shape)
        found[each.block] = {
            "strongest": bool(theirs[best]),
            "most": bool(weights[theirs & outside].sum() > 0.5 * weights[outside].sum() > 0),
            "share": float(weights[theirs].sum()),
            "own": float(weights[mine].sum()),
            "chance": float((theirs & outside).sum() / max(outside.sum(), 1)),
            "entropy_share": each.entropy / np.log2(each.keys),
        }
    return found


def measure(network: ActionNet, clips: int, seed: int) -> dict[str, Any]:
    spec, right = network.clip, 0
    looks: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for index in tqdm(range(clips), desc="recall", unit="clip", disable=None):
        frames, (early, late), label = render_clip(index, seed, spec)
        clip = network_input(frames, spec)
        with torch.no_grad():
            right += network.labels[int(network(clip)[0].argmax())] == label
        for name, own, other in (("late to early", late, early), ("early to late", early, late)):
            for block, each in look(network, clip, own, other).items():
                looks.setdefault((block, name), []).append(each)
    rows: list[dict[str, Any]] = []
    for (block, direction), of_clips in looks.items():
        means = {n: float(np.mean([each[n] for each in of_clips])) for n in ("chance", "share", "own", "entropy_share")}
        rows.append({"block": block, "query": direction, **_shares(of_clips), **means})
    either = [{n: any(of_clips[i][n] for of_clips in looks.values()) for n in COUNTED} for i in range(clips)]
    return {"clips": clips, "top1": vars(wilson(right, clips)), "looks": rows, "in_some_block": _shares(either)}


def _shares(of_clips: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: vars(wilson(sum(each[name] for each in of_clips), len(of_clips))) for name in COUNTED}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="seed of the videos, as in farfield data synthesize")
    parser.add_argument("--random", action="store_true", help="use random weights, as a control")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        network = load_network(given.checkpoint)
        if sorted(network.labels) != sorted(recall.LABELS):
            raise FarfieldError(f"{given.checkpoint} knows {network.labels[:5]}, not recall's {recall.LABELS}.")
        if given.clips < 1:
            raise FarfieldError(f"--clips is {given.clips}; it must be at least 1.")
        if given.random:
            torch.manual_seed(0)
            network = build_model(**network.config).eval()
    except FarfieldError as error:
        print(f"measure_recall_attention.py: {error}", file=sys.stderr)
        return 2
    found = {"checkpoint": given.checkpoint, "random": given.random, **measure(network, given.clips, given.seed)}
    if given.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"top-1 {Estimate(**found['top1'])} on {given.clips} videos")
    counted = " ".join(f"{name:<19}" for name in COUNTED)
    print(f"{'block':<9} {'query':<14} {counted} {'chance':>7} {'share':>7} {'own':>7} {'entropy':>8}")
    for row in [*found["looks"], {"block": "some", "query": "either way", **found["in_some_block"]}]:
        counts = " ".join(f"{Estimate(**row[name])!s:<19}" for name in COUNTED)
        figures = " ".join(f"{100 * row[name]:6.1f}%" for name in ("chance", "share", "own") if name in row)
        entropy = f"{100 * row['entropy_share']:7.1f}%" if "entropy_share" in row else ""
        print(f"{row['block']:<9} {row['query']:<14} {counts} {figures} {entropy}".rstrip())
    if not found["looks"]:
        print("the network has no blocks with attention over positions.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
