"""`farfield summary`: print a network's parameters, multiply-adds and memory, by stage and inserted block."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farfield.clip_spec import ClipOptions
from farfield.commands.console import quiet_libraries
from farfield.errors import FarfieldError, nearest

if TYPE_CHECKING:
    from farfield.models.backbone_costs import BackboneCosts
    from farfield.models.summary import Summary

_NUM_CLASSES = 400
"""Default number of classes: that of Kinetics-400, for which most parameter counts and FLOPs are published."""


def summary(
    network: str,
    *,
    num_classes: int | None = None,
    backbone_options: dict[str, Any] | None = None,
    insert: str | dict[str, list[int] | int] | None = None,
    block: str = "non_local",
    block_options: dict[str, Any] | None = None,
    clip: ClipOptions | None = None,
    json: bool = False,
) -> int:
    """Print a network's output shapes, parameters, multiply-adds and activation memory, by stage and inserted block.

    The counts are for one clip of the training size. As in fvcore, a multiply-add counts as 1, and a batch norm in
    evaluation mode as 2 per element. Activation memory is the size of all layers' outputs in float32. The network is
    not run: only shapes are computed.

    Args:
        network: name of a backbone; or a checkpoint (.ckpt, or a folder); or "all", for a table of all backbones with
            and without five non-local blocks (preset nl5). Only the name of a backbone can be combined with
            backbone_options, insert, block, block_options and clip.
        num_classes: number of classes for a backbone or "all", 400 by default. It cannot be given for a checkpoint.
        backbone_options: the backbone's own options, e.g. {dilated: true}.
        insert: where to insert blocks: a preset, e.g. nl5, or places, e.g. {res4: [1, 3], top: 1}. For a stage, give
            the indices (from 0) of the residual blocks after which a block is inserted; for top, the number of blocks
            to insert after the last stage.
        block: name of the block to insert, e.g. non_local.
        block_options: options of the inserted block, e.g. {pairwise: dot_product}.
        clip: changes to the backbone's clip settings, e.g. {num_frames: 32, crop_px: 256}.
        json: print JSON.
    """
    # Imported late, because they import PyTorch: --help answers without it.
    from farfield.build import build_model
    from farfield.checkpoints.checkpoint import load_network
    from farfield.checkpoints.hugging_face_folder import is_hugging_face
    from farfield.models.backbone_costs import backbone_costs
    from farfield.models.backbones import BUILDERS
    from farfield.models.published_results import published_figures
    from farfield.models.structure_only import structure_only
    from farfield.models.summary import summarise

    quiet_libraries()
    changed = [backbone_options, insert, block_options, clip] != [None] * 4 or block != "non_local"
    is_checkpoint = Path(network).exists() or is_hugging_face(network)
    if changed and network not in BUILDERS and (network == "all" or is_checkpoint):
        raise FarfieldError(
            f"network is {network}, but backbone_options, insert, block, block_options and clip only apply if it "
            "is the name of a backbone. Leave these options out."
        )
    if num_classes is not None and is_checkpoint and network not in BUILDERS:
        raise FarfieldError(
            f"{network} is a checkpoint, which has its own classes, but num_classes is {num_classes}. Leave it out."
        )
    num_classes = _NUM_CLASSES if num_classes is None else num_classes
    if network == "all":
        costs = backbone_costs(num_classes)
        content = [asdict(each) | {"clip": each.clip.to_dict()} for each in costs]
        print(json_format.dumps(content, indent=2) if json else _backbones_table(costs))
        return 0
    if network in BUILDERS:
        with structure_only():
            model = build_model(
                network,
                num_classes=num_classes,
                backbone_options=backbone_options,
                insert=insert,
                block=block,
                block_options=block_options,
                clip=clip,
            )
    elif is_checkpoint:
        model = load_network(network)
    else:
        raise FarfieldError(f"{network} is neither a checkpoint nor a backbone. {nearest(network, [*BUILDERS, 'all'])}")
    found = summarise(model)
    published = published_figures(model)
    if json:
        totals = {name: getattr(found, name) for name in ("parameters", "multiply_adds", "activation_bytes")}
        rows = [asdict(row) for row in found.rows]
        about = None if published is None else asdict(published)
        print(
            json_format.dumps(
                {"clip": found.clip, "rows": rows, "total": totals, "published": about, "task": model.task}, indent=2
            )
        )
        return 0
    print(_table(found))
    if model.task in _TASKS:
        print(f"task: {model.task}; {_TASKS[model.task]}")
    if published is not None:
        print(f"published: {published}")
    return 0


_TASKS = {
    "multilabel": "each class has a probability of its own",
    "multi_head": "one class of each head; probabilities sum to 1 over the classes of each head",
}
"""Meaning of the probabilities, by task; single-label networks need no explanation."""


def _backbones_table(rows: list[BackboneCosts]) -> str:
    """Format the parameters and multiply-adds of all backbones as a Markdown table."""
    lines = [
        "| name | clips | M parameters | G multiply-adds | with nl5 | | published top-1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        clip, published = row.clip, row.published
        rate = f"x {clip.frame_stride}" if clip.target_fps is None else f"at {clip.target_fps:g} fps"
        shown = " | ".join(
            "-- | --" if costs is None else f"{costs.parameters / 1e6:.2f} | {costs.multiply_adds / 1e9:.2f}"
            for costs in (row.plain, row.nl5)
        )
        top1 = "" if published is None else f"{published.top1:.1f}% ({published.views})"
        lines.append(f"| `{row.backbone}` | {clip.num_frames} {rate}, {clip.crop_px} px | {shown} | {top1} |")
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
