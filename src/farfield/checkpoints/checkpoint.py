"""Save and load farfield's checkpoints.

A checkpoint is a dict with `{"farfield": {"format": 1, "model": {...}}, "state_dict": {...}}`. "model" holds the fields
of `NetworkOptions` as plain types. If `farfield test --choose_threshold` chose thresholds for the classes, "farfield"
also has one or both of these entries, with the fields of `OperatingPoint`: "operating_point" for the probabilities of
videos and clips, and "timeline_operating_point" for the probabilities at each moment of a video (as in
`farfield predict --timeline`).

A checkpoint that was saved during training also has "random_state" (`training/checkpointing.py`) and the entries that
Lightning adds. In such a checkpoint, "farfield" also has the settings of the training and the provenance of the
training and validation videos (`training/lightning_module.py`).

Reading never executes code from the file.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farfield.argument_types import checked_arguments
from farfield.atomic_write import atomic_write
from farfield.checkpoints.file_safety import check_file_safety, why_unreadable
from farfield.checkpoints.hub_folder import load_folder
from farfield.checkpoints.hugging_face import load_hugging_face
from farfield.checkpoints.hugging_face_folder import is_hugging_face
from farfield.checkpoints.rebuild import rebuild
from farfield.checkpoints.state_dicts import without_wrappers
from farfield.errors import FarfieldError
from farfield.layers.sub_batch_norm import join_state
from farfield.memory_errors import is_out_of_memory
from farfield.models.network import ActionNet
from farfield.models.operating_point import OperatingPoint, operating_points_to_dict, set_operating_points

FORMAT = 1
NETWORK_PREFIX = "network."
"""Prefix of weight names in a checkpoint, since the training module holds the network in its attribute `network`."""


def checkpoint_metadata(network: ActionNet) -> dict[str, Any]:
    """Return the metadata that a checkpoint needs to rebuild the network: format version, network options, thresholds.

    Raises:
        FarfieldError: if the network's batch norms are folded, or the number of labels differs from the number of
            scores.
    """
    network.refuse_folded("saved")
    scores = network.head.fc.out_features
    if len(network.labels) != scores:
        raise FarfieldError(
            f"the network has {scores} scores, but the number of labels is {len(network.labels)}. Set network.labels "
            f"to {scores} labels, one per score."
        )
    model = {**network.config, "labels": list(network.labels)}
    return {"format": FORMAT, "model": model, **operating_points_to_dict(network)}


@checked_arguments
def save_model(network: ActionNet, path: str | Path) -> None:
    """Save a network as a checkpoint, with an atomic write.

    Raises:
        FarfieldError: if the network is exported or has folded batch norms, if the number of labels differs from the
            number of scores, or if `path` has the suffix of an exported network or cannot be written.
    """
    if Path(path).suffix.lower() in EXPORTED_SUFFIXES:
        raise FarfieldError(f"{path} has the suffix of an exported network. Give a name that ends in .ckpt.")
    if not hasattr(network, "state_dict"):
        raise FarfieldError("an exported network cannot be saved. Save the network that it was exported from.")
    write_checkpoint({"farfield": checkpoint_metadata(network), "state_dict": network_state_dict(network)}, path)


def network_state_dict(network: ActionNet) -> dict[str, Tensor]:
    """Return a network's state dict, with the prefix "network." that weight names have in checkpoints."""
    return {NETWORK_PREFIX + name: value for name, value in network.state_dict().items()}


def is_farfield_checkpoint(path: str | Path) -> bool:
    """Return whether a file contains a farfield checkpoint. False for files that cannot be read."""
    try:
        check_file_safety(Path(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # of any kind: the file is something else
        return False
    return isinstance(content, dict) and "farfield" in content


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint's content without executing code from it.

    Raises:
        FarfieldError: if the file is missing, damaged or not a farfield checkpoint, or holds objects that are neither
            tensors nor plain types.
    """
    path = Path(path)
    check_file_safety(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, ValueError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        raise FarfieldError(f"{path} cannot be read as a checkpoint: {why_unreadable(path, error)}") from error
    about = content.get("farfield") if isinstance(content, dict) else None
    if not isinstance(about, dict) or not isinstance(content.get("state_dict"), dict):
        raise FarfieldError(
            f"{path} is not a farfield checkpoint: it lacks network options or weights. If another project wrote it, "
            "convert it with farfield convert."
        )
    if about.get("format") != FORMAT:
        raise FarfieldError(
            f"{path} has checkpoint format {about.get('format')}, but this version of farfield reads format {FORMAT}. "
            "Use the version that wrote the file."
        )
    return content


def network_state(content: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Return the network's weights from a checkpoint's content.

    Name prefixes of wrappers (torch.compile) are removed, and batch norms that were split for sub-batch norm joined.

    Raises:
        FarfieldError: if two weights have the same name once the prefixes are removed.
    """
    plain = without_wrappers(map(str, content["state_dict"]), path)
    state = {
        short.removeprefix(NETWORK_PREFIX): content["state_dict"][name]
        for short, name in plain.items()
        if short.startswith(NETWORK_PREFIX)
    }
    return join_state(state)


EXPORTED_SUFFIXES = (".onnx", ".xml", ".pt2")
"""Suffixes of exported networks, which are not checkpoints."""


def plain_network(model: str | Path | ActionNet) -> ActionNet:
    """Return `model` if it is a network; otherwise load the network from the path `model` with `load_network`.

    Raises:
        FarfieldError: as for `load_network`, or if `model` is neither a path nor an `ActionNet`, for example an
            exported network that is already loaded.
    """
    if isinstance(model, ActionNet):
        return model
    if isinstance(model, str | Path):
        return load_network(model)
    raise FarfieldError(
        f"the model is of type {type(model).__name__}; give a network from build_model or load_model, or the path of a "
        "checkpoint. For an exported network, give the checkpoint that it was exported from."
    )


def load_network(path: str | Path) -> ActionNet:
    """Load a network from a checkpoint without optimising it. The network is in evaluation mode, on the CPU.

    `farfield.load_model` loads a network and, by default, optimises it for inference.

    Args:
        path: a checkpoint; a folder that `farfield export --to_folder` wrote; or a Hugging Face video encoder with a
            classifier, given by its folder or its name on huggingface.co.

    Raises:
        FarfieldError: if `read_checkpoint`, `load_folder` or `load_hugging_face` raises it; if `path` is the file of an
            exported network (.onnx, .xml or .pt2); or if the network options or the thresholds are invalid, or the
            weights do not fit the network options.
    """
    if is_hugging_face(path):
        return load_hugging_face(path)
    if Path(path).is_dir():
        return load_folder(path)
    if Path(path).suffix.lower() in EXPORTED_SUFFIXES and Path(path).is_file():
        raise FarfieldError(f"{path} is an exported network. Give the checkpoint that it was exported from.")
    content = read_checkpoint(path)
    state = network_state(content, path)
    network = rebuild(content["farfield"].get("model"), state, described=Path(path), weights=Path(path))
    set_operating_points(network, content["farfield"], path)
    return network


def save_operating_point(point: OperatingPoint, path: str | Path, *, timeline: bool = False) -> None:
    """Write thresholds into an existing checkpoint, and keep everything else. This changes the file's hash.

    Args:
        point: thresholds of the network's labels.
        path: the checkpoint.
        timeline: True for thresholds of the probabilities at each moment of a video (`farfield predict --timeline`),
            False for thresholds of the probabilities of videos and clips. The file can hold both.

    Raises:
        FarfieldError: if the file is not a farfield checkpoint, or cannot be written.
    """
    content = read_checkpoint(path)
    content["farfield"]["timeline_operating_point" if timeline else "operating_point"] = point.to_dict()
    write_checkpoint(content, Path(path).resolve())  # a symbolic link stays one


def write_checkpoint(content: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint's content atomically. Missing folders are created.

    Raises:
        FarfieldError: if the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial, partial.open("wb") as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__  # for a full disk, torch says only "pos"
        if not isinstance(reason, OSError):
            raise
        raise FarfieldError(f"{path} cannot be written: {reason.strerror or reason}. Choose another path.") from error
