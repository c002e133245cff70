"""A network from what a file says of it, which anybody may have written, and its weights."""

from __future__ import annotations

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
    try:
        labels = model.get("labels", [])
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise TypeError("labels are no list of names")
        network = assemble(**model)
    except FarfieldError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
        raise FarfieldError(
            f"{described} describes its network in a way that this version cannot read: {error}"
        ) from error
    try:
        split = next((name for name in state if name.endswith(".split_bn.running_mean")), None)
        if split is not None:
            whole = state[split.replace(".split_bn.", ".bn.")]
            split_batch_norm(network, len(state[split]) // len(whole))
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        what = "it" if described == weights else described.name
        raise FarfieldError(
            f"the weights in {weights} do not fit the network that {what} describes: {error}"
        ) from error
    if split is not None:
        join_batch_norm(network)
    return network.eval()
