"""The network: a backbone, inserted blocks and a head, with all that it needs to know to be used."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.clip_spec import ClipOptions, ClipSpec
from farfield.errors import FarfieldError, nearest
from farfield.models.backbones import BACKBONES, Backbone, option_defaults
from farfield.models.head import Head, HeadKind
from farfield.models.insertion import BLOCKS, insert_blocks


class ActionNet(nn.Module):
    """Recognises actions in clips. Made by `build_model` or `load_network`.

    Attributes:
        labels: class names, in the order of the scores.
        clip: what the network wants of a clip.
        config: the arguments of `build_model` that make this network, in plain types.
        is_folded: batch norms are folded into convolutions for inference, so the network can be neither trained nor
            saved.
    """

    is_folded = False

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
    def device(self) -> torch.device:
        """Where it runs."""
        return self.head.fc.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights, and of the clips that it takes."""
        return self.head.fc.weight.dtype

    def forward(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b classes"]:
        """Scores clips that are normalised as `clip` says; `softmax(-1)` makes them class probabilities.

        Raises:
            ValueError: for other than floating-point clips of five axes and three channels.
        """
        return self.head(self._features(clips))

    def embed(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b v c"]:
        """What the classifier sees of clips: one vector each, or with a head of windows one for each window.

        `head.classify` makes scores of it.

        Raises:
            ValueError: as `forward`.
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
            purpose: what it cannot be, as "trained".

        Raises:
            FarfieldError: if it is folded, with the option that loads the plain network.
        """
        if self.is_folded:
            raise FarfieldError(
                f"this network is folded for inference and cannot be {purpose}. Load the plain one: "
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
    """Returns the clips that a backbone was designed for.

    Raises:
        FarfieldError: for an unknown name or option.
    """
    with torch.device("meta"):  # builds the structure without allocating or drawing weights
        return build_backbone(backbone, backbone_options).clip


def build_backbone(name: str, options: Mapping[str, Any] | None = None) -> Backbone:
    """Builds a backbone with random weights.

    Raises:
        FarfieldError: for a name or an option that does not exist, or an option that makes no sense.
    """
    if name not in BACKBONES:
        raise FarfieldError(f"backbone is {name!r}, which does not exist. {nearest(name, BACKBONES)}")
    known = option_defaults(name)
    for option in options or {}:
        if option not in known:
            hint = nearest(option, known) if known else "It has none."
            raise FarfieldError(f"backbone {name!r} has no option {option!r}. {hint}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit.script.*")  # fvcore's, as it is imported
            return BACKBONES[name](**(options or {}))
    except FarfieldError:
        raise
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise FarfieldError(
            f"backbone {name!r} does not take the options {dict(options or {})}{_as_reason(error)}"
        ) from error


def assemble(
    backbone: str,
    *,
    num_classes: int | None = None,
    labels: Sequence[str] | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    insert: str | Mapping[str, Sequence[int]] | None = None,
    block: str = "non_local",
    block_options: Mapping[str, Any] | None = None,
    dropout: float = 0.5,
    head: HeadKind = "gap_fc",
    head_windows: Sequence[Sequence[int]] | None = None,
    clip: ClipOptions | None = None,
) -> ActionNet:
    """Puts a network together, with random weights. The arguments are those of `build_model`.

    Raises:
        FarfieldError: as `build_model`.
    """
    labels = _resolve_labels(num_classes, labels)
    if not 0 <= dropout < 1:
        raise FarfieldError(f"dropout is {dropout}; it is a probability, at least 0 and below 1.")
    if block not in BLOCKS:
        raise FarfieldError(f"block is {block!r}, which does not exist. {nearest(block, BLOCKS)}")
    options = dict(block_options or {})
    if isinstance(insert, Mapping) and any(isinstance(indices, int | str) for indices in insert.values()):
        raise FarfieldError(f"insert is {dict(insert)}; give lists of residual blocks, as {{'res4': [1]}}.")
    if not insert and (block != "non_local" or options):
        raise FarfieldError(
            f"block is {block!r} with options {options}, but insert says nowhere. Give insert, as 'nl5' or "
            "{'res3': [1]}, or leave both out."
        )
    if "ndim" in options:
        raise FarfieldError("block_options has ndim; blocks in a video network have 3 axes. Leave it out.")
    if block == "object_context":
        options.setdefault("num_regions", len(labels))
    trunk = build_backbone(backbone, backbone_options)
    spec = trunk.clip.replace(**(clip or {}))
    if insert:
        insert_blocks(trunk, insert, lambda channels: _make_block(block, channels, options))
    given = f"{backbone} with insert={insert}"
    maps = _feature_maps(trunk, spec, given)
    if head != "gap_fc" and head_windows is None:
        head_windows = [list(shape[2:]) for shape in maps[0]]
    config = {
        "backbone": backbone,
        "backbone_options": _plain(backbone_options or {}),
        "labels": labels,
        "insert": insert if isinstance(insert, str | None) else {stage: list(i) for stage, i in insert.items()},
        "block": block,
        "block_options": options,
        "dropout": dropout,
        "head": head,
        "head_windows": None if head_windows is None else [list(window) for window in head_windows],
        "clip": spec.to_dict(),
    }
    classifier = Head(
        trunk.head_channels,
        len(labels),
        dropout=dropout,
        kind=head,
        windows=head_windows,
        embedding=trunk.make_embedding(),
    )
    if head_windows is not None:
        for each in maps:
            _check_windows(head_windows, each, given)
    return ActionNet(trunk, classifier, labels=labels, clip=spec, config=config)


def _make_block(block: str, channels: int, options: Mapping[str, Any]) -> nn.Module:
    known = [name for name in inspect.signature(BLOCKS[block]).parameters if name not in ("channels", "ndim")]
    for name in options:
        if name not in known:
            raise FarfieldError(f"block {block!r} has no option {name!r}. {nearest(name, known)}")
    try:
        return BLOCKS[block](channels, **options)
    except (TypeError, ValueError) as error:
        raise FarfieldError(f"block {block!r} does not take the options {dict(options)}{_as_reason(error)}") from error


def _as_reason(error: Exception) -> str:
    """The message of a layer, which is made for people; Python's own are not."""
    return f": {error}" if isinstance(error, ValueError) else ". One has a value of another type or size than it needs."


def _feature_maps(trunk: Backbone, spec: ClipSpec, given: str) -> list[list[torch.Size]]:
    """The shape of each pathway's features on clips of the training and, where it differs, the test size.

    Only shapes are run, without numbers, so that a clip too small for the network shows at construction.
    """
    shapes = []
    for side in dict.fromkeys((spec.crop_px, spec.test_side_px)):
        clip = torch.empty(1, 3, spec.num_frames, side, side, device="meta")
        try:
            with torch.no_grad():
                maps = copy.deepcopy(trunk).to("meta").eval()(clip)
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise FarfieldError(
                f"{given} cannot take clips of {spec.num_frames} frames of {side} px: {reason} "
                "Change clip.num_frames or clip.crop_px."
            ) from error
        shapes.append([each.shape for each in (maps if isinstance(maps, list) else [maps])])
    return shapes


def _check_windows(windows: Sequence[Sequence[int]], maps: list[torch.Size], given: str) -> None:
    if len(windows) != len(maps):
        raise FarfieldError(f"head_windows has {len(windows)} windows; {given} has {len(maps)} pathways. Give as many.")
    for window, shape in zip(windows, maps, strict=True):
        if any(side > size for side, size in zip(window, shape[2:], strict=True)):
            raise FarfieldError(
                f"the head's window {list(window)} is larger than the feature map {list(shape[2:])} of {given}. "
                "Raise clip.num_frames or clip.crop_px, or leave head_windows out."
            )


def _plain(value: Any) -> Any:
    """Lists and dicts of plain types, as a checkpoint or a YAML file gives them back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _resolve_labels(num_classes: int | None, labels: Sequence[str] | None) -> list[str]:
    if labels is None:
        if num_classes is None or num_classes < 2:
            raise FarfieldError(f"a network needs labels or num_classes, at least 2; num_classes is {num_classes}.")
        return [str(i) for i in range(num_classes)]
    names = [str(label) for label in labels]
    if num_classes is not None and num_classes != len(names):
        raise FarfieldError(f"num_classes is {num_classes}, but there are {len(names)} labels. Leave num_classes out.")
    if len(names) < 2:
        raise FarfieldError(f"labels must be at least two; given {names}.")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise FarfieldError(f"labels must be all different; more than once: {', '.join(twice[:5])}.")
    return names
