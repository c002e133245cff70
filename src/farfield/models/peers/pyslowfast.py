"""PySlowFast's checkpoints (.pyth), and the Caffe2 pickles of the paper's own code and of PySlowFast's model zoo.

Facts that no weight tells (facebookresearch/SlowFast, slowfast/models/nonlocal_helper.py and head_helper.py): keys are
pooled before they are projected; softmax affinities are divided by the square root of the inner channels, dot products
by the number of keys; the classifier sees windows of the training feature map's size, softmax at each, then the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from torch import Tensor

from farfield.errors import FarfieldError
from farfield.models.peers.description import (
    ASK_ALPHA,
    Answers,
    Description,
    block_options_by_shape,
    inserted_places,
    renamed,
    resnet_arguments,
    shapes_of,
)
from farfield.models.peers.names import from_caffe2, from_pyslowfast, x3d_from_pyslowfast
from farfield.models.peers.reading import as_tensors

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
ASK_X3D = "which X3D it is: --backbone x3d_xs, x3d_s or x3d_m, which differ in their clips alone"


class _Loader(yaml.SafeLoader):
    """YAML with the tuples that yacs writes."""


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", lambda loader, node: list(loader.construct_sequence(node)))  # type: ignore[arg-type]


def read_cfg(text: Any, path: Any) -> dict[str, Any] | None:
    """PySlowFast's config from a checkpoint; None where there is none.

    Raises:
        FarfieldError: for a config that cannot be read.
    """
    if not isinstance(text, str):
        return None
    try:
        cfg = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise FarfieldError(f"the config inside {path} cannot be read as YAML: {reason}") from error
    _refuse_large(cfg, path)
    return cfg if isinstance(cfg, dict) else None


def _refuse_large(cfg: Any, path: Any) -> None:
    """Aliases let a few lines stand for millions; a real config has some hundreds of values."""
    waiting, seen = [cfg], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > 100_000:
            raise FarfieldError(f"the config inside {path} is far larger than any of PySlowFast's.")
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value


def describe_pyslowfast(
    state: dict[str, Tensor], cfg: dict[str, Any] | None, answers: Answers, path: Any
) -> Description:
    """PySlowFast's own networks: C2D, I3D, Slow, SlowFast, X3D, with and without non-local blocks."""
    x3d = any(".branch2.se." in name or name == "head.conv_5.weight" for name in state)
    plain, own, unknown = renamed(state, x3d_from_pyslowfast if x3d else from_pyslowfast, path)
    found = Description("PySlowFast", {}, plain, own, unknown=unknown)
    if cfg is not None:
        _refuse(cfg, path)
    shapes = shapes_of(plain)
    if x3d:
        found.arguments = _x3d(shapes, cfg, answers, found)
    else:
        name, extra = _architecture(cfg, path)
        arguments = resnet_arguments(shapes, family=None if name == "slowfast" else name, path=path)
        arguments["backbone_options"] |= extra
        if "fast_stem.conv.weight" in shapes and cfg is not None:
            arguments["backbone_options"]["alpha"] = _number(cfg, "SLOWFAST.ALPHA", 4)
        elif "fast_stem.conv.weight" in shapes and "alpha" not in answers.backbone_options:
            found.questions.append(ASK_ALPHA)
        found.arguments = arguments
    places = inserted_places(shapes)
    if places:
        found.arguments |= {"insert": places, "block_options": _block_options(shapes, cfg, answers, found, path)}
    found.arguments |= pyslowfast_clip_and_head(cfg, found)
    if cfg is not None and _get(cfg, "DATA.REVERSE_INPUT_CHANNEL", False):
        stems = [
            name for name in plain if name in ("stem.conv.weight", "fast_stem.conv.weight", "stem.conv.conv_t.weight")
        ]
        for stem in stems:
            plain[stem] = plain[stem].flip(1)
        found.notes.append("the network took BGR frames (REVERSE_INPUT_CHANNEL): its first kernels are turned to RGB")
    return found


def describe_caffe2(blobs: Mapping[str, Any], answers: Answers, path: Any) -> Description:
    """Caffe2 pickles. They hold no config, so that some things have to be asked."""
    ignored = {
        str(name): "of the optimiser"
        for name in blobs
        if str(name).endswith("_momentum") or name in ("lr", "model_iter")
    }
    kept = as_tensors({name: value for name, value in blobs.items() if name not in ignored}, path)
    plain, own, unknown = renamed(kept, from_caffe2, path)
    found = Description("Caffe2 (video-nonlocal-net, PySlowFast's model zoo)", {}, plain, own, unknown=unknown)
    found.ignored = list(ignored.items())
    _affine_norms(found)
    shapes = shapes_of(plain)
    found.arguments = resnet_arguments(shapes, family=_given_family(answers), path=path)
    two = "fast_stem.conv.weight" in shapes
    if two and "alpha" not in answers.backbone_options:
        found.questions.append(ASK_ALPHA)
    if found.arguments["backbone"].startswith("c2d") and "temporal_pool" not in answers.backbone_options:
        found.questions.append(
            "whether time is halved after res2: --backbone_options '{temporal_pool: true}' (the paper's C2D) or "
            "false (PySlowFast's C2D_NOPOOL)"
        )
    places = inserted_places(shapes)
    if places:
        found.arguments |= {"insert": places, "block_options": _block_options(shapes, None, answers, found, path)}
        found.notes.append(
            "non-local keys are pooled by (1, 2, 2) before they are projected, as both projects do by default"
        )
    found.arguments |= pyslowfast_clip_and_head(None, found)
    if not two:
        found.notes.append(
            "the paper's own code pads the first pooling with nothing, PySlowFast's with 1, and the file does not "
            "tell: PySlowFast is assumed. For video-nonlocal-net: --backbone_options '{stem_pool_padding: false}'"
        )
    return found


def _given_family(answers: Answers) -> str | None:
    return answers.backbone.rsplit("_r", 1)[0] if answers.backbone and "_r" in answers.backbone else None


def _affine_norms(found: Description) -> None:
    """Norms that were frozen into a scale and a shift have no statistics: those of a norm that does the same."""
    import torch

    frozen = [n for n in list(found.state) if n.endswith("norm.weight") or ".norm_" in n or "_norm.weight" in n]
    frozen = [n for n in frozen if n.endswith(".weight") and n.replace(".weight", ".running_var") not in found.state]
    for name in frozen:
        weight = found.state[name]
        found.state[name.replace(".weight", ".running_mean")] = torch.zeros_like(weight)
        found.state[name.replace(".weight", ".running_var")] = torch.full_like(weight, 1 - 1e-5)  # + eps gives 1
    if frozen:
        found.notes.append(
            f"{len(frozen)} norms were frozen to a scale and a shift; their statistics are mean 0, variance 1"
        )


def _get(cfg: Mapping[str, Any], name: str, default: Any) -> Any:
    value: Any = cfg
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return default
        value = value[part]
    return value


def _number(cfg: Mapping[str, Any], name: str, default: float | None, kind: type = int) -> Any:
    """A number, also where the config has it as text.

    Raises:
        FarfieldError: for anything else, naming the setting.
    """
    value = _get(cfg, name, default)
    if value is None and default is None:
        return None
    try:
        number = kind(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or number <= 0 or float(value) != number:
        raise FarfieldError(
            f"the config inside the checkpoint has {name} {value!r}, where a positive number is needed."
        )
    return number


def _three(cfg: Mapping[str, Any], name: str, default: float) -> tuple[float, ...]:
    value = _get(cfg, name, [default] * 3)
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(v, int | float) for v in value):
        raise FarfieldError(f"the config inside the checkpoint has {name} {value!r}, where three numbers are needed.")
    return tuple(float(v) for v in value)


def _flat(value: Any) -> list[Any]:
    return [each for item in value for each in _flat(item)] if isinstance(value, list | tuple) else [value]


def _refuse(cfg: dict[str, Any], path: Any) -> None:
    """Settings under which the weights are of a network that is none of ours.

    Raises:
        FarfieldError: naming the setting.
    """
    allowed: dict[str, tuple[Any, Any]] = {
        "RESNET.NUM_GROUPS": (1, [1]),
        "RESNET.STRIDE_1X1": (False, [False]),
        "RESNET.TRANS_FUNC": ("bottleneck_transform", ["bottleneck_transform", "x3d_transform"]),
        "MODEL.HEAD_ACT": ("softmax", ["softmax"]),
        "DETECTION.ENABLE": (False, [False]),
        "X3D.BN_LIN5": (False, [False]),
        "X3D.SCALE_RES2": (False, [False]),
    }
    for name, (default, values) in allowed.items():
        value = _get(cfg, name, default)
        if value not in values:
            raise FarfieldError(
                f"{path} cannot be converted exactly: its config has {name} {value}; only {values} is supported."
            )
    strides = _get(cfg, "RESNET.SPATIAL_STRIDES", [[1], [2], [2], [2]])
    dilations = _get(cfg, "RESNET.SPATIAL_DILATIONS", [[1], [1], [1], [1]])
    if [sorted(set(_flat(s))) for s in strides] != [[1], [2], [2], [2]] or set(_flat(dilations)) != {1}:
        raise FarfieldError(
            f"{path} cannot be converted exactly: its config has spatial strides {strides} and dilations {dilations}; "
            "only strides 1, 2, 2, 2 without dilation are supported."
        )


def _architecture(cfg: dict[str, Any] | None, path: Any) -> tuple[str | None, dict[str, Any]]:
    if cfg is None:
        return None, {}
    name = _get(cfg, "MODEL.ARCH", None)
    if name not in ARCHITECTURES:
        raise FarfieldError(f"{path} is of MODEL.ARCH {name!r}; convertible are {', '.join(ARCHITECTURES)}.")
    family, extra = ARCHITECTURES[name]
    return family, dict(extra)


def _x3d(shapes: dict, cfg: dict[str, Any] | None, answers: Answers, found: Description) -> dict[str, Any]:
    by_clip = {4: "x3d_xs", 13: "x3d_s", 16: "x3d_m"}
    deep = any(name.startswith("res4.11.") for name in shapes)
    if answers.backbone:
        name = answers.backbone
    elif deep:
        name = "x3d_l"
    elif cfg is not None:
        name = by_clip.get(_number(cfg, "DATA.NUM_FRAMES", 16), "x3d_m")
    else:
        name = "x3d_s"
        found.questions.append(ASK_X3D)
    extra_norm = "res2.0.branch1_norm.weight" in shapes
    return {"backbone": name, "backbone_options": {"norm_on_first_shortcut": True} if extra_norm else {}}


def _block_options(
    shapes: dict, cfg: dict[str, Any] | None, answers: Answers, found: Description, path: Any
) -> dict[str, Any]:
    options = block_options_by_shape(shapes, path)
    if cfg is None:
        if "pairwise" not in answers.block_options:
            found.questions.append(ASK_PAIRWISE)
        return options
    instantiation = _get(cfg, "NONLOCAL.INSTANTIATION", "dot_product")
    if instantiation not in PAIRWISE:
        raise FarfieldError(
            f"{path} has NONLOCAL.INSTANTIATION {instantiation!r}; convertible are {', '.join(PAIRWISE)}."
        )
    options["pairwise"] = PAIRWISE[instantiation]
    pools, groups = _get(cfg, "NONLOCAL.POOL", None), _get(cfg, "NONLOCAL.GROUP", None)
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
            f"{sorted(seen_groups)}); only 1 is supported."
        )
    if len(seen_pools) > 1:
        raise FarfieldError(
            f"{path} cannot be converted exactly: its stages pool keys by different {sorted(seen_pools)}."
        )
    if seen_pools and seen_pools != {(1, 2, 2)}:
        pool = seen_pools.pop()
        options["key_pool"] = None if max(pool) == 1 else list(pool)
    return options


def slowfast_alpha(cfg: dict[str, Any]) -> dict[str, Any]:
    """SlowFast's alpha as a backbone's option; nothing for other networks."""
    return {"alpha": _number(cfg, "SLOWFAST.ALPHA", 4)} if _get(cfg, "MODEL.ARCH", None) == "slowfast" else {}


def pyslowfast_clip(cfg: dict[str, Any]) -> dict[str, Any]:
    """Sampling, crops, normalisation and views of a config, as a `ClipSpec`'s values."""
    test_crop = _number(cfg, "DATA.TEST_CROP_SIZE", 256)
    return {
        "num_frames": _number(cfg, "DATA.NUM_FRAMES", 8),
        "frame_stride": _number(cfg, "DATA.SAMPLING_RATE", 8),
        "target_fps": _number(cfg, "DATA.TARGET_FPS", 30, float),
        "crop_px": _number(cfg, "DATA.TRAIN_CROP_SIZE", 224),
        "test_crop_px": test_crop,
        "short_side_px": test_crop,
        "mean": _three(cfg, "DATA.MEAN", 0.45),
        "std": _three(cfg, "DATA.STD", 0.225),
        "num_clips": _number(cfg, "TEST.NUM_ENSEMBLE_VIEWS", 10),
        "num_crops": _number(cfg, "TEST.NUM_SPATIAL_CROPS", 3),
    }


def pyslowfast_clip_and_head(cfg: dict[str, Any] | None, found: Description) -> dict[str, Any]:
    """The clips of a config, and the head with its windows, whose size is computed as PySlowFast does."""
    head: dict[str, Any] = {"head": "window_softmax_mean"}
    x3d = found.arguments["backbone"].startswith("x3d")
    if cfg is None:
        found.notes.append(
            "the file does not tell the clips that it was trained on: those of the backbone; --clip changes them"
        )
        crop = {"x3d_xs": 182, "x3d_s": 182, "x3d_l": 356}.get(found.arguments["backbone"], 256)
        return head | {"clip": {"test_crop_px": crop, "short_side_px": crop}}
    clip = pyslowfast_clip(cfg)
    frames, crop = clip["num_frames"], clip["crop_px"]
    if _get(cfg, "MULTIGRID.SHORT_CYCLE", False):
        head = {"head": "gap_fc"}
    elif not x3d:
        options = found.arguments["backbone_options"]
        family = found.arguments["backbone"].rsplit("_r", 1)[0]
        halved = options.get("temporal_pool", family in ("c2d", "i3d"))
        side = crop // 32
        lengths = [frames // options["alpha"], frames] if "alpha" in options else [frames // 2 if halved else frames]
        head["head_windows"] = [[length, side, side] for length in lengths]
    return head | {"clip": clip}
