"""Derive network options and renamed weights from Caffe2's pickles.

The pickles come from video-nonlocal-net, the code of the paper "Non-local Neural Networks", and from PySlowFast's model
zoo. They hold named blobs but no config, so the user has to give some settings as `ConversionOptions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.checkpoints.converters.pyslowfast import pyslowfast_block_options, pyslowfast_clip_and_head
from farfield.checkpoints.converters.restricted_unpickler import as_tensors
from farfield.checkpoints.converters.source_checkpoint import (
    ASK_ALPHA,
    SourceCheckpoint,
    given_family,
    inserted_places,
    renamed,
    resnet_arguments,
    shapes_of,
)
from farfield.checkpoints.converters.weight_names import from_caffe2

ASK_PADDING = (
    "whether the stem's pooling is padded: --backbone_options '{stem_pool_padding: true}' (PySlowFast's models) or "
    "false (video-nonlocal-net's models)"
)


def describe_caffe2(blobs: Mapping[str, Any], options: ConversionOptions, path: Any) -> SourceCheckpoint:
    """Derive network options and renamed weights from a Caffe2 checkpoint of C2D, I3D, Slow or SlowFast.

    The network may have non-local blocks.

    Args:
        blobs: arrays by blob name.
        options: conversion options that the user sets.
        path: path of the checkpoint, for messages.

    Raises:
        FarfieldError: for a network that cannot be converted exactly.
    """
    ignored = {
        str(name): "optimiser state"
        for name in blobs
        if str(name).endswith("_momentum") or name in ("lr", "model_iter")
    }
    kept = as_tensors({name: value for name, value in blobs.items() if name not in ignored}, path)
    plain, own, unknown = renamed(kept, from_caffe2, path)
    found = SourceCheckpoint("Caffe2 (video-nonlocal-net, PySlowFast's model zoo)", {}, plain, own, unknown=unknown)
    found.ignored = list(ignored.items())
    _affine_norms(found)
    shapes = shapes_of(plain)
    found.arguments = resnet_arguments(shapes, family=given_family(options), path=path)
    two = "fast_stem.conv.weight" in shapes
    if two and "alpha" not in options.backbone_options:
        found.questions.append(ASK_ALPHA)
    if found.arguments["backbone"].startswith("c2d") and "temporal_pool" not in options.backbone_options:
        found.questions.append(
            "whether the number of frames is halved after res2: --backbone_options '{temporal_pool: true}' (the "
            "paper's C2D) or false (PySlowFast's C2D_NOPOOL)"
        )
    places = inserted_places(shapes)
    if places:
        found.arguments |= {
            "insert": places,
            "block_options": pyslowfast_block_options(shapes, None, options, found, path),
        }
        found.notes.append(
            "the keys of non-local blocks are assumed to be pooled by (1, 2, 2) before the projection, which is the "
            "default of video-nonlocal-net and PySlowFast"
        )
    found.arguments |= pyslowfast_clip_and_head(None, None, found)
    if not two and "stem_pool_padding" not in options.backbone_options:
        found.questions.append(ASK_PADDING)
    return found


def _affine_norms(found: SourceCheckpoint) -> None:
    """Add mean and variance to batch norms for which the file has only scale and shift.

    The mean is 0, and variance + eps is 1. So each norm only scales and shifts, as in Caffe2.
    """
    frozen = [n for n in list(found.state) if n.endswith("norm.weight") or ".norm_" in n or "_norm.weight" in n]
    frozen = [n for n in frozen if n.endswith(".weight") and n.replace(".weight", ".running_var") not in found.state]
    for name in frozen:
        weight = found.state[name]
        found.state[name.replace(".weight", ".running_mean")] = torch.zeros_like(weight)
        found.state[name.replace(".weight", ".running_var")] = torch.full_like(weight, 1 - 1e-5)  # + eps gives 1
    if frozen:
        found.notes.append(
            f"{len(frozen)} batch norms have only a scale and a shift in the file; mean 0 and variance 1 were added"
        )
