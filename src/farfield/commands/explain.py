"""`farfield explain`: explain a network's prediction for one video."""

from __future__ import annotations

import json as json_format
import math
import sys
from pathlib import Path
from typing import Any

from farfield.commands.console import quiet_libraries
from farfield.errors import FarfieldError, VideoError
from farfield.interpretability.explain import explain as run
from farfield.interpretability.explanation_files import read_numbers
from farfield.reports.explanation_page import SPREAD_COLUMNS, spread_rows
from farfield.video.decoder_names import Decoder


def explain(
    clip: str,
    *,
    checkpoint: str,
    out: str,
    time: float | None = None,
    point: str | None = None,
    label: str | None = None,
    stage: str | None = None,
    connections: int = 20,
    num_clips: int | None = None,
    num_crops: int | None = None,
    top_k: int = 5,
    device: str = "auto",
    decoder: Decoder = "pyav",
    json: bool = False,
) -> int:
    """Explain a network's prediction for one video: attention, Grad-CAM and evidence over time.

    The output folder contains the attention of one position in each inserted block, as arrows (attention.png) and as a
    video (attention_BLOCK.mp4); Grad-CAM for a class (grad_cam.png, grad_cam.mp4); the evidence for classes over time
    (evidence.png); the contribution of each window of the video (windows.png); all of this on one page
    (explanation.html) and as numbers (explanation.json). The spread of each block's attention is printed.

    Args:
        clip: video file.
        checkpoint: a .ckpt file; network, labels, sampling and normalisation come from it.
        out: output folder; files of an earlier explanation are replaced.
        time: time of the position whose attention is shown, in seconds from the start of the video; the view that
            contains this time is explained. null to choose it in the view with the highest probability of the class.
        point: place of the position, as Y,X in pixels from the top left of the square crop that the network sees
            (shown in the pictures; explanation.json has its size). null to choose the position through which a block
            changes the class's score the most.
        label: class to explain; null for the predicted one.
        stage: stage whose features Grad-CAM uses, as res4; null for the last.
        connections: number of arrows for each block.
        num_clips: clips spread over the video; null for the checkpoint's own setting.
        num_crops: crops of each clip; null for the checkpoint's own setting.
        top_k: number of classes to print and draw.
        device: where to run: auto, cpu, cuda, cuda:1.
        decoder: pyav or decord.
        json: print the numbers as JSON instead of a table.
    """
    quiet_libraries()
    at = None if point is None else _parse_point(point)
    try:
        run(
            clip,
            checkpoint,
            out=out,
            time=time,
            point=at,
            label=label,
            stage=stage,
            connections=connections,
            num_clips=num_clips,
            num_crops=num_crops,
            top_k=top_k,
            device=device,
            decoder=decoder,
        )
    except VideoError as error:
        print(f"farfield explain: {error}", file=sys.stderr)
        return 1
    content = read_numbers(out)
    print(json_format.dumps(content, indent=1) if json else _table(content, Path(out)))
    return 0


def _parse_point(given: str) -> tuple[float, float]:
    try:
        y, x = (float(word) for word in given.strip("[]() ").split(","))
    except ValueError:
        y = x = math.nan
    if not (math.isfinite(y) and math.isfinite(x)):
        raise FarfieldError(f"point is {given!r}; give Y,X in pixels of the crop that the network sees, as 40,112.")
    return y, x


def _table(content: dict[str, Any], folder: Path) -> str:
    view = content["view"]
    lines = [f"{content['path']}  ({view['start_seconds']:.2f} s to {view['end_seconds']:.2f} s explained)"]
    width = max(len(each["label"]) for each in content["ranking"])
    lines += [f"  {each['label']:<{width}}  {100 * each['probability']:6.2f}%" for each in content["ranking"]]
    if content["blocks"]:
        rows = [SPREAD_COLUMNS, *spread_rows(content)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(SPREAD_COLUMNS))]
        lines += ["", *("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)]
    lines += ["", *content["notes"], f"written: {folder / 'explanation.html'}"]
    return "\n".join(lines)
