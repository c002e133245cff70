"""`build_model`: a network by name, with random weights or with somebody's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from farfield.clip_spec import ClipOptions, ClipSpec
from farfield.models.head import HeadKind
from farfield.models.network import ActionNet, assemble, default_clip
from farfield.models.weights import find_weights, take_over, weights_clip


def build_model(
    backbone: str,
    *,
    num_classes: int | None = None,
    labels: Sequence[str] | None = None,
    weights: str | Path | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    insert: str | Mapping[str, Sequence[int]] | None = None,
    block: str = "non_local",
    block_options: Mapping[str, Any] | None = None,
    dropout: float = 0.5,
    head: HeadKind | None = None,
    head_windows: Sequence[Sequence[int]] | None = None,
    clip: ClipOptions | None = None,
) -> ActionNet:
    """Builds a network.

    Args:
        backbone: a name in `BACKBONES`.
        num_classes: number of classes; may be left out where `labels` are given, or weights of a video network.
        labels: class names; "0", "1", ... where only their number is given, those of the weights where nothing is.
        weights: what to begin from: "imagenet" (torchvision's ResNet, inflated), "pytorchvideo" or "torchvision" (their
            Kinetics-400 weights), or a file: a checkpoint of ours or of a peer's, or torchvision's ResNet. With other
            labels the classifier is new, but for those that are among the weights' by name. None for random weights.
        backbone_options: the backbone's own options, as {"dilated": True}.
        insert: where to insert blocks: a preset ("nl1", "nl5", "nl10", "nl5_r101", "nl3_r101"), or {stage: indices of
            residual blocks}, as {"res3": [1, 3], "fast_res3": [1]}. None inserts none.
        block: what to insert, a name in `BLOCKS`.
        block_options: keyword arguments of that block, as {"key_pool": None}. The regions of "object_context" are as
            many as the classes unless num_regions says otherwise.
        dropout: probability of dropping a feature before the classifier.
        head: "gap_fc", "window_mean" or "window_softmax_mean", see farfield.models.head. None for that of the weights,
            or "gap_fc".
        head_windows: for the window heads, (t h w) for each pathway; None for the size of the feature map of `clip`.
        clip: values in which clips differ from what the weights, or else the backbone, were made for.

    Raises:
        FarfieldError: for a name that does not exist, options that do not go together, or weights that do not fit.
    """
    given: dict[str, Any] = {
        "num_classes": num_classes,
        "labels": labels,
        "backbone_options": backbone_options,
        "insert": insert,
        "block": block,
        "block_options": block_options,
        "dropout": dropout,
        "head": head or "gap_fc",
        "head_windows": head_windows,
        "clip": clip,
    }
    if weights is None:
        return assemble(backbone, **given)
    source = find_weights(weights, backbone, backbone_options)
    if source.config is not None:
        theirs = source.config
        given["clip"] = {**theirs["clip"], **(clip or {})}
        given["backbone_options"] = {**theirs.get("backbone_options", {}), **(backbone_options or {})}
        if labels is None and num_classes is None:
            given["labels"] = theirs["labels"]
        if head is None:
            given["head"] = theirs.get("head", "gap_fc")
            same_clip = not {"num_frames", "crop_px"} & (clip or {}).keys() and not backbone_options
            given["head_windows"] = head_windows or (theirs.get("head_windows") if same_clip else None)
        if insert and block == theirs["block"] and block_options is None:
            given["block_options"] = theirs["block_options"]
    network = assemble(backbone, **given)
    take_over(network, source)
    return network


def resolve_clip(
    backbone: str,
    clip: ClipOptions | None = None,
    weights: str | Path | None = None,
    backbone_options: Mapping[str, Any] | None = None,
) -> ClipSpec:
    """The clips that `build_model` gives a network of these arguments.

    Raises:
        FarfieldError: for names that do not exist, or values that no clip can have.
    """
    spec = default_clip(backbone, backbone_options)
    theirs = None if weights is None else weights_clip(weights, backbone)
    return spec.replace(**{**(theirs or {}), **(clip or {})})
