"""Build a network without drawing random weights, when a checkpoint replaces them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

DRAWS = (Tensor.normal_, Tensor.uniform_)
"""What the functions of `torch.nn.init` call that do not pass by the mode themselves."""


class SkipInitialisation(TorchFunctionMode):
    """Leave weights as they are within a `with` block, where `torch.nn.init` would fill them."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in DRAWS or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
