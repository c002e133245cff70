"""Derive network options and renamed weights from checkpoints of MMAction2's I3D and SlowOnly networks.

These are Recognizer3D networks with the backbone ResNet3d or ResNet3dSlowOnly and an I3D head.

The non-local blocks are mmcv's. A block with sub_sample pools its keys after the projection. A block's last convolution
has no bias if a norm follows it. Softmax affinities are scaled only if use_scale is set; dot products are always
divided by the number of keys. The head averages the whole feature map before it classifies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.checkpoints.converters.mmaction2_config import Unreadable, parse_python_config
from farfield.checkpoints.converters.source_checkpoint import (
    SourceCheckpoint,
    block_options_by_shape,
    given_family,
    inserted_places,
    renamed,
    resnet_arguments,
    shapes_of,
)
from farfield.checkpoints.converters.weight_names import from_mmaction2
from farfield.errors import FarfieldError

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
ASK_PAIRWISE = (
    "the pairwise function of its non-local blocks and whether it is scaled (mode, use_scale in MMAction2's config): "
    "--block_options '{pairwise: embedded_gaussian, scale: false}' or '{pairwise: dot_product}'"
)
ASK_STRIDES = (
    "the temporal strides of the stem (conv1_stride_t and pool1_stride_t in MMAction2's config): "
    "--backbone_options '{stem_temporal_strides: [2, 2]}' for MMAction2's I3D on 32 frames"
)


def describe_mmaction2(state: dict[str, Tensor], meta: Any, options: ConversionOptions, path: Any) -> SourceCheckpoint:
    """Derive network options and renamed weights from a checkpoint of MMAction2's I3D or SlowOnly.

    The network may have non-local blocks.

    Args:
        state: dict from MMAction2's weight names to the weights.
        meta: the entry "meta" of the checkpoint, which may hold the config as text; None if there is none.
        options: conversion options that the user sets.
        path: path of the checkpoint, for messages.

    Raises:
        FarfieldError: for a network that cannot be converted exactly.
    """
    ignored = {name: "used in training only" for name in state if name.startswith("data_preprocessor.")}
    kept = {name: value for name, value in state.items() if name not in ignored}
    plain, own, unknown = renamed(kept, from_mmaction2, path)
    for name in [name for name in plain if name.endswith("inserted.w_f")]:
        plain[name] = plain[name].reshape(1, -1)
    found = SourceCheckpoint("MMAction2", {}, plain, own, ignored=list(ignored.items()), unknown=unknown)
    config = read_meta(meta)
    backbone = _section(config, "model", "backbone")
    _check_backbone(backbone, path)
    shapes = shapes_of(plain)
    found.arguments = resnet_arguments(shapes, family=given_family(options), path=path)
    backbone_options = found.arguments["backbone_options"]
    i3d = found.arguments["backbone"].startswith(("i3d", "c2d"))
    if _is_literal(backbone, "conv1_stride_t") and _is_literal(backbone, "pool1_stride_t"):
        strides = [backbone["conv1_stride_t"], backbone["pool1_stride_t"]]
        if strides != [1, 1]:
            backbone_options["stem_temporal_strides"] = strides
    elif i3d and "stem_temporal_strides" not in options.backbone_options:
        found.questions.append(ASK_STRIDES)
    pooled = {"ResNet3d": True, "ResNet3dSlowOnly": False}.get(str(backbone.get("type")), i3d)  # their defaults
    if _is_literal(backbone, "with_pool2"):
        pooled = bool(backbone["with_pool2"])
    if pooled != i3d:
        backbone_options["temporal_pool"] = pooled
    places = inserted_places(shapes)
    if places:
        block_options = _block_options(shapes, state, backbone, options, found, path)
        found.arguments |= {"insert": places, "block_options": block_options}
    found.arguments |= {"head": "gap_fc", "clip": _clip(config, found)}
    return found


def read_meta(meta: Any) -> dict[str, Any]:
    """Return the config that MMEngine and mmcv store as text in a checkpoint's entry "meta"; {} if there is none."""
    if not isinstance(meta, Mapping):
        return {}
    text = next((meta[key] for key in ("cfg", "config") if isinstance(meta.get(key), str)), None)
    return parse_python_config(text) if text is not None else {}


def _section(config: Any, *names: str) -> dict[str, Any]:
    """Return the nested dict at the path `names`; an empty dict if there is none."""
    for name in names:
        config = config.get(name) if isinstance(config, Mapping) else None
    return config if isinstance(config, dict) else {}


def _is_literal(config: Mapping[str, Any], name: str) -> bool:
    """Return whether the config sets `name` to a value that can be read without running the config."""
    return name in config and not isinstance(config[name], Unreadable)


def _check_backbone(backbone: dict[str, Any], path: Any) -> None:
    """Raise if the config describes a network that no farfield backbone matches."""
    allowed: dict[str, list[Any]] = {
        "type": ["ResNet3d", "ResNet3dSlowOnly"],
        "style": ["pytorch"],
        "inflate_style": ["3x1x1"],
        "spatial_strides": [[1, 2, 2, 2]],
        "temporal_strides": [[1, 1, 1, 1]],
        "dilations": [[1, 1, 1, 1]],
        "with_cp": [False, True],
    }
    for name, values in allowed.items():
        if _is_literal(backbone, name) and backbone[name] not in values:
            raise FarfieldError(
                f"{path} cannot be converted exactly: its config sets {name} of the backbone to {backbone[name]!r}; "
                f"only {' or '.join(map(str, values))} is supported."
            )


def _block_options(
    shapes: dict,
    state: dict[str, Tensor],
    backbone: dict[str, Any],
    options: ConversionOptions,
    found: SourceCheckpoint,
    path: Any,
) -> dict[str, Any]:
    """Return the options of the non-local blocks.

    The pairwise function and its scale come from the config's settings of the blocks. Without such settings, the
    pairwise function must be shown by the weights or stated by the user's options; with embedded_gaussian, the user's
    options must also state `scale`. If something is missing, `found.questions` gets a text that asks the user for it.
    """
    block_options = block_options_by_shape(shapes, path)
    # With sub_sample, g is a Sequential of projection and pooling, which shows in its names.
    pooled = {".non_local_block.g.0." in name for name in state if ".non_local_block.g." in name}
    if len(pooled) > 1:
        raise FarfieldError(
            f"{path} cannot be converted: some of its non-local blocks pool their keys and others do not, but all must "
            "have the same options."
        )
    block_options |= {"pool_after_projection": True} if pooled == {True} else {"key_pool": None}
    settings = _section(backbone, "non_local_cfg")
    if settings:
        mode = settings.get("mode", "embedded_gaussian")  # mmcv's default
        if mode not in ("embedded_gaussian", "gaussian", "dot_product", "concatenation"):
            raise FarfieldError(
                f"{path} cannot be converted: its config sets the mode of the non-local blocks to {mode!r}, which mmcv "
                "does not have."
            )
        block_options["pairwise"] = mode
        if mode == "embedded_gaussian":
            block_options["scale"] = bool(settings.get("use_scale", True))
    elif ("pairwise" not in block_options and "pairwise" not in options.block_options) or (
        options.block_options.get("pairwise") == "embedded_gaussian" and "scale" not in options.block_options
    ):
        found.questions.append(ASK_PAIRWISE)
    return block_options


def _clip(config: dict[str, Any], found: SourceCheckpoint) -> dict[str, Any]:
    """Return clip settings (sampling, crops, normalisation) from the config. Add a note about assumed settings."""
    pixels = _section(config, "model", "data_preprocessor") or _section(config, "img_norm_cfg")
    mean, std = pixels.get("mean", IMAGENET_MEAN), pixels.get("std", IMAGENET_STD)
    clip: dict[str, Any] = {"mean": tuple(m / 255 for m in mean), "std": tuple(s / 255 for s in std)}
    clip |= {"num_clips": 10, "num_crops": 3, "test_crop_px": 256, "short_side_px": 256}
    if not pixels:
        found.notes.append("the file does not state its normalisation, so ImageNet's is assumed")
    steps = _pipeline(config, "test")
    sample = next((s for s in steps if s.get("type") in ("SampleFrames", "UniformSample")), None)
    if sample is None:
        found.notes.append(
            "the file does not state its clip settings, so the backbone's sampling and 10 clips x 3 crops of 256 px "
            "are assumed; --clip changes them"
        )
        return clip
    clip |= {"num_frames": sample.get("clip_len", 8), "frame_stride": sample.get("frame_interval", 1)}
    clip["num_clips"] = sample.get("num_clips", 1)
    if isinstance(sample.get("target_fps"), int | float):
        clip["target_fps"] = float(sample["target_fps"])
    if sample.get("out_of_bound_opt") == "repeat_last":
        clip["short_clip"] = "clamp"
    if sample["type"] == "UniformSample":
        clip["sampling"] = "segments"
    for step in steps:
        if step.get("type") in ("ThreeCrop", "CenterCrop") and isinstance(step.get("crop_size"), int):
            clip |= {"num_crops": 3 if step["type"] == "ThreeCrop" else 1, "test_crop_px": step["crop_size"]}
        if step.get("type") == "Resize" and isinstance(step.get("scale"), list) and -1 in step["scale"]:
            clip["short_side_px"] = max(step["scale"])
    trained = [
        s["scale"] for s in _pipeline(config, "train") if s.get("type") == "Resize" and not s.get("keep_ratio", True)
    ]
    if trained and isinstance(trained[-1], list) and trained[-1][0] == trained[-1][1]:
        clip["crop_px"] = trained[-1][0]
    clip["short_side_px"] = max(clip["short_side_px"], clip["test_crop_px"])
    return clip


def _pipeline(config: dict[str, Any], split: str) -> list[dict[str, Any]]:
    places = (
        config.get(f"{split}_pipeline"),
        _section(config, f"{split}_dataloader", "dataset").get("pipeline"),
        _section(config, "data", split).get("pipeline"),
    )
    steps = next((place for place in places if isinstance(place, list)), [])
    return [step for step in steps if isinstance(step, dict)]
