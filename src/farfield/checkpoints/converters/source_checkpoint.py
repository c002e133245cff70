"""Network options of another project's checkpoint, and functions that derive them from the shapes of the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.errors import FarfieldError
from farfield.models.backbones.resnets import DEPTHS, FAMILIES, FAST_KERNELS, SLOW, spelled_out
from farfield.models.network import default_clip

ASK_ALPHA = (
    "how many fast frames there are per slow frame: --backbone_options '{alpha: 4}' (SlowFast 8x8 and 16x8) or "
    "'{alpha: 8}' (SlowFast 4x16)"
)


@dataclass
class SourceCheckpoint:
    """Network options and weights that were derived from another project's checkpoint.

    Attributes:
        origin: name of the project.
        arguments: fields of `NetworkOptions`, without the labels.
        state: weights by plain name (see weight_names.py), or by the keys of the network's state dict if
            `own_keys` is set.
        own_names: dict from each key of `state` to the weight's name in the file.
        own_keys: whether the keys of `state` are those of the network's state dict, instead of plain names.
        labels: class names in the order of the scores, if the file's data set determines them; None otherwise.
        ignored: (name, reason) of each weight that is left out on purpose.
        unknown: names of weights that no network of that project has.
        notes: information for the user, such as assumptions about what the file does not state.
        questions: one text for each setting that the user must give, because the file does not state it. The text
            names the option for the setting.
    """

    origin: str
    arguments: dict[str, Any]
    state: dict[str, Tensor]
    own_names: dict[str, str]
    own_keys: bool = False
    labels: list[str] | None = None
    ignored: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)


Shapes = Mapping[str, tuple[int, ...]]


def renamed(
    state: Mapping[str, Tensor], rename: Callable[[str], str | None], path: Any
) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Rename weights to plain names (see weight_names.py).

    Args:
        state: weights by their names in the file.
        rename: function that returns a weight's plain name, or None for an unknown name.
        path: path of the checkpoint, for messages.

    Returns:
        (weights by plain name, dict from plain names to the names in the file, unknown names in the file).

    Raises:
        FarfieldError: if two weights get the same name.
    """
    plain_state: dict[str, Tensor] = {}
    own: dict[str, str] = {}
    unknown = []
    for name, value in state.items():
        plain = rename(name)
        if plain is None:
            unknown.append(name)
        elif plain in own:
            raise FarfieldError(f"{path} has two weights that map to {plain}: {own[plain]} and {name}. Remove one.")
        else:
            plain_state[plain], own[plain] = value, name
    return plain_state, own, unknown


def resnet_arguments(shapes: Shapes, *, family: str | None, path: Any) -> dict[str, Any]:
    """Derive the fields `backbone` and `backbone_options` of `NetworkOptions` for a ResNet of one or two pathways.

    Args:
        shapes: shapes of the weights by plain name.
        family: "c2d", "i3d" or "slow", if the file or the user states it; None to derive it from the kernels.
        path: path of the checkpoint, for messages.

    Raises:
        FarfieldError: for a network that no farfield backbone can represent.
    """
    if not any(name.startswith("res2.") for name in shapes) or "stem.conv.weight" not in shapes:
        raise FarfieldError(
            f"{path} holds no ResNet: weights of the stem or of res2 are missing. Give a checkpoint of the whole "
            "network."
        )
    two = "fast_stem.conv.weight" in shapes
    counts = tuple(_count(shapes, f"res{k}") for k in (2, 3, 4, 5))
    depth = next((layers for layers, blocks in DEPTHS.items() if blocks == counts), None)
    if depth is None:
        raise FarfieldError(
            f"{path} has {counts} residual blocks in res2 .. res5, but only "
            f"{' or '.join(map(str, DEPTHS.values()))} can be converted."
        )
    kernels = _kernels(shapes, "", counts)
    width, stem_kernel = shapes["stem.conv.weight"][0], shapes["stem.conv.weight"][2]
    options: dict[str, Any] = {} if width == 64 else {"width": width}
    if two:
        fast_width = shapes["fast_stem.conv.weight"][0]
        fuse = shapes["fuse1.conv_fast_to_slow.weight"]
        options |= {"beta_inv": width // fast_width, "fusion_ratio": fuse[0] // fast_width, "fusion_kernel": fuse[2]}
        name = f"slowfast_r{depth}"
        options |= _slowfast_kernels(kernels, _kernels(shapes, "fast_", counts), counts)
        return {"backbone": name, "backbone_options": options}
    fitting = [
        name
        for name, each in FAMILIES.items()
        if each.stem_kernel == stem_kernel and spelled_out(each.kernels, counts) == kernels
    ]
    if family is None:
        if not fitting:
            raise FarfieldError(
                f"{path} has temporal kernels {kernels} in res2 .. res5 and {stem_kernel} in the stem. These are not "
                "the kernels of C2D, I3D or Slow. Give a backbone of the right family, such as --backbone i3d_r50."
            )
        family = fitting[0]
    elif FAMILIES[family].stem_kernel != stem_kernel:
        raise FarfieldError(
            f"{path} is not {family}, although the backbone option or the file's config states it: its stem has a "
            f"temporal kernel of {stem_kernel}, but {family}'s has {FAMILIES[family].stem_kernel}. If you gave the "
            "backbone option, leave it out or correct it."
        )
    if family not in fitting:
        options["temporal_kernels"] = kernels
    return {"backbone": f"{family}_r{depth}", "backbone_options": options}


def given_family(options: ConversionOptions) -> str | None:
    """Return the family ("c2d", "i3d" or "slow") of the backbone in `options`.

    None if no backbone is set, or it is of another family.
    """
    family = options.backbone.rsplit("_r", 1)[0] if options.backbone else None
    return family if family in FAMILIES else None


def _slowfast_kernels(slow: list[list[int]], fast: list[list[int]], counts: tuple[int, ...]) -> dict[str, Any]:
    """Return the backbone options that give a SlowFast network these temporal kernels, omitting default values.

    Args:
        slow: temporal kernel size of each residual block in the slow pathway, one list per stage.
        fast: like `slow`, for the fast pathway.
        counts: number of residual blocks in each stage.
    """
    options: dict[str, Any] = {}
    if slow != spelled_out(SLOW.kernels, counts):
        options["temporal_kernels"] = slow
    if fast != spelled_out(FAST_KERNELS, counts):
        options["fast_temporal_kernels"] = fast
    return options


def _count(shapes: Shapes, stage: str) -> int:
    """Count a stage's residual blocks."""
    return len({name.split(".")[1] for name in shapes if name.startswith(f"{stage}.") and ".inserted." not in name})


def _kernels(shapes: Shapes, pathway: str, counts: tuple[int, ...]) -> list[list[int]]:
    """Return the temporal kernel size of each residual block in a pathway, one list per stage.

    Args:
        shapes: shapes of the weights by plain name.
        pathway: prefix of the pathway's plain names: "" or "fast_".
        counts: number of residual blocks in each stage.
    """
    return [
        [shapes.get(f"{pathway}res{k}.{i}.branch2.conv_a.weight", (0, 0, 1))[2] for i in range(count)]
        for k, count in zip((2, 3, 4, 5), counts, strict=True)
    ]


def inserted_places(shapes: Shapes) -> dict[str, list[int]]:
    """Return, for each stage, the indices of the residual blocks that are followed by a non-local block."""
    places: dict[str, set[int]] = {}
    for name in shapes:
        stage, *rest = name.split(".")
        if "inserted" in rest:
            places.setdefault(stage, set()).add(int(rest[0]))
    return {stage: sorted(indices) for stage, indices in sorted(places.items())}


def block_options_by_shape(shapes: Shapes, path: Any) -> dict[str, Any]:
    """Derive options of the non-local blocks from the shapes of their weights.

    Raises:
        FarfieldError: if the blocks differ in a way that one set of options cannot express.
    """
    places = [(stage, i) for stage, indices in inserted_places(shapes).items() for i in indices]
    inner = {}
    for stage, i in places:
        channels, width = shapes.get(f"{stage}.{i}.inserted.w_z.weight", (0, 0))[:2]
        inner[f"{stage}.{i}"] = (channels, width)
    options: dict[str, Any] = {}
    if any(width * 2 != channels for channels, width in inner.values()):
        if len(set(inner.values())) > 1:
            raise FarfieldError(
                f"{path} cannot be converted, because of its non-local blocks' (channels, inner channels): {inner}. "
                "Either every block must have half as many inner channels as channels, or all blocks must have the "
                "same two numbers."
            )
        options["inner_channels"] = next(iter(inner.values()))[1]

    def all_have(suffix: str) -> bool:
        found = {f"{stage}.{i}.inserted.{suffix}" in shapes for stage, i in places}
        if len(found) > 1:
            raise FarfieldError(
                f"{path} cannot be converted: some of its non-local blocks have a weight {suffix!r} and others do not, "
                "but all must have the same options."
            )
        return found.pop()

    if not all_have("w_z.bias"):
        options["out_bias"] = False
    if not all_have("norm.weight"):
        options["norm"] = False
    if all_have("w_f"):
        options["pairwise"] = "concatenation"
    elif not all_have("theta.weight"):
        options["pairwise"] = "gaussian"
    return options


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight."""
    return {name: tuple(value.shape) for name, value in state.items()}


def zoo_crop(backbone: str) -> int:
    """Return the side in pixels of the square crops on which PySlowFast and PyTorchVideo test a backbone."""
    return default_clip(backbone).test_short_side_px
