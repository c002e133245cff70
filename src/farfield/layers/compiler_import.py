"""Use PyTorch's meta device without importing its compiler.

Many functions of the meta device are written in Python and marked as not to be compiled. On the first call of each, the
mark imports `torch._dynamo`, which takes about as long as importing PyTorch, although nothing is compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

_NAME = "torch._dynamo"
_MARK = "__dynamo_disable"
"""Attribute in which `torch._compile` keeps a marked function."""


@contextmanager
def without_compiler() -> Iterator[None]:
    """Leave out marks against compilation in the `with` block, if the compiler is not imported yet.

    After the block, functions are marked again on their next call. Code in the block, in any thread, that uses the
    compiler imports it.
    """
    if _NAME in sys.modules:
        yield
        return
    stand_in = _StandIn(_NAME)
    stand_in.install()
    try:
        yield
    finally:
        stand_in.remove()


class _StandIn(ModuleType):
    """Stand-in for `torch._dynamo` whose `disable` does nothing. Any other attribute is that of the real module."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._unmarked: list[Callable[..., Any]] = []

    def disable(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
        self._unmarked.append(function)
        return function

    def install(self) -> None:
        sys.modules[_NAME] = self
        vars(torch)["_dynamo"] = self

    def remove(self) -> None:
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
        if vars(torch).get("_dynamo") is self:
            del vars(torch)["_dynamo"]
        for function in self._unmarked:
            if vars(function).get(_MARK) is function:
                delattr(function, _MARK)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # the import system's own questions
            raise AttributeError(name)
        self.remove()
        return getattr(import_module(_NAME), name)
