"""Rebuild a network from an untrusted config and its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from farfield.errors import FarfieldError
from farfield.memory_errors import is_out_of_memory
from farfield.models.network import ActionNet, assemble_uninitialised
from farfield.models.network_options import NetworkOptions


def rebuild(model: Any, state: dict[str, Tensor], *, described: Path, weights: Path) -> ActionNet:
    """Build a network from unchecked options and load its weights. The network is in evaluation mode, on the CPU.

    Args:
        model: fields of `NetworkOptions`, unchecked.
        state: the network's state dict, without split batch norms.
        described: file that holds the options, for messages.
        weights: file that holds the state dict, for messages.

    Raises:
        FarfieldError: if the options do not define a network, or the weights do not fit it.
    """
    cannot = f"the network options in {described} cannot be read by this version of farfield"
    if reason := _why_invalid(model):
        raise FarfieldError(f"{cannot}: {reason}.")
    try:
        network = assemble_uninitialised(NetworkOptions(**model))
    except FarfieldError as error:
        raise FarfieldError(f"{cannot}: {error}") from error
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise FarfieldError(f"{cannot}: one of {', '.join(model)} has an invalid value.") from error
    what = "the same file" if described == weights else described.name
    misfit = f"the weights in {weights} do not fit the network options in {what}"
    if reason := differences(state, network.state_dict()):
        hint = " Another version of transformers may name them differently." if model["backbone"] == "hf" else ""
        raise FarfieldError(f"{misfit}: {reason}.{hint}")
    network.load_state_dict(state)
    return network.eval()


def _why_invalid(model: Any) -> str | None:
    """Return why `model` is not a dict of `NetworkOptions` fields; None if it is one."""
    if not isinstance(model, Mapping):
        return "they are missing" if model is None else "they are not a dict"
    known = [field.name for field in dataclasses.fields(NetworkOptions)]
    surplus = [name for name in model if name not in known]
    if surplus:
        return f"{surplus[0]!r} is unknown (known: {', '.join(known)}). If a later version wrote it, update farfield"
    if "backbone" not in model:
        return "backbone is missing"
    labels = model.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return "labels is not a list of strings"
    return None


def differences(given: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> str | None:
    """Summarise how the weights `given` differ from the weights `wanted` of a network; None if they do not differ.

    For each kind of difference (missing, unexpected, wrong shape, not a tensor), the text has the number of weights and
    one of their names.
    """
    no_weight = [name for name, value in given.items() if not isinstance(value, Tensor)]
    surplus = [name for name in given if name not in wanted and name not in no_weight]
    # PyTorch fills in the batch norms' counters; frozen ones have none.
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    both = [name for name in given if name in wanted and name not in no_weight]
    other = [name for name in both if given[name].shape != wanted[name].shape]
    shown = {
        "not tensors": no_weight,
        "missing": missing,
        "unexpected": surplus,
        "of the wrong shape": other,
    }
    counts = [
        f"{what}: {len(names)} ({names[0]}{', ...' if names[1:] else ''})" for what, names in shown.items() if names
    ]
    if other:
        counts[-1] += f", {tuple(given[other[0]].shape)} instead of {tuple(wanted[other[0]].shape)}"
    return "; ".join(counts) or None
