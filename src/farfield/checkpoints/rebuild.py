"""A network from what a file says of it, which anybody may have written, and its weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from farfield.errors import FarfieldError
from farfield.layers import join_batch_norm, split_batch_norm
from farfield.models.network import ActionNet, assemble


def rebuild(model: Any, state: dict[str, Tensor], *, described: Path, weights: Path) -> ActionNet:
    """Builds the network and fills in its weights. In evaluation mode, on the CPU.

    Args:
        model: the arguments of `build_model`, or whatever stands there.
        state: the network's state dict; split batch norms, as sub-batch norm trains them, are joined.
        described: the file that has the arguments, for messages.
        weights: the file that has the state dict, for messages.

    Raises:
        FarfieldError: for arguments that make no network, or weights that do not fit it.
    """
    cannot = f"{described} describes its network in a way that this version cannot read"
    if reason := _no_arguments(model):
        raise FarfieldError(f"{cannot}: {reason}.")
    try:
        network = assemble(**model)
    except FarfieldError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
        raise FarfieldError(f"{cannot}: one of {', '.join(model)} has a value that it cannot have.") from error
    what = "it" if described == weights else described.name
    misfit = f"the weights in {weights} do not fit the network that {what} describes"
    try:
        split = next((name for name in state if name.endswith(".split_bn.running_mean")), None)
        if split is not None:
            whole = state[split.replace(".split_bn.", ".bn.")]
            split_batch_norm(network, len(state[split]) // len(whole))
    except (RuntimeError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        raise FarfieldError(f"{misfit}: statistics of its batch norms are missing or of other sizes.") from error
    if reason := differences(state, network.state_dict()):
        raise FarfieldError(f"{misfit}: {reason}.")
    network.load_state_dict(state)
    if split is not None:
        join_batch_norm(network)
    return network.eval()


def _no_arguments(model: Any) -> str | None:
    """Why something is not the arguments of `assemble`; None where it may be."""
    if not isinstance(model, Mapping):
        return "there is no description" if model is None else "its description is no set of named values"
    known = inspect.signature(assemble).parameters
    surplus = [name for name in model if name not in known]
    if surplus:
        return f"{surplus[0]!r} is none of {', '.join(known)}; a later version may have written it"
    if "backbone" not in model:
        return "it names no backbone"
    labels = model.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return "labels are no list of names"
    return None


def differences(given: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> str | None:
    """Returns how weights differ from those that a network has, in numbers and one example; None where they fit."""
    no_weight = [name for name, value in given.items() if not isinstance(value, Tensor)]
    surplus = [name for name in given if name not in wanted and name not in no_weight]
    # PyTorch fills in the counters of batch norms, which frozen ones do not have.
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    both = [name for name in given if name in wanted and name not in no_weight]
    other = [name for name in both if given[name].shape != wanted[name].shape]
    shown = {
        "are no numbers": no_weight,
        "are missing": missing,
        "have no place": surplus,
        "are of other shapes": other,
    }
    counts = [
        f"{len(names)} {what} ({names[0]}{', ...' if names[1:] else ''})" for what, names in shown.items() if names
    ]
    if other:
        counts[-1] += f": {tuple(given[other[0]].shape)}, the network has {tuple(wanted[other[0]].shape)}"
    return "; ".join(counts) or None
