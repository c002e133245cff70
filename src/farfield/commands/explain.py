"""`farfield explain`: explain a network's prediction for one video."""

from __future__ import annotations

import json as json_format
import math
import sys
from pathlib import Path
from typing import Any

from farfield.commands.console import quiet_libraries
from farfield.errors import FarfieldError, VideoError
from farfield.interpretability.explain import explain as explain_clip
from farfield.options.parser import runs


@runs(explain_clip, replaced=("video", "model", "out", "point"))
def explain(
    clip: str, *, checkpoint: str, out: str, point: str | None = None, json: bool = False, **options: Any
) -> int:
    """Write a page that shows which positions and frames of a video led to a prediction.

    Args:
        clip: video file, or folder of numbered pictures.
        checkpoint: a .ckpt file, a folder written by `farfield export --to_folder`, or the folder or name of a Hugging
            Face video encoder (docs/guides/encoders.md). It defines network, labels, sampling and normalisation.
        out: folder to write to; files of an earlier explanation are replaced.
        point: show the attention of this position, given as Y,X in pixels from the top left of the square crop that
            the network sees. The pictures show this crop, and explanation.json states its size. null chooses a position
            for each inserted block (such as a non-local block): the one where the block changes the score of the
            explained class the most.
        json: print the numbers as JSON instead of a table.
        options: further options, those of `farfield.explain`, such as label (the class to explain).
    """
    from farfield.interpretability.explanation_files import read_numbers  # late: it imports PyTorch and matplotlib

    quiet_libraries()
    position = None if point is None else _parse_point(point)
    try:
        explain_clip(clip, checkpoint, out=out, point=position, **options)
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
        raise FarfieldError(
            f"point is {given!r}; give Y,X in pixels of the crop that the network sees, for example 40,112."
        )
    return y, x


def _table(content: dict[str, Any], folder: Path) -> str:
    from farfield.reports.explanation_page import SPREAD_COLUMNS, spread_rows  # late: it imports matplotlib

    view = content["view"]
    lines = [f"{content['path']}  ({view['start_seconds']:.2f} s to {view['end_seconds']:.2f} s explained)"]
    width = max(len(each["label"]) for each in content["ranking"])
    for each in content["ranking"]:
        mark = "  above threshold" if each.get("above_threshold") else ""
        lines.append(f"  {each['label']:<{width}}  {100 * each['probability']:6.2f}%{mark}")
    if content["blocks"]:
        rows = [SPREAD_COLUMNS, *spread_rows(content)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(SPREAD_COLUMNS))]
        lines += ["", *("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)]
    lines += ["", *content["notes"], f"written: {folder / 'explanation.html'}"]
    return "\n".join(lines)
