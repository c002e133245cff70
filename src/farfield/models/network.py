"""The action recognition network: a backbone with inserted blocks and a head."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.clip_spec import ClipOptions, ClipSpec
from farfield.errors import FarfieldError, nearest
from farfield.layers.compiler_import import without_compiler
from farfield.layers.shape_copy import shape_copy
from farfield.models.backbones import BUILDERS, Backbone, option_defaults
from farfield.models.head import Head
from farfield.models.insertion import BLOCKS, insert_blocks
from farfield.models.network_options import NetworkOptions
from farfield.models.operating_point import OperatingPoint
from farfield.models.structure_only import structure_only
from farfield.task import DEFAULT_TASK, Task, split_heads

EARLIER_NAMES = {"identity_at_birth": "identity_at_init"}
"""Current name of each renamed block option, by its earlier name in old checkpoints and configs."""


class ActionNet(nn.Module):
    """Action recognition network, created by `build_model` or `load_network`.

    Attributes:
        labels: class names, in the order of the scores.
        clip: sampling, size and normalisation of the input.
        config: fields of `NetworkOptions` that define this network, as a dict of plain types.
        is_folded: whether batch norms are folded into convolutions for inference. A folded network can be neither
            trained nor saved.
        operating_point: probability thresholds of the classes, for videos and clips; None if none were chosen.
        timeline_operating_point: probability thresholds of the classes, for timelines; None if none were chosen.
    """

    is_folded = False
    operating_point: OperatingPoint | None = None
    timeline_operating_point: OperatingPoint | None = None

    def __init__(
        self, backbone: Backbone, head: Head, *, labels: list[str], clip: ClipSpec, config: dict[str, Any]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.labels = labels
        self.clip = clip
        self.config = config

    @property
    def task(self) -> Task:
        """Task of the network: single_label, multilabel or multi_head, see `farfield.task`."""
        return self.config["task"]

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.head.fc.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights and of the input."""
        return self.head.fc.weight.dtype

    def forward(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b classes"]:
        """Score clips that are normalised as `clip` specifies.

        `farfield.task.class_probabilities(scores, task)` turns the scores into class probabilities.

        Raises:
            ValueError: if the clips are not a floating-point tensor (b 3 t h w).
        """
        return self.head(self._features(clips))

    def embed(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b v c"]:
        """Compute the classifier's input for each clip: one vector, or one per window for heads with pooling windows.

        `head.classify` computes the scores from the vectors.

        Raises:
            ValueError: in the same cases as `forward`.
        """
        return self.head.embed(self._features(clips))

    def train(self, mode: bool = True) -> ActionNet:
        """Set training mode (True) or evaluation mode.

        Raises:
            FarfieldError: for training mode of a folded network.
        """
        if mode:
            self.refuse_folded("trained")
        return super().train(mode)

    def refuse_folded(self, purpose: str) -> None:
        """Check that the network is not folded.

        Args:
            purpose: end of the message "this network is folded for inference and cannot be ...", for example
                "exported".

        Raises:
            FarfieldError: if the network is folded. The message says how to load it unfolded.
        """
        if self.is_folded:
            raise FarfieldError(
                f"this network is folded for inference and cannot be {purpose}. Load it unfolded: "
                "load_model(path, for_training=True)."
            )

    def _features(self, clips: Tensor) -> Tensor | list[Tensor]:
        if clips.ndim != 5 or clips.shape[1] != 3 or not clips.is_floating_point():
            raise ValueError(
                f"a network needs clips (b 3 t h w) of floating-point numbers, normalised as network.clip says; given "
                f"{tuple(clips.shape)} of {clips.dtype}."
            )
        return self.backbone(clips)


def default_clip(backbone: str, backbone_options: Mapping[str, Any] | None = None) -> ClipSpec:
    """Return the clip settings that a backbone was designed for.

    Raises:
        FarfieldError: for an unknown name or option.
    """
    if not backbone_options:
        return _clip_without_options(backbone)
    with structure_only():
        return build_backbone(backbone, backbone_options).clip


@cache
def _clip_without_options(backbone: str) -> ClipSpec:
    with structure_only():
        return build_backbone(backbone).clip


def build_backbone(name: str, options: Mapping[str, Any] | None = None) -> Backbone:
    """Build a backbone with random weights.

    Raises:
        FarfieldError: for a name or an option that does not exist, or an invalid value.
    """
    if name not in BUILDERS:
        raise FarfieldError(f"backbone is {name!r}, which does not exist. {nearest(name, BUILDERS)}")
    known = option_defaults(name)
    for option in options or {}:
        if option not in known:
            hint = nearest(option, known) if known else "This backbone has no options."
            raise FarfieldError(f"backbone {name!r} has no option {option!r}. {hint}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit.script.*")  # raised by fvcore on import
            return BUILDERS[name](**(options or {}))
    except FarfieldError:
        raise
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise FarfieldError(
            f"backbone {name!r} does not take the options {dict(options or {})}{_reason(error)}"
        ) from error


def assemble(options: NetworkOptions) -> ActionNet:
    """Build a network with random weights. Its `config` holds the options with every default filled in.

    Raises:
        FarfieldError: for names that do not exist, incompatible options, or clips too small for the network.
    """
    labels, task = options.resolve_labels(), options.task or DEFAULT_TASK
    head_sizes = [len(names) for names in split_heads(labels).values()] if task == "multi_head" else None
    block_options = {EARLIER_NAMES.get(name, name): value for name, value in (options.block_options or {}).items()}
    if options.block == "object_context":
        block_options.setdefault("num_regions", len(labels))
    trunk = build_backbone(options.backbone, options.backbone_options)
    clip = trunk.clip.replace(**(options.clip or {}))
    if options.insert:
        insert_blocks(trunk, options.insert, lambda channels: _make_block(options.block, channels, block_options))
    description = f"{options.backbone} with insert={options.insert}"
    maps = _feature_maps(trunk, clip, description)
    head = options.head or "gap_fc"
    windows = options.head_windows
    if head in ("window_mean", "window_softmax_mean") and windows is None:
        windows = [list(shape[2:]) for shape in maps[0]]
    classifier = Head(
        trunk.head_channels,
        len(labels),
        dropout=options.dropout,
        kind=head,
        windows=windows,
        attention=options.head_options,
        map_channels=[shape[1] for shape in maps[0]],
        task=task,
        head_sizes=head_sizes,
        embedding=trunk.make_embedding(),
    )
    if windows is not None:
        for each in maps:
            _check_windows(windows, each, description)
    resolved = replace(
        options,
        backbone_options=options.backbone_options or {},
        labels=labels,
        num_classes=None,
        block_options=block_options,
        head=head,
        head_windows=windows,
        head_options=options.head_options or {},
        task=task,
        clip=cast(ClipOptions, clip.to_dict()),
    )
    return ActionNet(trunk, classifier, labels=labels, clip=clip, config=resolved.to_dict())


def assemble_uninitialised(options: NetworkOptions) -> ActionNet:
    """Build a network with uninitialised weights, to load weights into.

    This is faster than `assemble`, which draws random weights.

    Raises:
        FarfieldError: see `assemble`.
    """
    with structure_only():
        network = assemble(options)
    return allocate(network)


def allocate(network: ActionNet) -> ActionNet:
    """Move a network from the meta device to the CPU. Its weights are uninitialised until weights are loaded."""
    with without_compiler():
        network.to_empty(device="cpu")
    for name, buffer in network.named_buffers():
        if name.endswith("num_batches_tracked"):  # the only buffer that a checkpoint may lack
            buffer.zero_()
    return network


def _make_block(block: str, channels: int, options: Mapping[str, Any]) -> nn.Module:
    """Create a block to insert, for features of `channels` channels.

    Raises:
        FarfieldError: for an option that does not exist or has an invalid value.
    """
    parameters = inspect.signature(BLOCKS[block]).parameters
    known = [name for name in parameters if name not in ("channels", "ndim")]
    for name, value in options.items():
        if name not in known:
            raise FarfieldError(f"block {block!r} has no option {name!r}. {nearest(name, known)}")
        annotation = parameters[name].annotation
        if (
            annotation in ("int", "int | None")
            and type(value) is not int
            and (value is not None or annotation == "int")
        ):
            raise FarfieldError(f"block_options has {name}: {value!r}; give a whole number, e.g. {name}: 2.")
    try:
        return BLOCKS[block](channels, **options)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise FarfieldError(f"block {block!r} does not take the options {dict(options)}{_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return the end of a message about refused options: the text of a ValueError, or a general reason otherwise."""
    return f": {error}" if isinstance(error, ValueError) else ". One of the options has the wrong type or size."


def _feature_maps(trunk: Backbone, spec: ClipSpec, given: str) -> list[list[torch.Size]]:
    """Compute the shapes of the features for clips of the training size and, if it differs, of the test size.

    A copy of the trunk runs on the meta device, so only shapes are computed.

    Args:
        trunk: the backbone.
        spec: clip settings.
        given: description of the network, for messages.

    Returns:
        For each clip size, the shape (1 c t h w) of each pathway's features.

    Raises:
        FarfieldError: if the network cannot take such clips, for example because they are too small.
    """
    with without_compiler():
        valueless = shape_copy(trunk)
    advice = "Change clip.num_frames or clip.crop_px."
    sides = dict.fromkeys((spec.crop_px, spec.test_side_px))
    return [_shapes(valueless, spec.num_frames, side, given, advice) for side in sides]


def _shapes(valueless: Backbone, num_frames: int, side: int, given: str, advice: str) -> list[torch.Size]:
    """Compute the shape (1 c t h w) of each pathway's features for clips of one size.

    Args:
        valueless: the backbone on the meta device.
        num_frames: number of frames.
        side: height and width of the clips in pixels.
        given: description of the network, for messages.
        advice: what to do if the network cannot take such clips, for messages.

    Raises:
        FarfieldError: if the network cannot take such clips.
    """
    try:
        with torch.no_grad(), without_compiler():
            maps = valueless(torch.empty(1, 3, num_frames, side, side, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FarfieldError(
            f"{given} cannot take clips of {num_frames} frames of {side} px: {reason.removesuffix('.')}. {advice}"
        ) from error
    return [each.shape for each in (maps if isinstance(maps, list) else [maps])]


def check_sides(network: ActionNet, sides: Iterable[int], option: str) -> None:
    """Check that a network can take clips of the given heights and widths, in pixels.

    Args:
        network: the network.
        sides: sides of the square clips.
        option: name of the option that makes clips of these sizes, for messages.

    Raises:
        FarfieldError: if the network cannot take such clips, or the windows of its head are larger than their feature
            maps.
    """
    given = f"{network.config['backbone']}, with {option},"
    advice = f"Change clip.crop_px, or leave out {option}."
    with without_compiler():
        valueless = shape_copy(network.backbone)
    for side in sides:
        maps = _shapes(valueless, network.clip.num_frames, side, given, advice)
        if network.config["head_windows"] is not None:
            advice = f"Set head to gap_fc, or leave out {option}."
            _check_windows(network.config["head_windows"], maps, f"clips of {side} px, which {option} makes", advice)


def _check_windows(
    windows: Sequence[Sequence[int]],
    maps: list[torch.Size],
    given: str,
    advice: str = "Raise clip.num_frames or clip.crop_px, or leave head_windows out.",
) -> None:
    """Raise an error unless there is one window per pathway, not larger than the pathway's feature map.

    Args:
        windows: pooling window (t h w) of each pathway.
        maps: shape (1 c t h w) of each pathway's features.
        given: description of the network, for messages.
        advice: what to do if a window is larger than its map, for messages.
    """
    if len(windows) != len(maps):
        raise FarfieldError(
            f"the number of head_windows is {len(windows)}, and the number of pathways of {given} is {len(maps)}. Give "
            "one window per pathway."
        )
    for window, shape in zip(windows, maps, strict=True):
        if any(side > size for side, size in zip(window, shape[2:], strict=True)):
            raise FarfieldError(
                f"the head's window {list(window)} is larger than the feature map {list(shape[2:])} of {given}. "
                f"{advice}"
            )
