"""Convert a checkpoint of any known project to an `ActionNet`, and report on every weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farfield.checkpoints.converters.caffe2 import describe_caffe2
from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.checkpoints.converters.mmaction2 import describe_mmaction2
from farfield.checkpoints.converters.pyslowfast import describe_pyslowfast, take_rgb
from farfield.checkpoints.converters.pyslowfast_config import read_cfg, slowfast_alpha, task_of
from farfield.checkpoints.converters.pyslowfast_datasets import (
    dataset_labels,
    dataset_loader,
    pyslowfast_clip,
    takes_bgr,
)
from farfield.checkpoints.converters.pytorchvideo_and_torchvision import describe_pytorchvideo, describe_torchvision
from farfield.checkpoints.converters.restricted_unpickler import Placeholder, as_tensors, read_file
from farfield.checkpoints.converters.source_checkpoint import SourceCheckpoint, shapes_of
from farfield.checkpoints.state_dicts import NetworkState, find_network, origin_of
from farfield.errors import FarfieldError
from farfield.kinetics_labels import kinetics400_labels
from farfield.models.network import ActionNet, allocate, assemble
from farfield.models.network_options import NetworkOptions
from farfield.models.network_weight_names import to_network
from farfield.models.structure_only import structure_only


@dataclass
class ConversionReport:
    """How each weight was converted, or why it was left out.

    Attributes:
        origin: project that wrote the checkpoint.
        mapped: dict from each weight's name in the file to its name in the network.
        set_to_zero: keys of batch-norm counters (num_batches_tracked) that the file lacks, and that are set to 0.
            PyTorch uses such a counter only in batch norms with momentum=None.
        ignored: (name, reason) of each weight that is left out on purpose.
        notes: information for the user, such as assumptions about settings that the file does not state.
    """

    origin: str
    mapped: dict[str, str]
    set_to_zero: list[str] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def convert_file(
    path: str | Path, *, labels: Sequence[str] | None = None, options: ConversionOptions | None = None
) -> tuple[ActionNet, ConversionReport]:
    """Convert another project's checkpoint to a network in evaluation mode.

    Args:
        path: checkpoint file: PySlowFast's .pyth, PyTorchVideo's hub files, MMAction2's and torchvision's .pth,
            Caffe2's .pkl.
        labels: class names, one per class. With None, a network that PySlowFast trained on Charades gets Charades'
            class codes, any other network of 400 classes gets Kinetics-400's names, and all others get the numbers
            "0", "1", ...
        options: settings that the file does not state; None for no settings. `clip` and `head` may also override
            settings that the file states.

    Raises:
        FarfieldError: if the file cannot be read or has an unknown origin; if weights are missing, unexpected or of
            another shape; if the network cannot be converted exactly; or if settings are missing or contradict the
            file.
    """
    options = options or ConversionOptions()
    try:
        return _convert(path, labels, options)
    except _MALFORMED as error:
        if isinstance(error, FarfieldError):
            raise
        raise FarfieldError(
            f"{path} cannot be converted: its weights are named as in a project that farfield can convert, but their "
            "shapes or the config do not describe a network of that project. Check that the network was not changed "
            "and that the config belongs to it. Nothing was converted."
        ) from error


_MALFORMED = (
    TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, RuntimeError, MemoryError,
)  # fmt: skip
"""Exceptions caused by malformed configs and by weights with unexpected numbers of dimensions."""


def _convert(
    path: str | Path, labels: Sequence[str] | None, options: ConversionOptions
) -> tuple[ActionNet, ConversionReport]:
    found = describe_file(path, options)
    found.arguments.setdefault("backbone_options", {})
    _check_no_contradiction(found, options, path)
    arguments = found.arguments | ({"backbone": options.backbone} if options.backbone else {})
    for name in ("backbone_options", "block_options", "clip"):
        arguments[name] = {**arguments.get(name, {}), **getattr(options, name)}
    if options.task:
        arguments |= {"task": options.task}
    if options.head:
        arguments |= {"head": options.head}
    if options.head or {"num_frames", "crop_px"} & options.clip.keys():
        arguments.pop("head_windows", None)
    if found.questions:
        raise FarfieldError(
            f"{path} ({found.origin}) does not state these settings. Give them as options:\n  - "
            + "\n  - ".join(found.questions)
        )
    network_options = NetworkOptions(**arguments, labels=_labels(found, labels, path))
    with structure_only():  # shapes only: a small file may describe a network larger than memory
        network = assemble(network_options)
        state, report = _match(network, found, path)
    allocate(network).load_state_dict(state)
    return network.eval(), report


def describe_file(path: str | Path, options: ConversionOptions) -> SourceCheckpoint:
    """Read another project's checkpoint, and derive network options and renamed weights from it.

    The project is recognised by the names of the weights.

    Raises:
        FarfieldError: for a file that cannot be read, has an unknown origin, or also holds weights that do not
            belong to the network.
    """
    content = read_file(path)
    if not isinstance(content, Mapping):
        hint = " If it is a pickled network, load it in the code that defines it, and save network.state_dict()."
        raise FarfieldError(
            f"{path} holds a {type(content).__name__}, but a checkpoint must be a dict of weights by name."
            f"{hint if isinstance(content, Placeholder) else ''}"
        )
    blobs = content.get("blobs", content)
    if isinstance(blobs, Mapping) and "conv1_w" in blobs:
        return describe_caffe2(blobs, options, path)
    found = find_network(content, path, options.take)
    if found.beside and origin_of(found.values) != "image ResNet":
        some = ", ".join(found.beside[:3]) + (f" and {len(found.beside) - 3} more" if len(found.beside) > 3 else "")
        raise FarfieldError(
            f"{path} holds a network, with the prefix {found.prefix!r}, and further weights: {some}. The scores may "
            f"depend on the further weights. If the scores do not depend on them, run: farfield convert {path} OUT "
            f"--take {found.prefix.rstrip('.')}."
        )
    described = _describe_network(found, content, options, path)
    described.own_names = {plain: found.names.get(own, own) for plain, own in described.own_names.items()}
    described.unknown = [found.names.get(name, name) for name in described.unknown]
    described.ignored = [(found.names.get(name, name), reason) for name, reason in described.ignored] + found.ignored
    described.notes = found.notes + described.notes
    return described


def _describe_network(
    found: NetworkState, content: Mapping[Any, Any], options: ConversionOptions, path: Any
) -> SourceCheckpoint:
    """Derive network options and renamed weights from a PyTorch checkpoint, using the converter of its project.

    Raises:
        FarfieldError: for an unknown project, an image network, or weights of a farfield network.
    """
    state, origin = as_tensors(found.values, path), origin_of(found.values)
    if origin == "PySlowFast":
        return describe_pyslowfast(state, read_cfg(content.get("cfg"), path), options, path)
    if origin == "MMAction2":
        return describe_mmaction2(state, content.get("meta"), options, path)
    of_pyslowfast = found.container == "model_state" or isinstance(content.get("cfg"), str)
    if origin == "PyTorchVideo" and found.prefix == "model." and of_pyslowfast:
        return _describe_wrapped_pytorchvideo(state, read_cfg(content.get("cfg"), path), options, path)
    if origin == "PyTorchVideo":
        return describe_pytorchvideo(state, options, path)
    if origin == "image ResNet":
        raise FarfieldError(
            f"{path} is an image network (ResNet). To initialise a video network from it, use "
            f"build_model('i3d_r50', ..., weights={str(path)!r}), or farfield fit --model.weights."
        )
    if origin == "torchvision":
        return describe_torchvision(state, options, path)
    if origin == "farfield":
        raise FarfieldError(
            f"{path} holds weights of a farfield network without the network options. Build the same network with "
            "build_model, call load_state_dict, and save it with farfield.save_model."
        )
    some = ", ".join(list(state)[:3])
    raise FarfieldError(
        f"{path} has an unknown origin: its weights are named {some}, ... Checkpoints that can be converted: "
        "PySlowFast, PyTorchVideo, MMAction2 (recognizer3d I3D and SlowOnly), torchvision, Caffe2's video-nonlocal-net."
    )


def _describe_wrapped_pytorchvideo(
    state: dict[str, Tensor], cfg: dict[str, Any] | None, options: ConversionOptions, path: Any
) -> SourceCheckpoint:
    """Derive network options and renamed weights for a PyTorchVideo network in PySlowFast's wrapper.

    The wrapper classifies windows of the feature map, and averages the windows' probabilities.
    """
    if cfg is None:
        return describe_pytorchvideo(state, options, path, softmax_inside=True)
    options = replace(options, backbone_options={**slowfast_alpha(cfg), **options.backbone_options})
    notes: list[str] = []
    loader = dataset_loader(cfg, path, notes)
    described = describe_pytorchvideo(state, options, path, softmax_inside=True)
    described.arguments |= {"clip": pyslowfast_clip(cfg, loader), "task": task_of(cfg, path)}
    described.labels = dataset_labels(cfg, shapes_of(described.state))
    described.notes = notes
    if takes_bgr(cfg, loader):
        take_rgb(described, [name for name, value in described.state.items() if _is_stem(name, value)])
    return described


def _is_stem(name: str, value: Tensor) -> bool:
    """Return whether a PyTorchVideo weight belongs to a pathway's first convolution, whose input has 3 channels."""
    return name.startswith("backbone.trunk.blocks.0.") and "fusion" not in name and value.shape[1:2] == (3,)


def _check_no_contradiction(found: SourceCheckpoint, options: ConversionOptions, path: Any) -> None:
    """Check that the user's backbone options, block options and task do not contradict the file.

    These options may only add settings that the file does not state.

    Raises:
        FarfieldError: for an option that contradicts the file; the message states the file's value.
    """
    reasons = {
        "pool_after_projection": "pooling the keys after the projection and pooling them before it give different "
        "outputs",
    }
    block = found.arguments.get("block_options", {})
    if found.arguments.get("insert"):
        block = {"pool_after_projection": False, **block}
    for stated, given in (
        (block, options.block_options),
        (found.arguments["backbone_options"], options.backbone_options),
        (found.arguments, {} if options.task is None else {"task": options.task}),
    ):
        for name, value in given.items():
            if name in stated and stated[name] != value:
                reason = f"; {reasons[name]}" if name in reasons else ""
                raise FarfieldError(
                    f"{path} cannot be converted with the option {name}: {value}, since the file states {name}: "
                    f"{stated[name]}{reason}. Leave the option out."
                )


def _match(network: ActionNet, found: SourceCheckpoint, path: Any) -> tuple[dict[str, Tensor], ConversionReport]:
    """Map every weight of the file to its key in the network. Returns the state dict and a report.

    Raises:
        FarfieldError: if weights are missing, unexpected, or of another shape; the message lists them.
    """
    shapes = {key: (value.shape, value.dtype) for key, value in network.state_dict().items()}
    wanted = {key.replace(".residual.", "."): key for key in shapes}
    state: dict[str, Tensor] = {}
    mapped: dict[str, str] = {}
    problems = [f"unexpected: {name}" for name in found.unknown]
    for plain, value in found.state.items():
        key = plain if found.own_keys else to_network(plain, network.backbone)
        own = found.own_names.get(plain, plain)
        if key not in wanted:
            problems.append(f"unexpected: {own} {tuple(value.shape)}")
            continue
        shape, dtype = shapes[wanted[key]]
        if value.shape != shape:
            problems.append(f"shape: {own} is {tuple(value.shape)}, the network's is {tuple(shape)}")
            continue
        state[wanted[key]] = value.to(dtype)
        if plain in found.own_names:
            mapped[own] = wanted[key]
    missing = [key for key in shapes if key not in state]
    counters = [key for key in missing if key.endswith("num_batches_tracked")]
    problems += [f"missing: {key}" for key in missing if key not in counters]
    state |= {key: torch.zeros((), dtype=torch.int64, device="cpu") for key in counters}
    if problems:
        shown = "\n  - ".join(problems[:20]) + (f"\n  ... {len(problems) - 20} more" if len(problems) > 20 else "")
        raise FarfieldError(
            f"the weights of {path} ({found.origin}) do not fit {network.config['backbone']}:\n  - {shown}\n"
            "Nothing was converted."
        )
    return state, ConversionReport(found.origin, mapped, counters, found.ignored, found.notes)


def _labels(found: SourceCheckpoint, labels: Sequence[str] | None, path: Any) -> list[str]:
    """Return the class names of the converted network.

    These are the user's `labels` or, with None, the names in `found`. If there are none either, a network of 400
    classes gets Kinetics-400's names, and any other the numbers "0", "1", ...

    Raises:
        FarfieldError: if the checkpoint has no classifier, or `labels` does not have one label per class.
    """
    key = "head.fc.weight"
    shape = shapes_of(found.state).get(key)
    if shape is None:
        raise FarfieldError(
            f"{path} has no classifier: none of its weights maps to farfield's {key}. Convert a whole network, not "
            "only its backbone."
        )
    if labels is not None:
        if len(labels) != shape[0]:
            raise FarfieldError(
                f"the number of labels is {len(labels)}, but {path} has {shape[0]} classes. Give one label per class."
            )
        return list(labels)
    if found.labels is not None:
        found.notes.append(
            f"{len(found.labels)} classes of Charades: labels are its codes, from {found.labels[0]} to "
            f"{found.labels[-1]}; --labels FILE changes them"
        )
        return found.labels
    if shape[0] == 400:
        found.notes.append("400 classes: labels are Kinetics-400's, in alphabetical order; --labels FILE changes them")
        return kinetics400_labels()
    found.notes.append(f"the file does not name its {shape[0]} classes: they are numbered; --labels FILE names them")
    return [str(i) for i in range(shape[0])]
