"""Derive network options and renamed weights from PySlowFast's checkpoints (.pyth).

The following is not in the weights, but in PySlowFast's code (facebookresearch/SlowFast,
slowfast/models/nonlocal_helper.py and head_helper.py). Keys are pooled before the projection. Softmax affinities are
divided by the square root of the number of inner channels, and dot products by the number of keys. The classifier runs
on windows that are as large as the feature map of a training clip. The scores of each window are converted to
probabilities by softmax or sigmoid (MODEL.HEAD_ACT), and these are averaged over the windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.checkpoints.converters.pyslowfast_config import number, refuse_other_networks, setting, task_of
from farfield.checkpoints.converters.pyslowfast_datasets import (
    Loader,
    dataset_labels,
    dataset_loader,
    pyslowfast_clip,
    takes_bgr,
)
from farfield.checkpoints.converters.source_checkpoint import (
    ASK_ALPHA,
    SourceCheckpoint,
    block_options_by_shape,
    given_family,
    inserted_places,
    renamed,
    resnet_arguments,
    shapes_of,
    zoo_crop,
)
from farfield.checkpoints.converters.weight_names import from_pyslowfast, x3d_from_pyslowfast
from farfield.errors import FarfieldError

PAIRWISE = {"softmax": "embedded_gaussian", "dot_product": "dot_product"}
ARCHITECTURES = {
    "c2d": ("c2d", {}),
    "i3d": ("i3d", {}),
    "slow": ("slow", {}),
    "c2d_nopool": ("c2d", {"temporal_pool": False}),
    "i3d_nopool": ("i3d", {"temporal_pool": False}),
    "slow_c2d": ("c2d", {"temporal_pool": False}),
    "slow_i3d": ("i3d", {"temporal_pool": False}),
    "slowfast": ("slowfast", {}),
    "x3d": ("x3d", {}),
}
ASK_PAIRWISE = (
    "the pairwise function of its non-local blocks: --block_options '{pairwise: embedded_gaussian}' (PySlowFast's "
    "softmax: the C2D and I3D models) or '{pairwise: dot_product}' (the Slow and SlowFast models)"
)
ASK_X3D = "which X3D it is: --backbone x3d_xs, x3d_s or x3d_m, which differ only in their clips"


def describe_pyslowfast(
    state: dict[str, Tensor], cfg: dict[str, Any] | None, options: ConversionOptions, path: Any
) -> SourceCheckpoint:
    """Derive network options and renamed weights from a checkpoint of PySlowFast's C2D, I3D, Slow, SlowFast or X3D.

    The network may have non-local blocks.

    Args:
        state: dict from PySlowFast's weight names to the weights.
        cfg: the config in the checkpoint; None if there is none.
        options: conversion options that the user sets.
        path: path of the checkpoint, for messages.

    Raises:
        FarfieldError: for a network that cannot be converted exactly.
    """
    x3d = any(".branch2.se." in name or name == "head.conv_5.weight" for name in state)
    plain, own, unknown = renamed(state, x3d_from_pyslowfast if x3d else from_pyslowfast, path)
    found = SourceCheckpoint("PySlowFast", {}, plain, own, unknown=unknown)
    loader = None if cfg is None else dataset_loader(cfg, path, found.notes)
    if cfg is not None:
        refuse_other_networks(cfg, path)
    shapes = shapes_of(plain)
    if x3d:
        found.arguments = _x3d(shapes, cfg, options, found)
    else:
        name, extra = _architecture(cfg, path)
        family = given_family(options) if name is None else None if name == "slowfast" else name
        arguments = resnet_arguments(shapes, family=family, path=path)
        arguments["backbone_options"] |= extra
        if "fast_stem.conv.weight" in shapes and cfg is not None:
            arguments["backbone_options"]["alpha"] = number(cfg, "SLOWFAST.ALPHA", 4)
        elif "fast_stem.conv.weight" in shapes and "alpha" not in options.backbone_options:
            found.questions.append(ASK_ALPHA)
        found.arguments = arguments
    places = inserted_places(shapes)
    if places:
        found.arguments |= {
            "insert": places,
            "block_options": pyslowfast_block_options(shapes, cfg, options, found, path),
        }
    found.arguments |= pyslowfast_clip_and_head(cfg, loader, found)
    if cfg is None or loader is None:
        return found
    found.arguments["task"] = task_of(cfg, path)
    found.labels = dataset_labels(cfg, shapes)
    if takes_bgr(cfg, loader):
        take_rgb(found, ("stem.conv.weight", "fast_stem.conv.weight", "stem.conv.conv_t.weight"))
    return found


def take_rgb(found: SourceCheckpoint, stems: Iterable[str]) -> None:
    """Change a network's input from BGR to RGB frames, by reversing the input channels of its first convolutions.

    Args:
        found: the checkpoint, changed in place. A note for the user is added.
        stems: names of weights of first convolutions. Names that the checkpoint does not have are skipped.
    """
    for stem in stems:
        if stem in found.state:
            found.state[stem] = found.state[stem].flip(1)
    found.notes.append("the network took BGR frames: its first convolutions were changed to take RGB")


def _architecture(cfg: dict[str, Any] | None, path: Any) -> tuple[str | None, dict[str, Any]]:
    """Return (family, backbone options) for the config's MODEL.ARCH; (None, {}) without a config.

    The family is c2d, i3d, slow, slowfast or x3d.
    """
    if cfg is None:
        return None, {}
    name = setting(cfg, "MODEL.ARCH", None)
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise FarfieldError(
            f"{path} has MODEL.ARCH {name!r}. Values that can be converted: {', '.join(ARCHITECTURES)}."
        )
    family, extra = ARCHITECTURES[name]
    return family, dict(extra)


def _x3d(
    shapes: dict, cfg: dict[str, Any] | None, options: ConversionOptions, found: SourceCheckpoint
) -> dict[str, Any]:
    """Return the fields `backbone` and `backbone_options` of `NetworkOptions` for an X3D.

    The user's choice of backbone comes first. Without one, an x3d_l is recognised by its number of residual blocks, and
    a smaller X3D by the config's number of frames: 4 for x3d_xs, 13 for x3d_s, any other number for x3d_m. Without a
    config, x3d_s is returned for a smaller X3D, and `found.questions` gets a text that asks which X3D it is.
    """
    by_clip = {4: "x3d_xs", 13: "x3d_s", 16: "x3d_m"}
    deep = any(name.startswith("res4.11.") for name in shapes)
    if options.backbone:
        name = options.backbone
    elif deep:
        name = "x3d_l"
    elif cfg is not None:
        name = by_clip.get(number(cfg, "DATA.NUM_FRAMES", 16), "x3d_m")
    else:
        name = "x3d_s"
        found.questions.append(ASK_X3D)
    extra_norm = "res2.0.branch1_norm.weight" in shapes
    return {"backbone": name, "backbone_options": {"norm_on_first_shortcut": True} if extra_norm else {}}


def pyslowfast_block_options(
    shapes: dict, cfg: dict[str, Any] | None, options: ConversionOptions, found: SourceCheckpoint, path: Any
) -> dict[str, Any]:
    """Return the options of the non-local blocks.

    If neither the config nor the user states the pairwise function, `found.questions` gets a text that asks the user
    for it.

    Raises:
        FarfieldError: for blocks that `NonLocalBlock3d` cannot compute.
    """
    block_options = block_options_by_shape(shapes, path)
    if cfg is None:
        if "pairwise" not in options.block_options:
            found.questions.append(ASK_PAIRWISE)
        return block_options
    instantiation = setting(cfg, "NONLOCAL.INSTANTIATION", "dot_product")
    if instantiation not in PAIRWISE:
        raise FarfieldError(
            f"{path} has NONLOCAL.INSTANTIATION {instantiation!r}. Values that can be converted: {', '.join(PAIRWISE)}."
        )
    block_options["pairwise"] = PAIRWISE[instantiation]
    pools, groups = setting(cfg, "NONLOCAL.POOL", None), setting(cfg, "NONLOCAL.GROUP", None)
    seen_pools, seen_groups = set(), set()
    for stage in inserted_places(shapes):
        k, pathway = int(stage[-1]) - 2, int(stage.startswith("fast_"))
        if pools is not None:
            pool = pools[k][min(pathway, len(pools[k]) - 1)]
            seen_pools.add(tuple(pool))
        if groups is not None:
            seen_groups.add(groups[k][min(pathway, len(groups[k]) - 1)])
    if seen_groups - {1}:
        raise FarfieldError(
            f"{path} cannot be converted exactly: its non-local blocks work on groups of frames (NONLOCAL.GROUP "
            f"{sorted(seen_groups)}); only NONLOCAL.GROUP 1 is supported."
        )
    if len(seen_pools) > 1:
        raise FarfieldError(
            f"{path} cannot be converted exactly: its stages pool keys by different sizes {sorted(seen_pools)}; only "
            "one size for all stages is supported."
        )
    if seen_pools and seen_pools != {(1, 2, 2)}:
        pool = seen_pools.pop()
        block_options["key_pool"] = None if max(pool) == 1 else list(pool)
    return block_options


def pyslowfast_clip_and_head(
    cfg: dict[str, Any] | None, loader: Loader | None, found: SourceCheckpoint
) -> dict[str, Any]:
    """Return the fields `clip` and `head` of `NetworkOptions`, and also `head_windows` if the config determines it.

    Without a config, `clip` has only `test_crop_px` and `short_side_px`, both set to the size of the crops on which the
    model zoo tests this backbone. In this case, a note for the user is added to `found.notes`.

    Args:
        cfg: PySlowFast's config; None if the checkpoint has none.
        loader: frame sampling and colour order of PySlowFast's loader for this config; None without a config.
        found: the checkpoint. Its `arguments` must already have `backbone` and `backbone_options`.
    """
    head: dict[str, Any] = {"head": "window_softmax_mean"}
    x3d = found.arguments["backbone"].startswith("x3d")
    if cfg is None or loader is None:
        found.notes.append(
            "the file does not state its clip settings, so the backbone's defaults are assumed; --clip changes them"
        )
        crop = zoo_crop(found.arguments["backbone"])
        return head | {"clip": {"test_crop_px": crop, "short_side_px": crop}}
    clip = pyslowfast_clip(cfg, loader)
    frames, crop = clip["num_frames"], clip["crop_px"]
    if setting(cfg, "MULTIGRID.SHORT_CYCLE", False):
        head = {"head": "gap_fc"}
    elif not x3d:
        backbone_options = found.arguments["backbone_options"]
        family = found.arguments["backbone"].rsplit("_r", 1)[0]
        halved = backbone_options.get("temporal_pool", family in ("c2d", "i3d"))
        side = crop // 32
        lengths = [frames // 2 if halved else frames]
        if "alpha" in backbone_options:
            lengths = [frames // backbone_options["alpha"], frames]
        head["head_windows"] = [[length, side, side] for length in lengths]
    return head | {"clip": clip}
