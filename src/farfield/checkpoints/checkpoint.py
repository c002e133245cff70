"""Checkpoints that describe themselves.

A checkpoint is a dict that holds, besides whatever Lightning adds in training,
`{"farfield": {"format": 1, "model": {...arguments of build_model...}}, "state_dict": {...}}`. The arguments are
plain types: backbone, blocks, labels, sampling and normalisation. Reading never executes code from the file.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farfield.atomic_write import atomic_write
from farfield.checkpoints.file_safety import check_file_safety, why_unreadable
from farfield.checkpoints.hub_folder import load_folder
from farfield.checkpoints.rebuild import rebuild
from farfield.checkpoints.state_dicts import without_wrappers
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet

FORMAT = 1
NETWORK_PREFIX = "network."
"""The network's place in a training module; its keys in a checkpoint start so."""


def describe(network: ActionNet) -> dict[str, Any]:
    """Returns what a checkpoint needs, besides the weights, to build the network again.

    Raises:
        FarfieldError: for labels that were changed to another number than the network has scores, or a folded network.
    """
    network.refuse_folded("saved")
    scores = network.head.fc.out_features
    if len(network.labels) != scores:
        raise FarfieldError(f"the network has {len(network.labels)} labels and {scores} scores; give as many labels.")
    return {"format": FORMAT, "model": {**network.config, "labels": list(network.labels)}}


def save_model(network: ActionNet, path: str | Path) -> None:
    """Writes a network as a checkpoint, whole or not at all.

    Raises:
        FarfieldError: where the place cannot be written, or the network has more or fewer labels than scores.
    """
    state = {NETWORK_PREFIX + name: value for name, value in network.state_dict().items()}
    write_checkpoint({"farfield": describe(network), "state_dict": state}, path)


def is_ours(path: str | Path) -> bool:
    """Whether a file is a checkpoint of farfield's, by its content; False for what cannot be read."""
    try:
        check_file_safety(Path(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever it is, it is not ours
        return False
    return isinstance(content, dict) and "farfield" in content


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint's content without executing code from it.

    Raises:
        FarfieldError: for a file that is missing, damaged, holds more than plain types and tensors, or is not ours.
    """
    path = Path(path)
    check_file_safety(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, ValueError, AttributeError) as error:
        raise FarfieldError(f"{path} cannot be read as a checkpoint: {why_unreadable(path, error)}") from error
    about = content.get("farfield") if isinstance(content, dict) else None
    if not isinstance(about, dict) or not isinstance(content.get("state_dict"), dict):
        raise FarfieldError(
            f"{path} is not a checkpoint of farfield: it does not name the network of its weights. If another project "
            "wrote it: farfield convert."
        )
    if about.get("format") != FORMAT:
        raise FarfieldError(f"{path} has checkpoint format {about.get('format')}; this version reads {FORMAT}.")
    return content


def network_state(content: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Returns the network's weights in a checkpoint of ours, also where it was saved compiled or wrapped.

    Raises:
        FarfieldError: where two weights have one name.
    """
    plain = without_wrappers(map(str, content["state_dict"]), path)
    return {
        short.removeprefix(NETWORK_PREFIX): content["state_dict"][name]
        for short, name in plain.items()
        if short.startswith(NETWORK_PREFIX)
    }


def load_network(path: str | Path) -> ActionNet:
    """Builds the network that a checkpoint describes and fills in its weights. In evaluation mode, on the CPU.

    Args:
        path: a checkpoint, or a folder that `farfield export --to_folder` wrote.

    Raises:
        FarfieldError: as `read_checkpoint` and `load_folder`, or where the weights do not fit the network described.
    """
    if Path(path).is_dir():
        return load_folder(path)
    content = read_checkpoint(path)
    state = network_state(content, path)
    return rebuild(content["farfield"].get("model"), state, described=Path(path), weights=Path(path))


def write_checkpoint(content: dict[str, Any], path: str | Path) -> None:
    """Writes what torch can save, whole or not at all; folders on the way are made.

    Raises:
        FarfieldError: where the place cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial, partial.open("wb") as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__  # of a full disk, torch says only "pos"
        if not isinstance(reason, OSError):
            raise
        raise FarfieldError(f"{path} cannot be written: {reason.strerror or reason}. Choose another place.") from error
