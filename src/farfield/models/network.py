"""The network: a backbone, inserted blocks and a head, with all that it needs to know to be used."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.clip_spec import ClipOptions, ClipSpec
from farfield.errors import FarfieldError, nearest
from farfield.layers import GlobalAvgPool3d
from farfield.models.backbones import BACKBONES, Backbone
from farfield.models.insertion import BLOCKS, insert_blocks


class Head(nn.Module):
    """Global average pooling, dropout, one linear layer: (b c t h w) -> (b classes)."""

    def __init__(self, channels: int, num_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.pool = GlobalAvgPool3d()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, features: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b classes"]:
        return self.fc(self.dropout(self.pool(features)))


class ActionNet(nn.Module):
    """Recognises actions in clips. Made by `build_model` or `load_model`.

    Attributes:
        labels: class names, in the order of the scores.
        clip: what the network wants of a clip.
        config: the arguments of `build_model` that make this network, in plain types.
    """

    def __init__(
        self, backbone: Backbone, head: Head, *, labels: list[str], clip: ClipSpec, config: dict[str, Any]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.labels = labels
        self.clip = clip
        self.config = config

    def forward(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b classes"]:
        """Scores clips that are normalised as `clip` says; `softmax(-1)` makes them class probabilities."""
        return self.head(self.backbone(clips))


def default_clip(backbone: str) -> ClipSpec:
    """Returns the clips that a backbone was designed for.

    Raises:
        FarfieldError: for an unknown name.
    """
    with torch.device("meta"):  # builds the structure without allocating or drawing weights
        return _builder(backbone)().clip


def build_model(
    backbone: str,
    *,
    num_classes: int | None = None,
    labels: Sequence[str] | None = None,
    insert: str | Mapping[str, Sequence[int]] | None = None,
    block: str = "non_local",
    block_options: Mapping[str, Any] | None = None,
    dropout: float = 0.5,
    clip: ClipOptions | None = None,
) -> ActionNet:
    """Builds a network with random weights.

    Args:
        backbone: a name in `BACKBONES`.
        num_classes: number of classes; may be left out where `labels` are given.
        labels: class names; "0", "1", ... where only their number is given.
        insert: where to insert blocks: a preset ("nl1", "nl5", "nl10"), or {stage: indices of residual blocks},
            as {"res3": [1, 3], "res4": [1, 3, 5]}. None inserts none.
        block: what to insert, a name in `BLOCKS`.
        block_options: keyword arguments of that block, as {"key_pool": None}. The regions of "object_context" are as
            many as the classes unless num_regions says otherwise.
        dropout: probability of dropping a feature before the classifier.
        clip: values in which clips differ from what the backbone was designed for.

    Raises:
        FarfieldError: for a name that does not exist, or options that do not go together.
    """
    labels = _resolve_labels(num_classes, labels)
    if not 0 <= dropout < 1:
        raise FarfieldError(f"dropout is {dropout}; it is a probability, at least 0 and below 1.")
    if block not in BLOCKS:
        raise FarfieldError(f"block is {block!r}, which does not exist. {nearest(block, BLOCKS)}")
    options = dict(block_options or {})
    if not insert and (block != "non_local" or options):
        raise FarfieldError(
            f"block is {block!r} with options {options}, but insert says nowhere. Give insert, as 'nl5' or "
            "{'res3': [1]}, or leave both out."
        )
    if "ndim" in options:
        raise FarfieldError("block_options has ndim; blocks in a video network have 3 axes. Leave it out.")
    if block == "object_context":
        options.setdefault("num_regions", len(labels))
    trunk = _builder(backbone)()
    spec = trunk.clip.replace(**(clip or {}))
    if insert:

        def make_block(channels: int) -> nn.Module:
            known = [name for name in inspect.signature(BLOCKS[block]).parameters if name not in ("channels", "ndim")]
            for name in options:
                if name not in known:
                    raise FarfieldError(f"block {block!r} has no option {name!r}. {nearest(name, known)}")
            try:
                return BLOCKS[block](channels, **options)
            except (TypeError, ValueError) as error:
                raise FarfieldError(f"block {block!r} does not take the options {options}: {error}") from error

        insert_blocks(trunk, insert, make_block)
    config = {
        "backbone": backbone,
        "labels": labels,
        "insert": insert if isinstance(insert, str | None) else {stage: list(i) for stage, i in insert.items()},
        "block": block,
        "block_options": options,
        "dropout": dropout,
        "clip": spec.to_dict(),
    }
    head = Head(trunk.out_channels, len(labels), dropout=dropout)
    network = ActionNet(trunk, head, labels=labels, clip=spec, config=config)
    _check_input_size(network)
    return network


def _check_input_size(network: ActionNet) -> None:
    """Runs the network's shapes, without numbers, so that a clip too small for it shows at construction."""
    spec = network.clip
    clip = torch.empty(1, 3, spec.num_frames, spec.crop_px, spec.crop_px, device="meta")
    try:
        with torch.no_grad():
            copy.deepcopy(network).to("meta").eval()(clip)
    except (RuntimeError, ValueError) as error:
        raise FarfieldError(
            f"{network.config['backbone']} with insert={network.config['insert']} cannot take clips of "
            f"{spec.num_frames} frames of {spec.crop_px} px: {str(error).splitlines()[0]} "
            "Raise clip.num_frames or clip.crop_px."
        ) from error


def _builder(backbone: str):
    if backbone not in BACKBONES:
        raise FarfieldError(f"backbone is {backbone!r}, which does not exist. {nearest(backbone, BACKBONES)}")
    return BACKBONES[backbone]


def _resolve_labels(num_classes: int | None, labels: Sequence[str] | None) -> list[str]:
    if labels is None:
        if num_classes is None or num_classes < 2:
            raise FarfieldError(f"a network needs labels or num_classes, at least 2; num_classes is {num_classes}.")
        return [str(i) for i in range(num_classes)]
    names = [str(label) for label in labels]
    if num_classes is not None and num_classes != len(names):
        raise FarfieldError(f"num_classes is {num_classes}, but there are {len(names)} labels. Leave num_classes out.")
    if len(set(names)) != len(names) or len(names) < 2:
        raise FarfieldError(f"labels must be at least two and all different; given {names[:20]}.")
    return names
