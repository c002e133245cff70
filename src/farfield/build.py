"""`build_model`: a network by name, with random weights or with somebody's."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from farfield.checkpoints.pretrained import find_weights, take_over, weights_clip
from farfield.clip_spec import ClipOptions, ClipSpec
from farfield.errors import FarfieldError
from farfield.models.head import HeadKind
from farfield.models.insertion import BLOCKS
from farfield.models.network import ActionNet, assemble, build_backbone, default_clip

log = logging.getLogger("farfield")


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
        labels: class names; None for those of the weights, where there are as many, or "0", "1", ...
        weights: what to begin from: "imagenet" (torchvision's ResNet, inflated), "pytorchvideo" or "torchvision" (their
            Kinetics-400 weights), or a file: a checkpoint of ours or of a peer's, or torchvision's ResNet. With other
            labels the classifier is new; if all of them are among the weights' by name, it keeps their rows. None for
            random weights.
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
    source = find_weights(weights, backbone, backbone_options, block_options if insert else None)
    if source.config is not None:
        theirs = source.config
        if theirs["backbone"] != backbone:  # X3D's smaller networks have the same weights, and other clips
            _must_have_the_same_weights(source.name, theirs, backbone, backbone_options)
            sizes = default_clip(backbone, backbone_options).to_dict()
            theirs = {**theirs, "clip": sizes | {name: theirs["clip"][name] for name in ("mean", "std")}}
            theirs["head_windows"] = None
            log.info("weights of %s, with the clips of %s", theirs["backbone"], backbone)
        given["clip"] = {**theirs["clip"], **(clip or {})}
        given["backbone_options"] = _backbone_options(theirs, backbone_options or {}, source.name)
        if labels is None and num_classes in (None, len(theirs["labels"])):
            given["labels"] = theirs["labels"]
        if head is None:
            given["head"] = theirs.get("head", "gap_fc")
            same_clip = not {"num_frames", "crop_px"} & (clip or {}).keys() and not backbone_options
            given["head_windows"] = head_windows or (theirs.get("head_windows") if same_clip else None)
        if theirs["insert"] and insert and block == theirs["block"]:
            given["block_options"] = _block_options(theirs, block_options or {}, source.name)
    network = assemble(backbone, **given)
    take_over(network, source)
    return network


def _backbone_options(theirs: Mapping[str, Any], ours: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The options of a backbone whose weights there are. A dilated one computes the same on a finer map.

    Raises:
        FarfieldError: for another option under which the weights would compute something else.
    """
    said = theirs.get("backbone_options", {})
    for option, value in ours.items():
        if option != "dilated" and option in said and said[option] != value:
            raise FarfieldError(
                f"backbone_options has {option}: {value}; the weights of {name} are of {said[option]}. Leave it out."
            )
    return {**said, **ours}


def _block_options(theirs: Mapping[str, Any], ours: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The options of blocks whose weights there are; what one leaves out follows the weights.

    Raises:
        FarfieldError: for an option under which the weights would compute something else.
    """
    said = dict(theirs["block_options"])
    if said.get("num_regions") == len(theirs["labels"]):  # a region for each class, whatever the classes are
        del said["num_regions"]
    parameters = inspect.signature(BLOCKS[theirs["block"]]).parameters
    for option, value in ours.items():
        trained = said.get(option, parameters[option].default) if option in parameters else value
        if value != trained and option != "num_regions":
            raise FarfieldError(
                f"block_options has {option}: {value}; the blocks in {name} were trained with {trained}. Leave it out."
            )
    return {**said, **ours}


def _must_have_the_same_weights(
    name: str, theirs: Mapping[str, Any], backbone: str, options: Mapping[str, Any] | None
) -> None:
    with torch.device("meta"):
        networks = (
            build_backbone(theirs["backbone"], theirs.get("backbone_options")),
            build_backbone(backbone, {**theirs.get("backbone_options", {}), **(options or {})} if options else None),
        )
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in networks]
    if shapes[0] != shapes[1]:
        raise FarfieldError(f"the weights of {name} are of another network ({theirs['backbone']}) than {backbone}.")


def resolve_clip(
    backbone: str,
    clip: ClipOptions | None = None,
    weights: str | Path | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    block_options: Mapping[str, Any] | None = None,
) -> ClipSpec:
    """The clips that `build_model` gives a network of these arguments.

    Raises:
        FarfieldError: for names that do not exist, or values that no clip can have.
    """
    spec = default_clip(backbone, backbone_options)
    theirs = None if weights is None else weights_clip(weights, backbone, backbone_options, block_options)
    return spec.replace(**{**(theirs or {}), **(clip or {})})
