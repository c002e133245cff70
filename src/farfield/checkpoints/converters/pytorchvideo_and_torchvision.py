"""Derive network options and renamed weights from PyTorchVideo's and torchvision's checkpoints.

The network is identified by the shapes of its weights.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from torch import Tensor

from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.checkpoints.converters.source_checkpoint import (
    ASK_ALPHA,
    SourceCheckpoint,
    shapes_of,
    zoo_crop,
)
from farfield.errors import FarfieldError
from farfield.models.backbones import BACKBONES
from farfield.models.structure_only import structure_only

PYTORCHVIDEO = (
    "c2d_r50", "i3d_r50", "slow_r50", "slowfast_r50", "slowfast_r101", "slowfast_16x8_r101", "csn_r101",
    "r2plus1d_r50", "x3d_xs", "x3d_s", "x3d_m", "x3d_l",
)  # fmt: skip
"""Networks that PyTorchVideo's hub has weights for."""
TORCHVISION = (
    "r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b",
)  # fmt: skip

SOFTMAX_INSIDE = ("x3d_xs", "x3d_s", "x3d_m", "x3d_l", "r2plus1d_r50")
"""PyTorchVideo's networks whose head applies a softmax to the scores of each window of the feature map."""


def describe_pytorchvideo(
    state: dict[str, Tensor], options: ConversionOptions, path: Any, *, softmax_inside: bool = False
) -> SourceCheckpoint:
    """Derive network options and renamed weights from a checkpoint of one of PyTorchVideo's hub networks.

    Args:
        state: dict from PyTorchVideo's weight names to the weights.
        options: conversion options that the user sets.
        path: path of the checkpoint, for messages.
        softmax_inside: True for a network in PySlowFast's wrapper. Its head always applies a softmax (for a multilabel
            network, a sigmoid) to the scores of each window of the feature map. False for a network with PyTorchVideo's
            own head, which applies a softmax to each window only if the network is in `SOFTMAX_INSIDE`.

    Raises:
        FarfieldError: if the user chose no backbone, and the weights fit none of the hub networks.
    """
    last = max(int(match[1]) for match in (re.match(r"blocks\.([0-9]{1,2})\.", name) for name in state) if match)
    renamed = {_pytorchvideo_key(name, last): name for name in state}
    found = SourceCheckpoint(
        "PyTorchVideo", {}, {key: state[name] for key, name in renamed.items()}, renamed, own_keys=True
    )
    name = _identify(found, PYTORCHVIDEO, options, path)
    if name == "slow_r50" and "num_frames" not in options.clip:
        found.notes.append(
            "8 frames with stride 8 are assumed, as in PyTorchVideo's slow_r50; for 4x16: --clip "
            "'{num_frames: 4, frame_stride: 16}'"
        )
    inside = softmax_inside or name in SOFTMAX_INSIDE
    head = "window_softmax_mean" if inside else "window_mean"
    found.arguments = {
        "backbone": name,
        "backbone_options": _fusion_options(found, name, options),
        "head": head,
        "clip": pytorchvideo_clip(name),
    }
    return found


FUSION = "backbone.trunk.blocks.0.multipathway_fusion.conv_fast_to_slow.weight"


def _fusion_options(found: SourceCheckpoint, name: str, options: ConversionOptions) -> dict[str, Any]:
    """Return {"fusion_kernel": size} if a SlowFast network's fusion kernel differs from SlowFast 8x8's; otherwise {}.

    A network with another fusion kernel may also have another alpha, which the weights do not show. If the user does
    not give alpha, `found.questions` gets a text that asks the user for it.
    """
    kernel = found.state[FUSION].shape[2] if FUSION in found.state else None
    if name != "slowfast_r50" or kernel in (None, 7):
        return {}
    if "alpha" not in options.backbone_options:
        found.questions.append(ASK_ALPHA)
    return {"fusion_kernel": kernel}


def pytorchvideo_clip(name: str) -> dict[str, Any]:
    """Return the crop size and the frame rate of PyTorchVideo's model zoo for the backbone `name`, as clip settings."""
    crop = zoo_crop(name)
    return {"test_crop_px": crop, "short_side_px": crop, "target_fps": 30.0}


def _pytorchvideo_key(name: str, last: int) -> str:
    head = f"blocks.{last}."
    if not name.startswith(head):
        return f"backbone.trunk.{name}"
    rest = name.removeprefix(head)
    if rest.startswith("proj."):
        return f"head.fc.{rest.removeprefix('proj.')}"
    if rest.startswith("pool.pre_"):  # X3D
        return f"backbone.trunk.{head}{rest.removeprefix('pool.')}"
    return f"head.embedding.{rest.removeprefix('pool.')}"


def describe_torchvision(state: dict[str, Tensor], options: ConversionOptions, path: Any) -> SourceCheckpoint:
    """Derive network options and renamed weights from a checkpoint of one of torchvision's video networks."""
    transformer = any(name.startswith(("conv_proj.", "patch_embed.")) for name in state)
    names, weights = {}, {}
    for name, value in state.items():
        key = _torchvision_key(name, transformer=transformer)
        names[key] = name
        weights[key] = value[:, :, 0, 0, 0] if name == "classifier.1.weight" and value.ndim == 5 else value
    found = SourceCheckpoint("torchvision", {}, weights, names, own_keys=True)
    name = _identify(found, TORCHVISION, options, path)
    found.arguments = {"backbone": name, "head": "gap_fc", "clip": {}}
    if name == "s3d":
        found.arguments |= {"head": "window_mean", "head_windows": [[2, 7, 7]]}
    return found


def _torchvision_key(name: str, *, transformer: bool) -> str:
    for classifier in ("fc.", "classifier.1.", "head.1.", "head."):
        if name.startswith(classifier):
            return f"head.fc.{name.removeprefix(classifier)}"
    return f"backbone.trunk.{'network.' if transformer else ''}{name}"


def _identify(found: SourceCheckpoint, candidates: tuple[str, ...], options: ConversionOptions, path: Any) -> str:
    """Return the name of the network's backbone: the user's choice or, without one, the candidate that fits.

    A candidate fits if its weights have the same names and shapes as those of the checkpoint. The number of classes is
    taken from the checkpoint, so it always fits. For slowfast_r50, this also holds for the size of the fusion kernel.
    If several candidates fit, the first is returned, and `found.questions` gets a text that asks the user to choose
    one.

    Raises:
        FarfieldError: if the user chose no backbone, and no candidate fits; the message names the nearest candidate and
            some of the weights that differ.
    """
    if options.backbone:
        return options.backbone
    shapes = shapes_of(found.state)
    fusion = {"fusion_kernel": shapes[FUSION][2]} if FUSION in shapes else {}
    differing = {name: _differing(name, shapes, fusion if name == "slowfast_r50" else {}) for name in candidates}
    fitting = [name for name, names in differing.items() if not names]
    if not fitting:
        nearest = min(differing, key=lambda name: len(differing[name]))
        some = sorted(differing[nearest])[:5]
        raise FarfieldError(
            f"{path} looks like a network of {found.origin}, but its weights fit none of {', '.join(candidates)}. The "
            f"nearest is {nearest}; weights that are missing, unexpected or of another shape: "
            f"{len(differing[nearest])}, such as {', '.join(some)}. Give a checkpoint of an unchanged network."
        )
    if len(fitting) > 1:
        found.questions.append(
            f"which network it is, since the weights fit several: --backbone {', '.join(fitting[:-1])} or {fitting[-1]}"
        )
    return fitting[0]


def _differing(name: str, shapes: dict[str, tuple[int, ...]], backbone_options: dict[str, Any]) -> set[str]:
    """Return the names of weights that `shapes` or the network `name` lacks, or whose shapes differ between the two."""
    wanted, head_channels = _wanted_shapes(name, **backbone_options)
    classes = shapes.get("head.fc.weight", (0,))[0]
    wanted = wanted | {"head.fc.weight": (classes, head_channels), "head.fc.bias": (classes,)}
    return {key for key in wanted.keys() | shapes.keys() if wanted.get(key) != shapes.get(key)}


@cache
def _wanted_shapes(name: str, **backbone_options: Any) -> tuple[dict[str, tuple[int, ...]], int]:
    """Return the weight shapes of a network with the backbone `name`, and its classifier's number of input channels.

    Returns:
        (dict from weight names to shapes, without the classifier's weights; number of the classifier's input channels).
    """
    with structure_only():
        backbone = BACKBONES[name](**backbone_options)
        embedding = backbone.make_embedding()
    shapes = {f"backbone.{key}": shape for key, shape in shapes_of(backbone.state_dict()).items()}
    shapes |= {f"head.embedding.{key}": shape for key, shape in shapes_of(embedding.state_dict()).items()}
    return shapes, backbone.head_channels
