"""Replace modules inside a network."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from farfield.layers.torch_private import child_slots


def replace_modules(network: nn.Module, replacement: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """Replace modules inside `network`, in place.

    A module that occurs in several places is replaced by the same new module in all of them.

    Args:
        network: network to search.
        replacement: function called with each module, outer ones first. Returns the new module, or None to keep the
            module and search inside it.

    Returns:
        `network`, or its replacement if it is replaced itself.
    """
    known: dict[nn.Module, nn.Module] = {}

    def visit(module: nn.Module) -> nn.Module:
        if module not in known:
            new = replacement(module)
            known[module] = module if new is None else new
            if new is None:
                children = child_slots(module)
                for name, child in children.items():
                    if child is not None:
                        children[name] = visit(child)
        return known[module]

    return visit(network)
