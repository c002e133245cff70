"""Our networks under other projects' names: state dicts that PyTorchVideo's hub builders and PySlowFast load."""

from __future__ import annotations

import re
from typing import Any

import yaml
from torch import Tensor

from farfield.errors import FarfieldError
from farfield.models.insertion import WithBlock, resolve_placement
from farfield.models.network import ActionNet
from farfield.models.peers.names import PATHWAYS
from farfield.models.peers.zoos import PYTORCHVIDEO

EXPRESSIBLE = ("c2d", "i3d", "slow", "slowfast", "x3d")
"""The architectures that PySlowFast has."""


def to_pytorchvideo(network: ActionNet) -> dict[str, Any]:
    """A checkpoint as PyTorchVideo's hub has them: `{"model_state": ...}`.

    Raises:
        FarfieldError: for a network that none of its hub builders makes.
    """
    config = network.config
    options = {key: value for key, value in config["backbone_options"].items() if value}
    if config["backbone"] not in PYTORCHVIDEO or config["insert"] or options:
        raise FarfieldError(
            f"PyTorchVideo cannot express {config['backbone']} with options {options} and insert={config['insert']}; "
            f"it has {', '.join(PYTORCHVIDEO)}, without non-local blocks."
        )
    blocks = network.backbone.trunk.get_submodule("blocks")
    x3d = config["backbone"].startswith("x3d")
    pool = 1 if network.backbone.num_pathways == 2 else 0  # SlowFast pools in a block of its own
    last = len(list(blocks.children())) - (1 if x3d else 0) + pool
    state = {}
    for key, value in network.state_dict().items():
        name = key.removeprefix("backbone.trunk.").replace("head.fc.", f"blocks.{last}.proj.")
        name = name.replace("head.embedding.", f"blocks.{last}.pool.")
        state[re.sub(rf"^blocks\.{last}\.pre_", f"blocks.{last}.pool.pre_", name)] = value
    return {"model_state": state}


def to_pyslowfast(network: ActionNet) -> dict[str, Any]:
    """A checkpoint as PySlowFast writes them, with the part of its config that says what the network is.

    Raises:
        FarfieldError: for a network that PySlowFast cannot express.
    """
    config = network.config
    family = config["backbone"].split("_")[0]
    options = config["backbone_options"]
    odd = [name for name in ("dilated", "stem_temporal_strides", "temporal_pool") if options.get(name)]
    if family not in EXPRESSIBLE or odd or options.get("stem_pool_padding") is False:
        raise FarfieldError(
            f"PySlowFast cannot express {config['backbone']} with options {options}; it has {', '.join(EXPRESSIBLE)}."
        )
    if family == "x3d" and not options.get("norm_on_first_shortcut"):
        raise FarfieldError(
            "PySlowFast's X3D has a batch norm more than PyTorchVideo's, after the shortcut of res2's first block; "
            "this network has been built without it."
        )
    if config["insert"]:
        _refuse_block(config)
    state: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        state[_pyslowfast_name(_plain_name(key, network), x3d=family == "x3d")] = value
    return {"epoch": 0, "model_state": state, "cfg": yaml.safe_dump(_cfg(network, family))}


def _refuse_block(config: dict[str, Any]) -> None:
    options = {key: value for key, value in config["block_options"].items() if value is not None or key == "key_pool"}
    pairwise = options.pop("pairwise", "embedded_gaussian")
    reason = None
    if config["block"] != "non_local":
        reason = f"it has no {config['block']}"
    elif pairwise not in ("embedded_gaussian", "dot_product"):
        reason = f"it has no pairwise function {pairwise}"
    elif options.get("pool_after_projection"):
        reason = "it pools the keys before projecting them, and pooling and projecting do not commute"
    elif options.get("scale") not in (None, pairwise == "embedded_gaussian"):
        reason = f"it has no {pairwise} with scale {options['scale']}"
    elif more := [key for key in options if key not in ("key_pool", "pool_after_projection", "scale", "out_bias")]:
        reason = f"it has no {', '.join(more)}"
    elif options.get("out_bias") is False:
        reason = "its blocks have a bias before the norm"
    if reason:
        raise FarfieldError(f"PySlowFast cannot express these blocks: {reason}.")


def _plain_name(key: str, network: ActionNet) -> str:
    """The key of an `ActionNet`'s state dict as a plain name, the inverse of `names.to_network`."""
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


def _cfg(network: ActionNet, family: str) -> dict[str, Any]:
    config, clip = network.config, network.clip
    pathways = network.backbone.num_pathways
    location: list[Any] = [[[] for _ in range(pathways)] for _ in range(4)]
    if config["insert"]:
        for stage, indices in resolve_placement(network.backbone, config["insert"]).items():
            location[int(stage[-1]) - 2][int(stage.startswith("fast_"))] = list(indices)
    block = config["block_options"]
    pairwise = block.get("pairwise", "embedded_gaussian")
    pool = block.get("key_pool", "paper")
    pool = [1, 2, 2] if pool == "paper" else [1, 1, 1] if pool is None else list(pool)
    cfg: dict[str, Any] = {
        "MODEL": {"ARCH": family, "NUM_CLASSES": len(network.labels), "HEAD_ACT": "softmax"},
        "NONLOCAL": {
            "LOCATION": location,
            "GROUP": [[1] * pathways for _ in range(4)],
            "INSTANTIATION": "softmax" if pairwise == "embedded_gaussian" else "dot_product",
            "POOL": [[list(pool) for _ in range(pathways)] for _ in range(4)],
        },
        "DATA": {
            "NUM_FRAMES": clip.num_frames,
            "SAMPLING_RATE": clip.frame_stride,
            "TRAIN_CROP_SIZE": clip.crop_px,
            "TEST_CROP_SIZE": clip.test_side_px,
            "MEAN": list(clip.mean),
            "STD": list(clip.std),
        },
        "TEST": {"NUM_ENSEMBLE_VIEWS": clip.num_clips, "NUM_SPATIAL_CROPS": clip.num_crops},
    }
    if family != "x3d":
        depth = 50 if config["backbone"].endswith("r50") else 101
        cfg["RESNET"] = {"DEPTH": depth, "WIDTH_PER_GROUP": config["backbone_options"].get("width", 64)}
    if family == "slowfast":
        options = config["backbone_options"]
        fusion = 7 if config["backbone"] == "slowfast_r50" else 5
        cfg["SLOWFAST"] = {
            "ALPHA": options.get("alpha", 4),
            "BETA_INV": options.get("beta_inv", 8),
            "FUSION_CONV_CHANNEL_RATIO": options.get("fusion_ratio", 2),
            "FUSION_KERNEL_SZ": options.get("fusion_kernel", fusion),
        }
    return cfg
