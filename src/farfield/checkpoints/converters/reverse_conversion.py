"""Convert farfield networks to checkpoints for PySlowFast and for PyTorchVideo's hub."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import yaml
from torch import Tensor

from farfield.checkpoints.converters.pyslowfast_config import TASKS
from farfield.checkpoints.converters.pyslowfast_datasets import AGGREGATIONS, CHARADES_FPS, SEGMENT_FPS
from farfield.checkpoints.converters.pytorchvideo_and_torchvision import PYTORCHVIDEO, SOFTMAX_INSIDE
from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError
from farfield.models.backbones import STAGES, option_defaults
from farfield.models.insertion import WithBlock, resolve_placement
from farfield.models.network import ActionNet
from farfield.models.network_weight_names import PATHWAYS

log = logging.getLogger("farfield")

EXPRESSIBLE = ("c2d", "i3d", "slow", "slowfast", "x3d")
"""Families of backbones that PySlowFast has."""
EXPRESSIBLE_OPTIONS = {
    "width", "alpha", "beta_inv", "fusion_ratio", "fusion_kernel", "temporal_pool", "norm_on_first_shortcut",
}  # fmt: skip
"""Backbone options that PySlowFast's config can express."""


def to_pytorchvideo(network: ActionNet) -> dict[str, Any]:
    """Convert a network to a checkpoint of PyTorchVideo's hub: `{"model_state": ...}`.

    Raises:
        FarfieldError: if no hub builder of PyTorchVideo creates such a network, or if the converted network would give
            other scores than `network`.
    """
    config = network.config
    options = _changed_options(config)
    if config["backbone"] not in PYTORCHVIDEO or config["insert"] or options:
        raise FarfieldError(
            f"{config['backbone']} with options {options} and insert={config['insert']} cannot be converted to "
            f"PyTorchVideo. Networks that can be converted: {', '.join(PYTORCHVIDEO)}, with their default options and "
            "without non-local blocks."
        )
    _check_task(network, "PyTorchVideo")
    if config["backbone"] in SOFTMAX_INSIDE and network.task == "multilabel":
        raise FarfieldError(
            f"PyTorchVideo's {config['backbone']} ends in a softmax, but the network's task is 'multilabel', whose "
            "probabilities are sigmoids. Convert it to PySlowFast, or run farfield export."
        )
    _check_head(network, "window_softmax_mean" if config["backbone"] in SOFTMAX_INSIDE else "window_mean")
    blocks = network.backbone.trunk.get_submodule("blocks")
    x3d = config["backbone"].startswith("x3d")
    pool = 1 if network.backbone.num_pathways == 2 else 0  # SlowFast pools in a separate block
    last = len(list(blocks.children())) - (1 if x3d else 0) + pool
    state = {}
    for key, value in network.state_dict().items():
        name = key.removeprefix("backbone.trunk.").replace("head.fc.", f"blocks.{last}.proj.")
        name = name.replace("head.embedding.", f"blocks.{last}.pool.")
        state[re.sub(rf"^blocks\.{last}\.pre_", f"blocks.{last}.pool.pre_", name)] = value
    return {"model_state": state}


def to_pyslowfast(network: ActionNet) -> dict[str, Any]:
    """Convert a network to a checkpoint of PySlowFast, with the part of PySlowFast's config that defines the network.

    Raises:
        FarfieldError: if PySlowFast has no such network, or if the converted network would give other scores than
            `network`.
    """
    config = network.config
    family = config["backbone"].split("_")[0]
    options = _changed_options(config)
    if family not in EXPRESSIBLE or options.keys() - EXPRESSIBLE_OPTIONS or options.get("temporal_pool") is True:
        raise FarfieldError(
            f"{config['backbone']} with options {options} cannot be converted to PySlowFast. Networks that can be "
            f"converted: {', '.join(EXPRESSIBLE)}, with no options except {', '.join(sorted(EXPRESSIBLE_OPTIONS))}."
        )
    if family == "x3d" and not options.get("norm_on_first_shortcut"):
        raise FarfieldError(
            "PySlowFast's X3D has a batch norm after the shortcut of res2's first block, but this network was built "
            "without it, as in PyTorchVideo. Only an X3D with the option norm_on_first_shortcut can be converted to "
            "PySlowFast."
        )
    if config["insert"]:
        _check_block(config)
    _check_task(network, "PySlowFast")
    _check_segments(network)
    _check_head(network, "window_softmax_mean")
    state: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        state[_pyslowfast_name(_plain_name(key, network), x3d=family == "x3d")] = value
    for note in _other_views(network.clip):
        log.warning("%s", note)
    return {"epoch": 0, "model_state": state, "cfg": yaml.safe_dump(_cfg(network, family))}


def _other_views(clip: ClipSpec) -> list[str]:
    """Return a sentence for each way in which PySlowFast takes other test views of a video than this network."""
    notes = []
    if clip.test_short_side_px != clip.test_side_px:
        notes.append(
            f"PySlowFast resizes the short side of test frames to its crop, {clip.test_side_px} px; this network was "
            f"tested with {clip.test_short_side_px} px."
        )
    if clip.sampling == "clip" and clip.target_fps is None:
        notes.append(
            "PySlowFast resamples videos to DATA.TARGET_FPS, which is 30 unless it is set; this network takes frames "
            "at the own rate of each video."
        )
    if clip.sampling == "clip" and clip.short_clip == "loop":
        notes.append(
            "PySlowFast repeats the last frame of a video that is shorter than a clip; this network repeats the video."
        )
    return notes


def _changed_options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the backbone options in a network's config that differ from the published network's (the defaults)."""
    defaults = option_defaults(config["backbone"])
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    return {name: value for name, value in config["backbone_options"].items() if value != plain[name]}


def _check_task(network: ActionNet, project: str) -> None:
    """Raise `FarfieldError` for a network with several heads. `project` is named in the message."""
    if network.task not in TASKS.values():
        raise FarfieldError(
            f"the network's task is {network.task!r}, but {project}'s networks have one head. Networks that can be "
            f"converted: those whose task is {' or '.join(map(repr, TASKS.values()))}."
        )


def _check_head(network: ActionNet, kind: str) -> None:
    """Raise `FarfieldError` if replacing the network's head by one of the type `kind` would change its scores.

    Replacing an attentive head always changes them. Replacing a head of another type changes them only if test crops
    and training crops differ in size.

    Args:
        network: network to convert.
        kind: type of head that the converted network will have.
    """
    if network.config["head"] == "attentive":
        raise FarfieldError(
            "the network's head is 'attentive', which neither PyTorchVideo nor PySlowFast has. Only networks whose "
            "head averages features can be converted."
        )
    if network.config["head"] != kind and network.clip.test_side_px != network.clip.crop_px:
        insert = f"insert={network.config['insert']!r}, " if network.config["insert"] else ""
        raise FarfieldError(
            f"the network scores test crops of {network.clip.test_side_px} px with the head "
            f"{network.config['head']!r}, but the converted network uses the head {kind!r}, so its scores would "
            f"differ. Change the head first: build_model({network.config['backbone']!r}, weights=CHECKPOINT, "
            f"{insert}head={kind!r}), then save_model. Or keep the head and change the size of the test crops: in the "
            f"call of build_model, replace head={kind!r} by clip={{'test_crop_px': {network.clip.crop_px}}}."
        )


def _check_segments(network: ActionNet) -> None:
    """Raise `FarfieldError` if the network samples one frame per segment, but not with PySlowFast's settings."""
    clip = network.clip
    if clip.sampling == "segments" and (clip.segment_offsets, clip.target_fps) != ("pyslowfast", SEGMENT_FPS):
        raise FarfieldError(
            f"the network samples segments with segment_offsets {clip.segment_offsets!r} and target_fps "
            f"{clip.target_fps}, but PySlowFast samples them with segment_offsets 'pyslowfast' and target_fps "
            f"{SEGMENT_FPS:g}. Only networks with PySlowFast's settings can be converted."
        )


def _check_block(config: dict[str, Any]) -> None:
    """Raise for inserted blocks that PySlowFast does not have."""
    options = {key: value for key, value in config["block_options"].items() if value is not None or key == "key_pool"}
    pairwise = options.pop("pairwise", "embedded_gaussian")
    reason = None
    if isinstance(config["insert"], dict) and any(name.endswith("top") for name in config["insert"]):
        reason = "PySlowFast has no blocks after the last stage"
    elif config["block"] != "non_local":
        reason = f"PySlowFast has no block {config['block']}"
    elif pairwise not in ("embedded_gaussian", "dot_product"):
        reason = f"PySlowFast has no pairwise function {pairwise}"
    elif options.get("pool_after_projection"):
        reason = "PySlowFast pools the keys before the projection, but these blocks pool them after it"
    elif options.get("scale") not in (None, pairwise == "embedded_gaussian"):
        reason = f"PySlowFast does not support {pairwise} with scale {options['scale']}"
    elif more := [key for key in options if key not in ("key_pool", "pool_after_projection", "scale", "out_bias")]:
        reason = f"PySlowFast does not have the options {', '.join(more)}"
    elif options.get("out_bias") is False:
        reason = "PySlowFast's blocks have a bias before the norm, but these do not"
    if reason:
        raise FarfieldError(f"the inserted blocks cannot be converted to PySlowFast: {reason}.")


def _plain_name(key: str, network: ActionNet) -> str:
    """Translate a key of an `ActionNet`'s state dict to the weight's plain name (see weight_names.py).

    This is the inverse of `to_network` in models/network_weight_names.py.
    """
    if key.startswith("head."):
        return key.replace("head.embedding.", "head.")
    name = key.removeprefix("backbone.trunk.")
    for stage, spec in network.backbone.stage_specs.items():
        for i, path in enumerate(spec.paths):
            if name.startswith(path + "."):
                rest = name.removeprefix(path + ".")
                if isinstance(network.backbone.blocks(stage)[i], WithBlock):
                    rest = rest.removeprefix("residual.")
                return f"{stage}.{i}.{rest}"
    if match := re.fullmatch(r"blocks\.(\d)\.multipathway_fusion\.(.+)", name):
        return f"fuse{int(match[1]) + 1}.{match[2]}"
    if match := re.fullmatch(r"blocks\.0\.(?:multipathway_blocks\.([01])\.)?(.+)", name):
        return f"{PATHWAYS[int(match[1] or 0)]}stem.{match[2]}"
    return f"head.{name.split('.', 2)[2]}"  # X3D's convolution before the pooling


def _pyslowfast_name(plain: str, *, x3d: bool) -> str:
    """Translate a plain name (see weight_names.py) to PySlowFast's name of the weight."""
    place, _, rest = plain.partition(".")
    pathway = int(place.startswith("fast_"))
    place = place.removeprefix("fast_")
    if place == "stem":
        if x3d:
            rest = rest.replace("conv.conv_t", "CONV_XY").replace("conv.conv_xy", "conv").replace("CONV_XY", "conv_xy")
        return f"s1.pathway{pathway}_stem.{rest.replace('norm.', 'bn.')}"
    if place.startswith("fuse"):
        return f"s{place[4:]}_fuse.{rest.replace('conv_fast_to_slow', 'conv_f2s').replace('norm.', 'bn.')}"
    if place == "head":
        names = {"fc": "projection", "pre_conv": "conv_5", "pre_norm": "conv_5_bn", "post_conv": "lin_5"}
        part, _, leaf = rest.partition(".")
        return f"head.{names[part]}.{leaf}"
    index, _, rest = rest.partition(".")
    if rest.startswith("inserted."):
        part, leaf = rest.split(".")[1:]
        part = {"w_z": "conv_out", "norm": "bn"}.get(part, f"conv_{part}")
        return f"s{place[3:]}.pathway{pathway}_nonlocal{index}.{part}.{leaf}"
    rest = rest.replace("branch1_conv", "branch1").replace("branch1_norm", "branch1_bn")
    rest = re.sub(r"norm_b\.1\.block\.([02])", lambda m: f"se.fc{1 if m[1] == '0' else 2}", rest)
    rest = rest.replace("norm_b.0.", "norm_b.")
    rest = re.sub(r"branch2\.conv_([abc])", r"branch2.\1", re.sub(r"branch2\.norm_([abc])", r"branch2.\1_bn", rest))
    return f"s{place[3:]}.pathway{pathway}_res{index}.{rest}"


def _key(values: Mapping[str, str], value: str) -> str:
    """Return the key whose value is `value`."""
    return next(key for key, each in values.items() if each == value)


def _cfg(network: ActionNet, family: str) -> dict[str, Any]:
    """Return the part of PySlowFast's config that defines the network and its clips.

    `family` is the first part of the backbone's name, such as "slowfast".
    """
    config, clip = network.config, network.clip
    pathways = network.backbone.num_pathways
    location: list[Any] = [[[] for _ in range(pathways)] for _ in range(4)]
    if config["insert"]:
        for stage, indices in resolve_placement(network.backbone, config["insert"]).items():
            assert not isinstance(indices, int)  # blocks on top are refused
            location[int(stage[-1]) - 2][int(stage.startswith("fast_"))] = list(indices)
    block = config["block_options"]
    pairwise = block.get("pairwise", "embedded_gaussian")
    pool = block.get("key_pool", "paper")
    pool = [1, 2, 2] if pool == "paper" else [1, 1, 1] if pool is None else list(pool)
    is_unpooled = family in ("c2d", "i3d") and config["backbone_options"].get("temporal_pool") is False
    arch = f"slow_{family}" if is_unpooled else family
    cfg: dict[str, Any] = {
        "MODEL": {"ARCH": arch, "NUM_CLASSES": len(network.labels), "HEAD_ACT": _key(TASKS, network.task)},
        "NONLOCAL": {
            "LOCATION": location,
            "GROUP": [[1] * pathways for _ in range(4)],
            "INSTANTIATION": "softmax" if pairwise == "embedded_gaussian" else "dot_product",
            "POOL": [[list(pool) for _ in range(pathways)] for _ in range(4)],
        },
        "DATA": {
            "INPUT_CHANNEL_NUM": [3] * pathways,
            "NUM_FRAMES": clip.num_frames,
            "SAMPLING_RATE": clip.frame_stride,
            "TRAIN_CROP_SIZE": clip.crop_px,
            "TEST_CROP_SIZE": clip.test_side_px,
            "MEAN": list(clip.mean),
            "STD": list(clip.std),
            "ENSEMBLE_METHOD": _key(AGGREGATIONS, clip.views_aggregation),
        },
        "TEST": {"NUM_ENSEMBLE_VIEWS": clip.num_clips, "NUM_SPATIAL_CROPS": clip.num_crops},
    }
    if family != "x3d":
        depth = 50 if config["backbone"].endswith("r50") else 101
        # Number of blocks per stage with the family's temporal kernels: all, except in SlowFast 16x8.
        counts = [len(network.backbone.stage(stage).paths) for stage in STAGES]
        if config["backbone"] == "slowfast_16x8_r101":
            counts[2] = 6
        cfg["RESNET"] = {
            "DEPTH": depth,
            "WIDTH_PER_GROUP": config["backbone_options"].get("width", 64),
            "NUM_BLOCK_TEMP_KERNEL": [[count] * pathways for count in counts],
            "SPATIAL_STRIDES": [[stride] * pathways for stride in (1, 2, 2, 2)],
            "SPATIAL_DILATIONS": [[1] * pathways for _ in range(4)],
        }
    if clip.target_fps is not None:
        cfg["DATA"]["TARGET_FPS"] = clip.target_fps
    if clip.sampling == "segments":
        cfg["TRAIN"], cfg["TEST"]["DATASET"] = {"DATASET": "ssv2"}, "ssv2"
        cfg["DATA"]["REVERSE_INPUT_CHANNEL"] = True  # its loader reads BGR
    elif clip.short_clip == "clamp" and clip.target_fps == CHARADES_FPS:
        cfg["TRAIN"], cfg["TEST"]["DATASET"] = {"DATASET": "charades"}, "charades"
        cfg["DATA"]["REVERSE_INPUT_CHANNEL"] = True  # its loader reads BGR
    if network.task == "multilabel":
        cfg["MODEL"]["LOSS_FUNC"], cfg["DATA"]["MULTI_LABEL"] = "bce_logit", True
    if family == "slowfast":
        options = config["backbone_options"]
        fusion = option_defaults(config["backbone"])["fusion_kernel"]
        cfg["SLOWFAST"] = {
            "ALPHA": options.get("alpha", 4),
            "BETA_INV": options.get("beta_inv", 8),
            "FUSION_CONV_CHANNEL_RATIO": options.get("fusion_ratio", 2),
            "FUSION_KERNEL_SZ": options.get("fusion_kernel", fusion),
        }
    return cfg
