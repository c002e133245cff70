"""Swapping modules inside a network."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def replace_modules(network: nn.Module, replacement: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """Replaces modules below `network`, in place; one that stands in several places is replaced once, in all of them.

    Args:
        network: what to look through.
        replacement: called with each module, outer ones first; gives what takes its place, or None to leave it and look
            inside.

    Returns:
        `network`, or its replacement.
    """
    known: dict[nn.Module, nn.Module] = {}

    def visit(module: nn.Module) -> nn.Module:
        if module not in known:
            new = replacement(module)
            known[module] = module if new is None else new
            if new is None:
                for name, child in module._modules.items():  # named_children() gives a shared one once
                    if child is not None:
                        module._modules[name] = visit(child)
        return known[module]

    return visit(network)
