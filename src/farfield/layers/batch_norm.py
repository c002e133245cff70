"""Batch normalisation.

Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift", ICML 2015, Algorithm 1. Over all M = b*t*h*w values x of one channel in a batch:

    mu     = 1/M sum x                             batch mean
    sigma2 = 1/M sum (x - mu)^2                    batch variance: *biased*, divided by M
    x_hat  = (x - mu) / sqrt(sigma2 + eps)         normalise
    y      = gamma x_hat + beta                    scale and shift, both learned

With gamma = sqrt(sigma2 + eps) and beta = mu the layer is the identity, so normalising does not restrict what a network
can compute.

In evaluation mu and sigma2 are the running statistics, gathered in training with a momentum m:

    running_mean = (1 - m) running_mean + m mu
    running_var  = (1 - m) running_var  + m sigma2 M / (M - 1)      the *unbiased* variance

This is PyTorch's convention: m is the weight of the new batch, by default 0.1. Textbooks, Caffe2 and Keras write
`running = m running + (1 - m) batch`: their 0.9 is PyTorch's 0.1. `momentum_from_decay` converts it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.layers.positions import memory_format
from farfield.layers.torch_private import BatchNormBase


def batch_norm(
    x: Float[Tensor, "b c *positions"],
    gamma: Float[Tensor, " c"],
    beta: Float[Tensor, " c"],
    running_mean: Float[Tensor, " c"],
    running_var: Float[Tensor, " c"],
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Float[Tensor, "b c *positions"], Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Compute batch normalisation by its equations in plain tensor operations, as a reference for `BatchNorm3d`.

    `BatchNorm3d` runs PyTorch's fused kernel, which gives the same result.

    Args:
        x: floating-point input (b, c, then any number of position axes).
        gamma: scale per channel.
        beta: shift per channel.
        running_mean: running mean, used in evaluation and updated in training.
        running_var: unbiased running variance, used in evaluation and updated in training.
        training: True to normalise by the batch's statistics and update the running statistics; False to normalise by
            the running statistics.
        momentum: weight of the new batch (PyTorch's convention).
        eps: added to the variance.

    Returns:
        Output, updated running mean and updated running variance. Nothing is changed in place.

    Raises:
        ValueError: if the input has a single value per channel in training: its variance is undefined.
    """
    axes = [0, *range(2, x.ndim)]
    per_channel = (1, -1) + (1,) * (x.ndim - 2)
    if training:
        m = x.numel() // x.shape[1]
        if m < 2:
            raise ValueError(
                f"batch_norm in training needs more than one value per channel; given an input of {tuple(x.shape)}. "
                "Give a larger batch."
            )
        mu = x.mean(axes)
        sigma2 = x.var(axes, unbiased=False)
        running_mean = (1 - momentum) * running_mean + momentum * mu.detach()
        running_var = (1 - momentum) * running_var + momentum * sigma2.detach() * m / (m - 1)
    else:
        mu, sigma2 = running_mean, running_var
    x_hat = (x - mu.view(per_channel)) / torch.sqrt(sigma2.view(per_channel) + eps)
    return gamma.view(per_channel) * x_hat + beta.view(per_channel), running_mean, running_var


def momentum_from_decay(decay: float) -> float:
    """Convert a decay, as in `running = decay running + (1 - decay) batch`, to PyTorch's momentum, 1 - decay.

    A decay of 0.9 in Caffe2, Keras or a textbook is a momentum of 0.1 in PyTorch. The same function converts back.

    Raises:
        ValueError: if decay is outside [0, 1].
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"a decay or momentum must lie between 0 and 1; given {decay}.")
    return 1 - decay


# The docstring is a template: subclasses fill in {axes}.
class _BatchNorm(BatchNormBase):
    """Batch normalisation per channel, for inputs ({axes}).

    This is a subclass of PyTorch's batch norm, so that sync-BN conversion, fusing and checkpoint formats work
    unchanged. It differs from PyTorch's in two points:

    - `zero_init` sets gamma to zero at initialisation and in `reset_parameters`.
    - If the batch axis or a position axis has size 1, PyTorch's gradient on the CPU can be wrong. This class computes
      the correct gradient (see `correct_gradient`).

    Args:
        num_features: channels c.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics; None for the plain average over batches.
        affine: learn gamma and beta.
        track_running_stats: keep running statistics for evaluation.
        zero_init: start from gamma = 0, so that a residual branch ending in this norm is zero at initialisation
            (Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 5.1; Wang et al., CVPR 2018, section 4.1).

    Raises:
        ValueError: if zero_init is set with affine=False, or a training input has a single value per channel.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        zero_init: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.zero_init = zero_init
        self.zero_at_init = ("weight",) if zero_init else ()
        if zero_init and not affine:
            raise ValueError("zero_init starts gamma at 0, and affine=False has no gamma. Leave one of them out.")
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.zero_init:
            nn.init.zeros_(self.weight)

    def forward(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c *positions"]:
        """Normalise x with PyTorch's batch norm; see `correct_gradient` for what is added."""
        return correct_gradient(super().forward(x), x)


def correct_gradient(
    y: Float[Tensor, "b c *positions"], x: Float[Tensor, "b c *positions"]
) -> Float[Tensor, "b c *positions"]:
    """Work around a fault of the gradient of PyTorch's batch norm on the CPU; return y.

    An axis of size 1 can have any stride. PyTorch's CPU kernel can then mistake the memory format of x or of the
    output's gradient, and silently compute the gradients of x, gamma and beta from permuted values (seen in torch
    2.14). Two examples:

    - x is a batch of one clip, stored as a transposed view of an array (1, n, c) of n positions.
    - x is contiguous, and the output's gradient is channels-last after residual sums and pooling.

    To avoid this, the output's gradient is converted to the memory format of x.

    Args:
        y: output of PyTorch's batch norm.
        x: input of PyTorch's batch norm.
    """
    at_risk = y.requires_grad and y.device.type == "cpu" and (len(y) == 1 or 1 in y.shape[2:])
    if at_risk and not torch.compiler.is_compiling():  # compiled code runs another kernel
        layout = memory_format(x)
        if layout != torch.contiguous_format or x.is_contiguous():
            y.register_hook(lambda g: None if g is None else g.contiguous(memory_format=layout))
    return y


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    __doc__ = (_BatchNorm.__doc__ or "").format(axes="b c or b c n")


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    __doc__ = (_BatchNorm.__doc__ or "").format(axes="b c h w")


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    __doc__ = (_BatchNorm.__doc__ or "").format(axes="b c t h w")


BATCH_NORM: dict[int, type[_BatchNorm]] = {1: BatchNorm1d, 2: BatchNorm2d, 3: BatchNorm3d}
"""Batch-norm classes by the number of position axes."""
