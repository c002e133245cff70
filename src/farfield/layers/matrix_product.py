"""Product of two float32 matrices on the CPU, by the faster of PyTorch's two libraries.

PyTorch multiplies float32 matrices with MKL, whose fastest kernels run on Intel's processors only. PyTorch's other
library, oneDNN, has AVX-512 kernels for every processor. On a fifth-generation AMD EPYC, oneDNN is 2.2 times as fast as
MKL (`scripts/benchmark_layers.py --real_sizes` prints both rates). PyTorch's convolutions run on oneDNN already.

The result can have contiguous rows, computed as a b, or contiguous columns, computed as (b^T a^T)^T. Rows suit
channels_last features, and columns suit contiguous features, so neither has to be copied into the other format.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.layers.positions import by_columns, split_samples, stack_samples
from farfield.layers.torch_private import has_onednn_product, is_transformed, onednn_product

SMALL = 2**22
"""Multiply-adds below which oneDNN's fixed cost of a call (tens of microseconds) makes it slower than MKL."""


def product(
    a: Float[Tensor, "n k"],
    b: Float[Tensor, "k m"],
    bias: Float[Tensor, " m"] | None = None,
    *,
    columns: bool | None = None,
) -> Float[Tensor, "n m"]:
    """Compute a b + bias. It can be differentiated any number of times.

    Args:
        a: left factor, in any strides.
        b: right factor, in any strides.
        bias: added to every row.
        columns: whether the columns of the result (True) or its rows (False) are contiguous in memory; None for the
            layout of a. `columns` has no effect on products that oneDNN does not compute, for example small ones.
    """
    if not fast(a, b, multiply_adds=a.shape[0] * a.shape[1] * b.shape[1]):
        return a @ b if bias is None else torch.addmm(bias, a, b)
    # The transposition is outside of the function: a view made inside of it cannot be changed in place.
    if by_columns(a) if columns is None else columns:
        transposed: Tensor = _Product.apply(b.mT, a.mT, bias, 1)
        return transposed.mT
    result: Tensor = _Product.apply(a, b, bias, 0)
    return result


def batched_product(a: Float[Tensor, "b n k"], b: Float[Tensor, "b k m"]) -> Float[Tensor, "b n m"]:
    """Compute a b for every sample of a batch. oneDNN has no batched product, so it computes sample after sample."""
    if fast_samples(a, b, width=b.shape[2]):
        return stack_samples([product(*pair) for pair in zip(split_samples(a), split_samples(b), strict=True)])
    return a @ b


def fast(*tensors: Tensor, multiply_adds: int) -> bool:
    """Return whether oneDNN, instead of PyTorch's own matrix product, should compute a product.

    oneDNN computes products of float32 tensors on a CPU with AVX-512, from `SMALL` multiply-adds on. It is not used for
    subclasses of tensors, under autocast, in compiled or traced code, in transformed functions (`torch.func`), or if
    `torch.backends.mkldnn` is disabled.

    Args:
        tensors: the factors of the product, or tensors that contain the factors, such as batches.
        multiply_adds: number of multiply-adds of the product.
    """
    if is_recorded() or multiply_adds < SMALL or not _has_kernels() or not torch.backends.mkldnn.enabled:
        return False
    plain = all(
        type(x) in (Tensor, nn.Parameter) and x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors
    )
    return plain and not torch.is_autocast_enabled("cpu") and not is_transformed()


def fast_samples(x: Tensor, *others: Tensor, width: int) -> bool:
    """Return whether oneDNN should multiply each sample of a batch by a matrix; see `fast`.

    Args:
        x: the batch, with samples along the first axis.
        others: further tensors of the computation, such as the matrix. Their type, device and dtype are checked, too.
        width: number of columns of the matrix.
    """
    if is_recorded():  # the size of a batch would be a constant of the graph
        return False
    return len(x) > 0 and fast(x, *others, multiply_adds=x.numel() // len(x) * width)


def is_recorded() -> bool:
    """Check whether the code is being compiled, exported or traced, and may later run on inputs of other sizes."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


@cache
def _has_kernels() -> bool:
    return has_onednn_product() and torch.backends.cpu.get_cpu_capability() == "AVX512"


class _Product(torch.autograd.Function):
    """Product a b, plus an optional bias vector: added to every row if `axis` is 0, to every column if it is 1."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, bias: Tensor | None, axis: int) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.axis = axis
        a, b = _dense(a), _dense(b)
        if bias is None or axis == 0:
            return onednn_product(a, b, bias)
        return onednn_product(a, b).add_(bias.unsqueeze(1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (grad,) = grads
        a, b = ctx.saved_tensors
        needs_a, needs_b, needs_bias, _ = ctx.needs_input_grad
        return (
            product(grad, b.mT, columns=by_columns(a)) if needs_a else None,
            product(a.mT, grad, columns=by_columns(b)) if needs_b else None,
            grad.sum(ctx.axis) if needs_bias else None,
            None,
        )


def _dense(x: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Return x itself if its rows or columns lie in memory without gaps, otherwise a copy without gaps.

    Some products of matrices with gaps take 2,000 times as long, because oneDNN has no fast kernel for them.
    """
    if x.is_contiguous() or x.mT.is_contiguous():
        return x
    return x.mT.contiguous().mT if by_columns(x) else x.contiguous()
