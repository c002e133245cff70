"""`farfield summary`: what a network costs, by stage and by inserted block."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from farfield.build import build_model
from farfield.checkpoints.checkpoint import load_network
from farfield.clip_spec import ClipOptions
from farfield.commands.console import quiet_libraries
from farfield.errors import FarfieldError, nearest
from farfield.models.backbones import BACKBONES
from farfield.models.network import default_clip
from farfield.models.published_results import PUBLISHED, published_figures
from farfield.models.summary import Summary, summarise


def summary(
    network: str,
    *,
    num_classes: int = 400,
    backbone_options: dict[str, Any] | None = None,
    insert: str | dict[str, list[int]] | None = None,
    block: str = "non_local",
    block_options: dict[str, Any] | None = None,
    clip: ClipOptions | None = None,
    json: bool = False,
) -> int:
    """Shows a network's output shapes, parameters, multiply-adds and activation memory, by stage and inserted block.

    Counted for one clip of the training size; a multiply-add is 1, an evaluated batch norm 2 an element, as fvcore has
    it. Activation memory is that of all layers' outputs in float32. Nothing is computed, so that it takes no time.

    Args:
        network: a backbone's name; a checkpoint (.ckpt), to which the other options do not apply; or "all", for a table
            of all backbones with and without the paper's five non-local blocks.
        num_classes: classes.
        backbone_options: the backbone's own options, as {dilated: true}.
        insert: where to insert blocks: a preset, as nl5, or {stage: indices of residual blocks}.
        block: what to insert.
        block_options: that block's options, as {pairwise: dot_product}.
        clip: another size of clip: {num_frames: 32, crop_px: 256}.
        json: print JSON.
    """
    quiet_libraries()
    changed = [backbone_options, insert, block_options, clip] != [None] * 4 or block != "non_local"
    if changed and network not in BACKBONES and (network == "all" or Path(network).is_file()):
        raise FarfieldError(f"options describe a backbone by name; {network} is summarised as it is. Leave them out.")
    if network == "all":
        print(_all(num_classes, as_json=json))
        return 0
    if network in BACKBONES:
        with torch.device("meta"):
            model = build_model(
                network,
                num_classes=num_classes,
                backbone_options=backbone_options,
                insert=insert,
                block=block,
                block_options=block_options,
                clip=clip,
            )
    elif Path(network).is_file():
        model = load_network(network)
    else:
        raise FarfieldError(
            f"{network} is neither a checkpoint nor a backbone. {nearest(network, [*BACKBONES, 'all'])}"
        )
    found = summarise(model)
    published = published_figures(model)
    if json:
        totals = {name: getattr(found, name) for name in ("parameters", "multiply_adds", "activation_bytes")}
        rows = [asdict(row) for row in found.rows]
        about = None if published is None else asdict(published)
        print(json_format.dumps({"clip": found.clip, "rows": rows, "total": totals, "published": about}, indent=2))
        return 0
    print(_table(found))
    if published is not None:
        print(f"published: {published}")
    return 0


def _all(num_classes: int, *, as_json: bool) -> str:
    """Every backbone at its own clip: as JSON, or as a table in Markdown."""
    rows = []
    for name in BACKBONES:
        costs: list[tuple[int, int] | None] = []
        for insert in (None, "nl5"):
            try:
                with torch.device("meta"):
                    model = build_model(name, num_classes=num_classes, insert=insert)
            except FarfieldError:  # it has no such places
                costs.append(None)
                continue
            found = summarise(model)
            costs.append((found.parameters, found.multiply_adds))
        clip, published = default_clip(name), PUBLISHED.get((name, None))
        rows.append((name, clip, costs, published))
    if as_json:
        keys = ("parameters", "multiply_adds")
        content = [
            {
                "backbone": name,
                "clip": clip.to_dict(),
                "plain": dict(zip(keys, costs[0] or (), strict=False)),
                "nl5": dict(zip(keys, costs[1], strict=True)) if costs[1] else None,
                "published": None if published is None else asdict(published),
            }
            for name, clip, costs, published in rows
        ]
        return json_format.dumps(content, indent=2)
    lines = [
        "| name | clips | M parameters | G multiply-adds | with nl5 | | published top-1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, clip, costs, published in rows:
        rate = f"x {clip.frame_stride}" if clip.target_fps is None else f"at {clip.target_fps:g} fps"
        shown = " | ".join("-- | --" if c is None else f"{c[0] / 1e6:.2f} | {c[1] / 1e9:.2f}" for c in costs)
        top1 = "" if published is None else f"{published.top1:.1f}% ({published.views})"
        lines.append(f"| `{name}` | {clip.num_frames} {rate}, {clip.crop_px} px | {shown} | {top1} |")
    return "\n".join(lines)


def _table(found: Summary) -> str:
    head = ("", "output c t h w", "parameters", "multiply-adds", "activations")
    rows = [
        (
            row.part,
            " x ".join(map(str, row.output)),
            f"{row.parameters:,}",
            f"{row.multiply_adds / 1e9:.3f} G",
            f"{row.activation_bytes / 2**20:.1f} MiB",
        )
        for row in found.rows
    ]
    total = (
        "total",
        "clip " + " x ".join(map(str, (3, *found.clip))),
        f"{found.parameters:,}",
        f"{found.multiply_adds / 1e9:.3f} G",
        f"{found.activation_bytes / 2**20:.1f} MiB",
    )
    widths = [max(len(row[i]) for row in (head, *rows, total)) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows, total)
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
