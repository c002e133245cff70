"""PyTorch's private names that the layers use, because they have no public equivalent.

If a release of PyTorch lacks one of these names, tests/layers/test_torch_private.py fails and reports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BatchNormBase = nn.modules.batchnorm._BatchNorm
"""Base class of BatchNorm1d to 3d and SyncBatchNorm."""

ConvBase = nn.modules.conv._ConvNd
"""Base class of Conv1d to 3d."""


def has_forward_hooks(module: nn.Module) -> bool:
    """Check whether a module has forward hooks. PyTorch has no public function that lists them."""
    return bool(module._forward_pre_hooks or module._forward_hooks)


def has_plain_call(module: nn.Module) -> bool:
    """Check whether calling a module runs the `forward` of its class and nothing else.

    Hooks (forward or backward, of this module or of all modules) and a `forward` set on the instance change the call.
    PyTorch has no public function for this.
    """
    hooks = module._forward_pre_hooks or module._forward_hooks or module._backward_pre_hooks or module._backward_hooks
    return not (hooks or nn.modules.module._has_any_global_hook() or "forward" in vars(module))


def is_compiled(module: nn.Module) -> bool:
    """Check whether `module.compile()` was called. PyTorch has no public function for this."""
    return module._compiled_call_impl is not None


def child_slots(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the dict of a module's children by name. Setting an item replaces the child in the module.

    If one child has two names, the dict lists it under both; `named_children()` lists it under one.
    """
    return module._modules


def resolved_padding(conv: ConvBase) -> list[int]:
    """Return a convolution's padding for `F.pad`, last axis first, with "same" resolved to numbers."""
    return list(conv._reversed_padding_repeated_twice)


def view_base(tensor: Tensor) -> Tensor | None:
    """Return the tensor that `tensor` is a view of; None if `tensor` is not a view."""
    return tensor._base


def has_unit_alpha(node: Any) -> bool:
    """Check whether alpha is 1 in an addition a + alpha b, given the addition's node in autograd's graph."""
    return node._saved_alpha == 1


NORM_NODES = (
    "NativeBatchNormBackward0",
    "CudnnBatchNormBackward0",
    "MiopenBatchNormBackward0",
    "SyncBatchNormBackward",
)
"""Names of the nodes of batch norms in autograd's graph."""

POOL_NODE = "MaxPool3DWithIndicesBackward0"
"""Name of the node of 3D max-pooling in autograd's graph."""


def reads_without_side_effects(node: Any, read: Callable[..., Tensor]) -> bool:
    """Check whether a node's saved tensors can be read without running any hook except `read`.

    Reading them under activation checkpointing, for example, runs a hook that repeats the forward pass, and so updates
    running statistics twice.

    Args:
        node: node of autograd's graph.
        read: unpack hook (see `torch.autograd.graph.saved_tensors_hooks`) that has no side effects.

    Returns:
        For a batch norm or a 3D max-pooling: False if another hook would run; True otherwise, also if this version of
        PyTorch does not show a tensor's hook. For any other node: True, because farfield does not read its tensors.
    """
    if node.name() == "SyncBatchNormBackward":
        saved = node._raw_saved_tensors
    elif node.name() in (*NORM_NODES, POOL_NODE):
        saved = (node._raw_saved_result1,)
    else:
        return True
    return all(getattr(each, "unpack_hook", None) in (None, read) for each in saved)


@dataclass(frozen=True)
class BatchNormRecord:
    """Values of a batch norm in training mode, read from autograd's graph: output = (x - mean) * scale + shift.

    Attributes:
        mean: mean of the batch, one value per channel.
        scale: the norm's weight (1 without weight) divided by the batch's standard deviation, one value per channel.
        shift: the norm's bias, one value per channel; None for a norm without bias.
    """

    mean: Tensor
    scale: Tensor
    shift: Tensor | None

    def output(self, x: Tensor) -> Tensor:
        """Compute the norm's output from its input.

        The norm runs in evaluation mode with a variance of exactly 1. PyTorch's CPU kernel then computes the same
        scale and shift per channel as it did in training mode, and so exactly the same output. `scale` already
        contains eps, so eps is 0 here. `torch.batch_norm` is called because, in PyTorch 2.10, `functional.batch_norm`
        refuses an eps of 0.
        """
        variance, cudnn = torch.ones_like(self.mean), torch.backends.cudnn.enabled
        return torch.batch_norm(x, self.scale, self.shift, self.mean, variance, False, 0.0, 0.0, cudnn)


def batch_norm_record(node: Any) -> BatchNormRecord | None:
    """Read the values that define a batch norm's output from its node in autograd's graph; None if some are missing.

    The result is None if the norm used running statistics, as in evaluation mode. It is also None for a norm with a
    weight but without a trained bias: the graph holds only a trained bias, so it does not show whether the norm has a
    frozen bias or no bias. A norm with neither a weight nor a trained bias is assumed to have no bias.

    Args:
        node: node of the batch norm, with a name in `NORM_NODES`.
    """
    if node.name() == "SyncBatchNormBackward":
        _, weight, mean, invstd, _ = node.saved_tensors
    elif node._saved_training:
        mean, invstd, weight = node._saved_result1, node._saved_result2, node._saved_weight
    else:
        return None
    bias, shift = None, node.next_functions[2][0]
    if weight is not None or shift is not None:
        bias = getattr(shift, "variable", None)
        if bias is None:
            return None
        bias = bias.detach().to(mean.dtype, copy=True)
    scale = invstd.detach().clone() if weight is None else invstd.detach() * weight.detach().to(invstd.dtype)
    return BatchNormRecord(mean.detach(), scale, bias)


@dataclass(frozen=True)
class PoolRecord:
    """A 3D max-pooling, read from autograd's graph.

    Attributes:
        address: memory address of the tensor that holds the positions of the maxima.
        compute: function that repeats the pooling with the same settings: from an input, it computes the output and the
            positions of the maxima.
    """

    address: int
    compute: Callable[[Tensor], tuple[Tensor, Tensor]]


def max_pool_record(node: Any) -> PoolRecord:
    """Read a 3D max-pooling's record from its node in autograd's graph.

    Args:
        node: node of the max-pooling, with the name `POOL_NODE`.
    """
    sizes = node._saved_kernel_size, node._saved_stride, node._saved_padding, node._saved_dilation
    ceil_mode = node._saved_ceil_mode

    def compute(x: Tensor) -> tuple[Tensor, Tensor]:
        return F.max_pool3d_with_indices(x, *sizes, ceil_mode)

    return PoolRecord(node._saved_result1.data_ptr(), compute)


def has_onednn_product() -> bool:
    """Check whether PyTorch was built with oneDNN, and has the operator that `onednn_product` calls."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute a @ b + bias for float32 matrices on the CPU, by oneDNN. PyTorch's public products use MKL for this.

    This function calls a private operator that `torch.compile` uses for linear layers. The operator has no derivative.
    """
    y: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.mT, bias, "none", [], "")
    return y


def is_transformed() -> bool:
    """Check whether operations are transformed or observed: by `torch.func`, forward-mode AD, or a dispatch mode.

    Dispatch modes count operations or compute only shapes, for example. PyTorch has no public function for this.
    """
    in_function_transform = torch._C._functorch.peek_interpreter_stack() is not None
    in_forward_mode = torch.autograd.forward_ad._current_level >= 0
    return in_function_transform or in_forward_mode or torch._C._len_torch_dispatch_stack() > 0
