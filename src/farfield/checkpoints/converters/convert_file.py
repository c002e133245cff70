"""A checkpoint of any known project into an `ActionNet`, with an account of every weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farfield.checkpoints.converters.caffe2 import describe_caffe2
from farfield.checkpoints.converters.mmaction2 import describe_mmaction2
from farfield.checkpoints.converters.pyslowfast import describe_pyslowfast
from farfield.checkpoints.converters.pyslowfast_config import pyslowfast_clip, read_cfg, slowfast_alpha
from farfield.checkpoints.converters.pytorchvideo_and_torchvision import describe_pytorchvideo, describe_torchvision
from farfield.checkpoints.converters.restricted_unpickler import Placeholder, as_tensors, read_file
from farfield.checkpoints.converters.source_checkpoint import ConversionOptions, SourceCheckpoint, shapes_of
from farfield.checkpoints.state_dicts import NetworkState, find_network, origin_of
from farfield.errors import FarfieldError
from farfield.kinetics import kinetics400_labels
from farfield.models.network import ActionNet, assemble
from farfield.models.network_options import NetworkOptions
from farfield.models.weight_names import to_network


@dataclass
class ConversionReport:
    """What became of every weight.

    Attributes:
        origin: whose checkpoint it was.
        mapped: the file's name of each weight to ours.
        set_to_zero: counters of batches that the file does not have; nothing reads them unless momentum is None.
        ignored: in the file and not in the network, on purpose: name and reason.
        notes: where values came from that the file does not hold.
    """

    origin: str
    mapped: dict[str, str]
    set_to_zero: list[str] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def convert_file(
    path: str | Path, *, labels: Sequence[str] | None = None, options: ConversionOptions | None = None
) -> tuple[ActionNet, ConversionReport]:
    """Reads a peer's checkpoint and builds the network that it is of, in evaluation mode.

    Args:
        path: PySlowFast's .pyth, PyTorchVideo's hub files, MMAction2's and torchvision's .pth, Caffe2's .pkl.
        labels: class names; None for Kinetics-400's where there are 400 classes, and numbers elsewhere.
        options: what the file does not say itself; the clip and the head may differ from what it says.

    Raises:
        FarfieldError: for a file that cannot be read or is of no known origin, for weights that are missing, unexpected
            or of other shapes, for what cannot be converted exactly, and for what neither file nor options tell.
    """
    options = options or ConversionOptions()
    try:
        return _convert(path, labels, options)
    except _MALFORMED as error:
        if isinstance(error, FarfieldError):
            raise
        raise FarfieldError(
            f"{path} cannot be converted: its config, or the axes of its weights, are not as the project writes them "
            "whose names its weights have. Nothing was converted."
        ) from error


_MALFORMED = (
    TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, RuntimeError, MemoryError,
)  # fmt: skip
"""What a config of other types, or weights of other axes, make Python raise in a file that somebody made up."""


def _convert(
    path: str | Path, labels: Sequence[str] | None, options: ConversionOptions
) -> tuple[ActionNet, ConversionReport]:
    found = describe_file(path, options)
    found.arguments.setdefault("backbone_options", {})
    _must_not_contradict(found, options, path)
    arguments = found.arguments | ({"backbone": options.backbone} if options.backbone else {})
    for name in ("backbone_options", "block_options", "clip"):
        arguments[name] = {**arguments.get(name, {}), **getattr(options, name)}
    if options.head:
        arguments |= {"head": options.head}
    if options.head or {"num_frames", "crop_px"} & options.clip.keys():
        arguments.pop("head_windows", None)
    if found.questions:
        raise FarfieldError(f"{path} ({found.origin}) does not tell:\n  - " + "\n  - ".join(found.questions))
    network_options = NetworkOptions(**arguments, labels=_labels(found, labels, path))
    with torch.device("meta"):  # shapes only: a small file may describe a network larger than memory
        state, report = _match(assemble(network_options), found, path)
    network = assemble(network_options)
    network.load_state_dict(state)
    return network.eval(), report


def describe_file(path: str | Path, options: ConversionOptions) -> SourceCheckpoint:
    """Recognises a checkpoint's origin by its keys.

    Raises:
        FarfieldError: for one of no known origin.
    """
    content = read_file(path)
    if not isinstance(content, Mapping):
        whole = " A whole network that was pickled needs the code that made it: there, save network.state_dict()."
        raise FarfieldError(
            f"{path} holds a {type(content).__name__}; a checkpoint is a dict of weights by name."
            f"{whole if isinstance(content, Placeholder) else ''}"
        )
    blobs = content.get("blobs", content)
    if isinstance(blobs, Mapping) and "conv1_w" in blobs:
        return describe_caffe2(blobs, options, path)
    found = find_network(content, path, options.take)
    if found.beside and origin_of(found.values) != "image ResNet":
        some = ", ".join(found.beside[:3]) + (f" and {len(found.beside) - 3} more" if len(found.beside) > 3 else "")
        raise FarfieldError(
            f"{path} holds a network, {found.prefix!r} in front of its weights' names, and beside it {some}. What they "
            f"do to its scores is not known. Where the network is whole without them: farfield convert {path} OUT "
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
            f"{path} is an image network (ResNet). Begin a video network from it: build_model('i3d_r50', ..., "
            f"weights={str(path)!r}), or --model.weights in farfield fit."
        )
    if origin == "torchvision":
        return describe_torchvision(state, options, path)
    if origin == "farfield":
        raise FarfieldError(
            f"{path} holds weights of a farfield network without its description. Build it with build_model, as it "
            "was, call load_state_dict with them, and write it with farfield.models.save_model."
        )
    some = ", ".join(list(state)[:3])
    raise FarfieldError(
        f"{path} is of no known origin: its weights are named {some}, ... Convertible are checkpoints of PySlowFast, "
        "PyTorchVideo, MMAction2 (recognizer3d I3D and SlowOnly), torchvision, and Caffe2's video-nonlocal-net."
    )


def _describe_wrapped_pytorchvideo(
    state: dict[str, Tensor], cfg: dict[str, Any] | None, options: ConversionOptions, path: Any
) -> SourceCheckpoint:
    """PySlowFast's wrappers of PyTorchVideo's networks, which average probabilities."""
    if cfg is None:
        return describe_pytorchvideo(state, options, path, softmax_inside=True)
    options = replace(options, backbone_options={**slowfast_alpha(cfg), **options.backbone_options})
    described = describe_pytorchvideo(state, options, path, softmax_inside=True)
    described.arguments["clip"] = pyslowfast_clip(cfg)
    described.notes.clear()
    return described


def _must_not_contradict(found: SourceCheckpoint, options: ConversionOptions, path: Any) -> None:
    """An answer may fill in what the file does not say; it cannot change how the weights were used.

    Raises:
        FarfieldError: naming what the file says.
    """
    reasons = {
        "pool_after_projection": "pooling and projecting do not commute: a block that pools its keys after the "
        "projection computes something else than one that pools before it",
    }
    block = found.arguments.get("block_options", {})
    if found.arguments.get("insert"):
        block = {"pool_after_projection": False, **block}
    for said, given in (
        (block, options.block_options),
        (found.arguments["backbone_options"], options.backbone_options),
    ):
        for name, value in given.items():
            if name in said and said[name] != value:
                reason = f"; {reasons[name]}" if name in reasons else ""
                raise FarfieldError(
                    f"{path} cannot be converted to {name}: {value}: its own is {said[name]}{reason}. Leave it out."
                )


def _match(network: ActionNet, found: SourceCheckpoint, path: Any) -> tuple[dict[str, Tensor], ConversionReport]:
    """The weights under the network's own keys; nothing is dropped silently.

    Raises:
        FarfieldError: listing what is missing, unexpected, or of another shape.
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
    key = "head.fc.weight"
    shape = shapes_of(found.state).get(key)
    if shape is None:
        raise FarfieldError(f"{path} has no classifier ({key}); a backbone alone makes no network.")
    if labels is not None:
        if len(labels) != shape[0]:
            raise FarfieldError(f"there are {len(labels)} labels, and {path} has {shape[0]} classes. Give one a class.")
        return list(labels)
    if shape[0] == 400:
        found.notes.append("400 classes: labels are Kinetics-400's, in alphabetical order; --labels FILE changes them")
        return kinetics400_labels()
    found.notes.append(f"the file does not name its {shape[0]} classes: they are numbered; --labels FILE names them")
    return [str(i) for i in range(shape[0])]
