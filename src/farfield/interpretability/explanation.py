"""One video explained: what was predicted, where from, and what the network looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from farfield.data.transforms import network_input
from farfield.errors import FarfieldError
from farfield.interpretability.attention_components import walk, why_no_map
from farfield.interpretability.attention_maps import AttentionMap, Position, attention_rows, most_effective
from farfield.interpretability.attention_spread import Spread, ascending, mean_spread, seconds_at, spread, uniform
from farfield.interpretability.block_activations import BlockActivation, record_activations
from farfield.interpretability.class_evidence import Evidence, evidence
from farfield.interpretability.grad_cam import GradCam, default_stages, grad_cam, label_index
from farfield.interpretability.strongest_connections import Connection, strongest
from farfield.interpretability.view_selection import ScoredViews, choose_view, nearest_frame, score_video_views
from farfield.interpretability.window_contributions import contributions
from farfield.models.network import ActionNet
from farfield.video.decoders import Decoder


@dataclass(frozen=True)
class BlockExplanation:
    """One block's attention: of the chosen position, and what is usual in this clip.

    Attributes:
        shown: the chosen position's map.
        after_passes: of criss-cross attention, where all passes together lead.
        connections: the strongest.
        query: how widely the position attends.
        mean: the same on average over a grid of positions.
        uniform: on average over the grid, if attention were uniform.
    """

    shown: AttentionMap
    after_passes: AttentionMap | None
    connections: list[Connection]
    query: Spread
    mean: Spread
    uniform: Spread


@dataclass(frozen=True)
class Explanation:
    """All that is told about one video.

    Attributes:
        path: the video.
        labels: of the network.
        views: as the test sees the video, scored.
        explained: the view that is explained.
        predicted: the class of the highest averaged probability.
        label: the class that is explained.
        seconds: when the frames of the explained view are shown, ascending.
        passed: what went through the blocks.
        blocks: of those that have attention over positions.
        cams: Grad-CAM, one for each stage asked for.
        evidence: over time, or why there is none.
        notes: what this network has not, a line each.
    """

    path: str
    labels: list[str]
    views: ScoredViews
    explained: int
    predicted: str
    label: str
    seconds: Float[np.ndarray, " t"]
    passed: list[BlockActivation]
    blocks: list[BlockExplanation]
    cams: list[GradCam]
    evidence: Evidence | str
    notes: list[str]

    @property
    def frames(self) -> UInt8[np.ndarray, "t h w c"]:
        """The frames that the network saw."""
        return self.views.frames[self.explained].numpy()

    @property
    def maps(self) -> list[AttentionMap]:
        """What is drawn of the blocks, in the network's order."""
        return [m for block in self.blocks for m in (block.shown, block.after_passes) if m is not None]

    @property
    def query(self) -> tuple[float, float, float]:
        """The position of the last block, or the clip's middle where there is none."""
        return self.blocks[-1].shown.query if self.blocks else (0.5, 0.5, 0.5)

    def ranking(self, top_k: int) -> list[tuple[str, float]]:
        """The most probable classes of the video, best first."""
        mean = self.views.windows.mean(0)
        return [(self.labels[i], float(mean[i])) for i in np.argsort(-mean, kind="stable")[:top_k]]


def explain_video(
    path: str | Path,
    network: ActionNet,
    *,
    time: float | None = None,
    point: tuple[float, float] | None = None,
    label: str | None = None,
    stage: str | None = None,
    connections: int = 20,
    num_clips: int | None = None,
    num_crops: int | None = None,
    decoder: Decoder = "PyAV",
) -> Explanation:
    """Explains what a network makes of a video, in the view that is surest of the class or shows the time asked for.

    Args:
        path: a video file.
        network: on the device that it is to run on. It is put in evaluation mode.
        time: of the position, in seconds from the start of the video; None for choosing it.
        point: y and x of the position, in pixels of the crop that the network sees; None for choosing it.
        label: the class to explain; None for the predicted one.
        stage: whose features Grad-CAM weighs; None for the last, of both pathways where there are two.
        connections: the strongest to keep of each block.
        num_clips: clips spread over the video; None for the network's own test setting.
        num_crops: crops of each clip; None for the network's own test setting.
        decoder: see `open_video`.

    Raises:
        VideoError: where the file cannot be decoded, or is too short and may not be looped.
        FarfieldError: for a class, stage, time or point that is not there.
    """
    network.eval()
    side = network.clip.test_side_px
    if point is not None and not all(0 <= at < side for at in point):
        raise FarfieldError(
            f"point is {point[0]:g},{point[1]:g}; the network sees {side} x {side} px. Give y,x in pixels of that "
            f"crop, each at least 0 and below {side}."
        )
    if connections < 1:
        raise FarfieldError(f"connections is {connections}; it must be at least 1. The paper shows 20.")
    if label is not None:
        label_index(network, label)
    if stage is not None:
        network.backbone.stage(stage)
    views = score_video_views(path, network, num_clips=num_clips, num_crops=num_crops, decoder=decoder)
    predicted = network.labels[int(views.windows.mean(0).argmax())]
    label = predicted if label is None else label
    explained = choose_view(views, network.labels.index(label), time)
    raw = views.seconds[explained]
    notes = []
    if np.diff(raw).min(initial=0) < 0:
        notes.append("the video is shorter than a clip and was repeated to fill it; times count on from its end.")
    device = next(network.parameters()).device
    clip = network_input(views.frames[explained][None, None].to(device), network.clip)
    passed = record_activations(network, clip, class_index=network.labels.index(label))
    if not passed:
        notes.append("no blocks are inserted into this network, so that there is no attention to show.")
    notes += [reason for each in passed if (reason := why_no_map(each))]
    notes += [
        f"{each.name} is the identity, as at birth: what it attends to changes nothing." for each in passed if each.idle
    ]
    t = None if time is None else (nearest_frame(raw, time) + 0.5) / len(raw)
    position: Position = (t, *((None, None) if point is None else ((point[0] + 0.5) / side, (point[1] + 0.5) / side)))
    seconds = ascending(raw)
    blocks = [
        _explain_block(each, position, seconds, (side, side), connections)
        for each in passed
        if why_no_map(each) is None
    ]
    if any(block.shown.signs is not None for block in blocks):
        notes.append("these affinities have signs; shown is the share of their absolute values, negative ones dashed.")
    stages = default_stages(network) if stage is None else [stage]
    cams = [grad_cam(network, clip, label=label, stage=each) for each in stages]
    if not stages:
        notes.append("no Grad-CAM: the network has no map over time and space before its classifier.")
    if len(stages) == 2:
        notes.append("Grad-CAM is shown for the slow pathway and for the fast one; each explains its own features.")
    notes += [f"nothing in {each.stage} speaks for {each.label}: Grad-CAM is 0." for each in cams if each.empty]
    found = evidence(network, clip)
    if isinstance(found, str):
        notes.append(found)
    return Explanation(
        str(path), network.labels, views, explained, predicted, label, seconds, passed, blocks, cams, found, notes
    )


def _explain_block(
    passed: BlockActivation, position: Position, seconds: np.ndarray, size_px: tuple[int, int], count: int
) -> BlockExplanation:
    grid = attention_rows(passed)
    shown = most_effective(passed, position)
    return BlockExplanation(
        shown,
        walk(passed, shown),
        strongest(shown, count),
        spread(shown, seconds, size_px),
        mean_spread([spread(each, seconds, size_px) for each in grid]),
        mean_spread([spread(uniform(each), seconds, size_px) for each in grid]),
    )


def as_json(found: Explanation, *, top_k: int = 5, files: Sequence[str] = ()) -> dict[str, Any]:
    """An explanation's numbers, in plain types: seconds of the video, pixels of the crop that the network saw."""
    side_h, side_w = found.frames.shape[1:3]

    def place(t: float, h: float, w: float) -> dict[str, float]:
        seconds = float(seconds_at(np.array([t]), found.seconds)[0])
        return {"t_seconds": round(seconds, 4), "y_px": round(h * side_h, 2), "x_px": round(w * side_w, 2)}

    starts, ends = found.views.window_seconds
    windows = found.views.windows
    gains = contributions(windows, found.labels.index(found.predicted))
    crops = found.views.num_crops
    return {
        "path": found.path,
        "ranking": [{"label": label, "probability": p} for label, p in found.ranking(top_k)],
        "label": found.label,
        "view": {
            "clip": found.explained // crops,
            "crop": found.explained % crops,
            "num_crops": crops,
            "start_seconds": float(found.seconds[0]),
            "end_seconds": float(found.seconds[-1]),
            "frame_seconds": [round(float(s), 4) for s in found.seconds],
            "height_px": side_h,
            "width_px": side_w,
            "probability": float(found.views.probabilities[found.explained, found.labels.index(found.label)]),
        },
        "blocks": [
            {
                "block": block.shown.block,
                "query": place(*block.shown.query),
                "negative_share": block.shown.negative_share,
                "of_query": asdict(block.query),
                "mean": asdict(block.mean),
                "uniform": asdict(block.uniform),
                "connections": [{**place(c.t, c.h, c.w), "weight": c.weight} for c in block.connections],
            }
            for block in found.blocks
        ],
        "grad_cam": [{"stage": cam.stage, "label": cam.label, **_peak(cam, place)} for cam in found.cams],
        "evidence": _evidence_json(found, top_k),
        "windows": [
            {
                "start_seconds": float(starts[i]),
                "end_seconds": float(ends[i]),
                "probability": float(windows[i, found.labels.index(found.predicted)]),
                "contribution": None if gains is None else float(gains[i]),
            }
            for i in range(len(windows))
        ],
        "notes": found.notes,
        "files": list(files),
    }


def _peak(cam: GradCam, place: Any) -> dict[str, Any]:
    if cam.empty:
        return {"peak": None}
    at = np.unravel_index(int(cam.values.argmax()), tuple(cam.values.shape))
    return {"peak": place(*(float(middles[i]) for i, middles in zip(at, cam.middles, strict=True)))}


def _evidence_json(found: Explanation, top_k: int) -> dict[str, Any] | None:
    if isinstance(found.evidence, str):
        return None
    best = found.evidence.scores.mean(0).topk(min(top_k, len(found.labels))).indices.tolist()
    return {
        "moments_seconds": [round(float(s), 4) for s in seconds_at(found.evidence.middles, found.seconds)],
        "logits": {found.labels[i]: found.evidence.scores[:, i].tolist() for i in best},
    }
