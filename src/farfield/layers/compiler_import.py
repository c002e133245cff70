"""Use the meta device without importing PyTorch's compiler.

PyTorch implements many operations of the meta device as Python functions with a decorator that excludes them from
compilation. On a function's first call, the decorator imports the compiler, `torch._dynamo`. This import takes about as
long as importing PyTorch, although nothing is compiled.
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
"""Attribute of a function with the decorator (from `torch._compile`): caches the version excluded from compilation."""


@contextmanager
def without_compiler() -> Iterator[None]:
    """Let operations on the meta device run inside the `with` block without importing PyTorch's compiler.

    Some functions of PyTorch have a decorator that excludes them from compilation. At a function's first call, the
    decorator imports the compiler and excludes the function. Inside the block, the decorator does nothing. A function
    whose first call is inside the block is excluded at its first call after the block instead. Code that uses the
    compiler during the block, in any thread, still imports it. Nothing changes if the compiler is already imported.
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
    """Replacement for `torch._dynamo` whose `disable` does nothing. Other attributes are read from the real module."""

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
