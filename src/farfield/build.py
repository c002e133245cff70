"""Build a network by name, with random or pretrained weights."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from farfield.argument_types import checked_arguments
from farfield.checkpoints.pretrained import PretrainedWeights, find_weights, load_pretrained, weights_clip
from farfield.clip_spec import ClipOptions, ClipSpec
from farfield.errors import FarfieldError
from farfield.models.head_kinds import HeadKind
from farfield.models.insertion import BLOCKS
from farfield.models.network import ActionNet, assemble, build_backbone, default_clip
from farfield.models.network_options import NetworkOptions
from farfield.models.structure_only import structure_only
from farfield.task import Task

log = logging.getLogger("farfield")


@checked_arguments
def build_model(
    backbone: str,
    *,
    num_classes: int | None = None,
    labels: Sequence[str] | None = None,
    weights: str | Path | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    insert: str | Mapping[str, Sequence[int] | int] | None = None,
    block: str = NetworkOptions.block,
    block_options: Mapping[str, Any] | None = None,
    dropout: float = NetworkOptions.dropout,
    head: HeadKind | None = None,
    head_windows: Sequence[Sequence[int]] | None = None,
    head_options: Mapping[str, Any] | None = None,
    clip: ClipOptions | None = None,
    task: Task | None = None,
) -> ActionNet:
    """Build a network with random or pretrained weights. Examples below are in YAML notation.

    Args:
        backbone: name of the backbone, e.g. i3d_r50. `farfield summary all` lists the names.
        num_classes: number of classes; optional with `labels`, or with weights of a video network.
        labels: class names. Default: the labels of the weights if `num_classes` is None or equals the number of these
            labels, else "0", "1", ...
        weights: initial weights. A model zoo: "imagenet" (an image network, inflated to 3D), "pytorchvideo" or
            "torchvision" (both Kinetics-400). A file: a farfield checkpoint, a checkpoint that `farfield convert`
            reads, or an image network (torchvision's ResNet, or EfficientNet-Lite0). A folder that `farfield export
            --to_folder` wrote. For the backbone "hf": the folder of a Hugging Face model, or its name on huggingface.co
            (docs/guides/encoders.md). If the labels of the weights include all classes of the new network, the
            classifier is loaded, too, with only the rows of these classes; otherwise the classifier is random. Default:
            random weights.
        backbone_options: options of the backbone, e.g. {dilated: true}.
        insert: where to insert blocks: a preset, named after its number of blocks (nl1, nl5, nl10, nl5_r101, nl3_r101),
            or a dict. {res3: [1, 3], fast_res3: [1]} inserts blocks after the residual blocks 1 and 3 of stage res3 and
            after the residual block 1 of fast_res3; indices count from 0. {top: 2} inserts two blocks after the last
            stage, on the features that the head pools. In a network with two pathways, {fast_top: 2} inserts two blocks
            after the last stage of the fast pathway. Default: nowhere.
        block: type of block to insert: non_local, self_attention, dual_attention, criss_cross, coordinate_attention or
            object_context.
        block_options: keyword arguments of the block, e.g. {pairwise: dot_product, key_pool: null}. object_context has
            one region per class unless num_regions is set.
        dropout: probability of dropping a feature before the classifier.
        head: how features are pooled and classified, see farfield.models.head. "gap_fc" averages the features of all
            positions, then classifies. "window_mean" classifies windows of the size `head_windows`, and averages their
            logits; "window_softmax_mean" averages the windows' probabilities instead. These three give the same
            probabilities if a window covers the whole feature map, as it normally does on clips of the training size.
            "attentive" pools features by attention with a learned query instead of averaging them. Default: the head of
            the network that the weights come from, or gap_fc.
        head_windows: for the heads "window_mean" and "window_softmax_mean": size (t h w) of each pathway's pooling
            window, counted in positions of the pathway's feature map. Default: the size of the feature map for `clip`.
            Exception: if the weights come from a network with the same backbone and with windows, the default is the
            windows of that network, unless `head`, `backbone_options` or the clip setting num_frames or crop_px is
            given.
        head_options: options of the attentive head, keyword arguments of farfield.layers.AttentivePool3d, e.g.
            {depth: 4, num_heads: 16}.
        clip: clip settings that differ from the defaults. With weights of a video network with the same backbone, the
            defaults are the clip settings of that network. Otherwise they are the backbone's; but with weights of a
            video network with another backbone, mean and std are those of that network.
        task: "single_label" if each video has exactly one of the classes, "multilabel" if it may have several or none,
            "multi_head" if the classes form several groups, such as verbs and nouns, and each video has one class of
            each group. These groups are called heads, too. Labels of a multi_head network are named head:class, such as
            verb:open and noun:door. Default: the task of the weights if their labels are used, else single_label.

    Raises:
        FarfieldError: for a name that does not exist, incompatible options, or weights that do not fit.
    """
    options = NetworkOptions(
        backbone,
        num_classes=num_classes,
        labels=labels,
        backbone_options=backbone_options,
        insert=insert,
        block=block,
        block_options=block_options,
        dropout=dropout,
        head=head,
        head_windows=head_windows,
        head_options=head_options,
        clip=clip,
        task=task,
    )
    if weights is None:
        return assemble(options)
    pretrained = find_weights(weights, backbone, backbone_options, block_options if insert else None)
    network = assemble(_with_pretrained_options(options, pretrained))
    load_pretrained(network, pretrained)
    smallest = network.backbone.smallest_side_px
    if pretrained.config is not None and pretrained.config["clip"]["crop_px"] >= smallest > network.clip.crop_px:
        log.warning(
            "%s is made for clips of at least %d px: with clip.crop_px %d, relative positions mean something else than "
            "in the weights, which were trained on %d px. Set clip.crop_px to %d or more.",
            backbone,
            smallest,
            network.clip.crop_px,
            pretrained.config["clip"]["crop_px"],
            smallest,
        )
    return network


def _with_pretrained_options(options: NetworkOptions, pretrained: PretrainedWeights) -> NetworkOptions:
    """Return `options`, with unset options filled in from the pretrained network.

    An image network fills in nothing. A video network always fills in clip settings, backbone options, and the head
    with its options. In addition, it fills in
    - `head_windows`, under the conditions that `build_model` states;
    - labels and task, if it has labels, `options.labels` is None, and `options.num_classes` is None or equals the
      number of its labels;
    - block options, if both networks have inserted blocks of the same type.

    The pretrained network may have another backbone, if both backbones have the same weight names and shapes. In that
    case, only `mean` and `std` are taken from the pretrained network's clip settings.

    Raises:
        FarfieldError: if a backbone option (except `dilated`) or a block option (except `num_regions`) differs from
            the pretrained network's, or if the weights belong to another backbone and do not fit.
    """
    config = pretrained.config
    if config is None:  # weights of an image network set no option
        return options
    if config["backbone"] != options.backbone:  # X3D's smaller networks share weights, but not clip settings
        _check_same_shapes(pretrained.name, config, options)
        sizes = default_clip(options.backbone, options.backbone_options).to_dict()
        clip = sizes | {name: config["clip"][name] for name in ("mean", "std")}
        config = {**config, "clip": clip, "head_windows": None}
        log.info("using the weights of %s with the clip settings of %s", config["backbone"], options.backbone)
    changes: dict[str, Any] = {
        "clip": {**config["clip"], **(options.clip or {})},
        "backbone_options": _merge_backbone_options(config, options.backbone_options or {}, pretrained.name),
    }
    if options.labels is None and config["labels"] and options.num_classes in (None, len(config["labels"])):
        changes["labels"] = config["labels"]
        changes["task"] = options.task or config.get("task")
    if options.head is None:
        changes["head"] = config.get("head", "gap_fc")
        same_size = not {"num_frames", "crop_px"} & (options.clip or {}).keys() and not options.backbone_options
        changes["head_windows"] = options.head_windows or (config.get("head_windows") if same_size else None)
    if changes.get("head", options.head) == config.get("head") == "attentive":
        changes["head_options"] = {**(config.get("head_options") or {}), **(options.head_options or {})}
    if config["insert"] and options.insert and options.block == config["block"]:
        changes["block_options"] = _merge_block_options(config, options.block_options or {}, pretrained.name)
    return replace(options, **changes)


def _merge_backbone_options(config: Mapping[str, Any], given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the pretrained network's backbone options together with the options in `given`.

    Args:
        config: fields of the pretrained network's `NetworkOptions`.
        given: backbone options that are set.
        name: path of the weights, for messages.

    Raises:
        FarfieldError: if an option in `given` has another value in `config`, since the weights were trained with the
            value in `config`. Only `dilated` may differ, because it just refines the feature map; the value in `given`
            is then used.
    """
    trained = config.get("backbone_options", {})
    for option, value in given.items():
        if option != "dilated" and option in trained and trained[option] != value:
            raise FarfieldError(
                f"backbone_options has {option}: {value}, but the weights of {name} were trained with "
                f"{trained[option]}. Leave out {option}."
            )
    return {**trained, **given}


def _merge_block_options(config: Mapping[str, Any], given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the pretrained network's block options together with the options in `given`.

    If the pretrained network has one region per class, its `num_regions` is not copied, so that the new network gets
    one region for each of its own classes.

    Args:
        config: fields of the pretrained network's `NetworkOptions`.
        given: block options that are set.
        name: path of the weights, for messages.

    Raises:
        FarfieldError: if an option in `given` has another value in the pretrained network, whose weights were trained
            with that other value. `num_regions` is not checked here: if it is wrong, shapes differ, and loading the
            weights fails.
    """
    options = dict(config["block_options"])
    if options.get("num_regions") == len(config["labels"]):  # one region per class: follows the new classes
        del options["num_regions"]
    parameters = inspect.signature(BLOCKS[config["block"]]).parameters
    for option, value in given.items():
        trained = options.get(option, parameters[option].default) if option in parameters else value
        if value != trained and option != "num_regions":
            raise FarfieldError(
                f"block_options has {option}: {value}, but the blocks in {name} were trained with {trained}. Leave out "
                f"{option}."
            )
    return {**options, **given}


def _check_same_shapes(name: str, config: Mapping[str, Any], options: NetworkOptions) -> None:
    """Raise `FarfieldError` if the backbones in `config` and `options` differ in weight names or shapes.

    Args:
        name: path of the weights, for messages.
        config: fields of the pretrained network's `NetworkOptions`.
        options: options of the new network.
    """
    trained = config.get("backbone_options")
    given = {**(trained or {}), **options.backbone_options} if options.backbone_options else None
    with structure_only():
        networks = build_backbone(config["backbone"], trained), build_backbone(options.backbone, given)
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in networks]
    if shapes[0] != shapes[1]:
        raise FarfieldError(
            f"backbone is {options.backbone}, but the weights of {name} are for {config['backbone']} and do not fit. "
            f"Set backbone to {config['backbone']}, or choose other weights."
        )


def resolve_clip(
    backbone: str,
    clip: ClipOptions | None = None,
    weights: str | Path | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    block_options: Mapping[str, Any] | None = None,
) -> ClipSpec:
    """Return the clip settings of the network that `build_model` builds with these arguments.

    Raises:
        FarfieldError: for a name that does not exist, or invalid clip settings.
    """
    pretrained = None if weights is None else weights_clip(weights, backbone, backbone_options, block_options)
    if backbone == "hf" and pretrained is not None and "num_frames" in pretrained:  # they define the network
        spec = ClipSpec.from_dict(pretrained)
    else:
        spec = default_clip(backbone, backbone_options)
    return spec.replace(**{**(pretrained or {}), **(clip or {})})
