"""Convert an explanation to plain Python types, the content of explanation.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from farfield.interpretability.attention_spread import seconds_at
from farfield.interpretability.explanation import Explanation
from farfield.interpretability.grad_cam import GradCam
from farfield.interpretability.window_contributions import window_contributions


def to_json(explanation: Explanation, *, top_k: int = 5, files: Sequence[str] = ()) -> dict[str, Any]:
    """Convert an explanation to plain Python types for JSON.

    Times are in seconds of the video, and positions in pixels of the network's input.

    Args:
        explanation: explanation to convert.
        top_k: number of classes in the ranking and the evidence.
        files: names of the written files, to list in the result.
    """
    side_h, side_w = explanation.frames.shape[1:3]

    def place(t: float, h: float, w: float) -> dict[str, float]:
        seconds = float(seconds_at(np.array([t]), explanation.seconds)[0])
        return {"t_seconds": round(seconds, 4), "y_px": round(h * side_h, 2), "x_px": round(w * side_w, 2)}

    starts, ends = explanation.views.window_seconds
    windows = explanation.views.windows
    of_windows = explanation.labels.index(explanation.windows_label)
    gains = window_contributions(windows, of_windows, explanation.views.aggregation)
    crops = explanation.views.num_crops
    return {
        "path": explanation.path,
        "ranking": _ranking_json(explanation, top_k),
        "label": explanation.label,
        "view": {
            "clip": explanation.explained // crops,
            "crop": explanation.explained % crops,
            "num_crops": crops,
            "start_seconds": float(explanation.seconds[0]),
            "end_seconds": float(explanation.seconds[-1]),
            "frame_seconds": [round(float(s), 4) for s in explanation.seconds],
            "height_px": side_h,
            "width_px": side_w,
            "probability": float(
                explanation.views.probabilities[explanation.explained, explanation.labels.index(explanation.label)]
            ),
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
            for block in explanation.blocks
        ],
        "grad_cam": [{"stage": cam.stage, "label": cam.label, **_peak(cam, place)} for cam in explanation.cams],
        "evidence": _evidence_json(explanation, top_k),
        "windows": [
            {
                "start_seconds": float(starts[i]),
                "end_seconds": float(ends[i]),
                "probability": float(windows[i, of_windows]),
                "contribution": None if gains is None else float(gains[i]),
            }
            for i in range(len(windows))
        ],
        "notes": explanation.notes,
        "files": list(files),
    }


def _ranking_json(explanation: Explanation, top_k: int) -> list[dict[str, Any]]:
    ranking: list[dict[str, Any]] = [{"label": label, "probability": p} for label, p in explanation.ranking(top_k)]
    if explanation.thresholds is not None:
        thresholds = dict(zip(explanation.labels, explanation.thresholds, strict=True))
        for each in ranking:
            each["threshold"] = thresholds[each["label"]]
            each["above_threshold"] = each["probability"] >= each["threshold"]
    return ranking


def _peak(cam: GradCam, place: Any) -> dict[str, Any]:
    if cam.empty:
        return {"peak": None}
    at = np.unravel_index(int(cam.values.argmax()), tuple(cam.values.shape))
    return {"peak": place(*(float(middles[i]) for i, middles in zip(at, cam.middles, strict=True)))}


def _evidence_json(explanation: Explanation, top_k: int) -> dict[str, Any] | None:
    if isinstance(explanation.evidence, str):
        return None
    best = explanation.evidence.scores.mean(0).topk(min(top_k, len(explanation.labels))).indices.tolist()
    return {
        "moments_seconds": [round(float(s), 4) for s in seconds_at(explanation.evidence.middles, explanation.seconds)],
        "logits": {explanation.labels[i]: explanation.evidence.scores[:, i].tolist() for i in best},
    }
