"""Rebuild a network from an untrusted config and its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from farfield.errors import FarfieldError
from farfield.layers import join_batch_norm, split_batch_norm
from farfield.models.network import ActionNet, assemble_uninitialised
from farfield.models.network_options import NetworkOptions


def rebuild(model: Any, state: dict[str, Tensor], *, described: Path, weights: Path) -> ActionNet:
    """Build the network and load its weights. In evaluation mode, on the CPU.

    Args:
        model: fields of `NetworkOptions`, unchecked.
        state: the network's state dict; split batch norms, as sub-batch norm trains them, are joined.
        described: file that holds the fields, for messages.
        weights: file that holds the state dict, for messages.

    Raises:
        FarfieldError: for fields that do not define a network, or weights that do not fit it.
    """
    cannot = f"{described} describes its network in a way that this version cannot read"
    if reason := _why_invalid(model):
        raise FarfieldError(f"{cannot}: {reason}.")
    try:
        network = assemble_uninitialised(NetworkOptions(**model))
    except FarfieldError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
        raise FarfieldError(f"{cannot}: one of {', '.join(model)} has an invalid value.") from error
    what = "it" if described == weights else described.name
    misfit = f"the weights in {weights} do not fit the network that {what} describes"
    try:
        split = next((name for name in state if name.endswith(".split_bn.running_mean")), None)
        if split is not None:
            whole = state[split.replace(".split_bn.", ".bn.")]
            split_batch_norm(network, len(state[split]) // len(whole))
    except (RuntimeError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        raise FarfieldError(f"{misfit}: statistics of its batch norms are missing or have other sizes.") from error
    if reason := differences(state, network.state_dict()):
        raise FarfieldError(f"{misfit}: {reason}.")
    network.load_state_dict(state)
    if split is not None:
        join_batch_norm(network)
    return network.eval()


def _why_invalid(model: Any) -> str | None:
    """Return why `model` cannot be fields of `NetworkOptions`; None if it may be."""
    if not isinstance(model, Mapping):
        return "there is no description" if model is None else "its description is not a set of named values"
    known = [field.name for field in dataclasses.fields(NetworkOptions)]
    surplus = [name for name in model if name not in known]
    if surplus:
        return f"{surplus[0]!r} is unknown (known: {', '.join(known)}); a later version may have written it"
    if "backbone" not in model:
        return "it names no backbone"
    labels = model.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return "labels is not a list of names"
    return None


def differences(given: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> str | None:
    """Summarise how weights differ from those of a network: counts and one example. None if they fit."""
    no_weight = [name for name, value in given.items() if not isinstance(value, Tensor)]
    surplus = [name for name in given if name not in wanted and name not in no_weight]
    # PyTorch fills in the batch norms' counters; frozen ones have none.
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    both = [name for name in given if name in wanted and name not in no_weight]
    other = [name for name in both if given[name].shape != wanted[name].shape]
    shown = {
        "are not tensors": no_weight,
        "are missing": missing,
        "are unexpected": surplus,
        "have other shapes": other,
    }
    counts = [
        f"{len(names)} {what} ({names[0]}{', ...' if names[1:] else ''})" for what, names in shown.items() if names
    ]
    if other:
        counts[-1] += f": {tuple(given[other[0]].shape)}, the network has {tuple(wanted[other[0]].shape)}"
    return "; ".join(counts) or None
