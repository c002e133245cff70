"""Sub-batch normalisation: statistics of small batches inside a large batch.

Wu, Girshick, He, Feichtenhofer, Kraehenbuehl, "A Multigrid Method for Efficiently Training Video Models", CVPR 2020,
section 3: a training batch of S times the base size is split into S parts of the base size, with sample i in part
i mod S. Each part is normalised by its own statistics, so the number of samples behind a statistic does not grow with
the batch. The scale gamma and the shift beta are shared by all parts. This is PySlowFast's `SubBatchNorm3d`
(`BN.NORM_TYPE: sub_batchnorm`), with the same state-dict keys.

For evaluation, the running statistics of the S equal parts are aggregated:

    mean = 1/S sum_s mean_s          var = 1/S sum_s (var_s + (mean_s - mean)^2)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.layers.batch_norm import BatchNorm3d
from farfield.layers.positions import check_input, like_memory
from farfield.layers.replace_modules import replace_modules


class SubBatchNorm3d(nn.Module):
    """Batch normalisation of (b c t h w), separately for each of S parts of the batch.

    The submodule `split_bn` holds the running statistics of the parts; `bn` holds the aggregated statistics for
    evaluation. `eval()` updates `bn` from `split_bn`, and so does `state_dict()` in training mode.

    Args:
        num_features: number of channels, c.
        num_splits: number of parts S; must divide the batch size in training.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics; None for the plain average over batches.
        affine: learn a scale gamma and a shift beta per channel.
        zero_init: start from gamma = 0 (see `BatchNorm3d`).

    Raises:
        ValueError: if num_splits is below 1 or does not divide a training batch, or zero_init is set with affine=False.
    """

    def __init__(
        self,
        num_features: int,
        num_splits: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        if num_splits < 1:
            raise ValueError(f"num_splits is {num_splits}; give at least 1.")
        if zero_init and not affine:
            raise ValueError("zero_init starts gamma at 0, and affine=False has no gamma. Leave one of them out.")
        self.num_features, self.num_splits, self.zero_init = num_features, num_splits, zero_init
        self.zero_at_init = ("weight",) if zero_init else ()
        self.weight = nn.Parameter(torch.empty(num_features)) if affine else None
        self.bias = nn.Parameter(torch.empty(num_features)) if affine else None
        self.bn = BatchNorm3d(num_features, eps, momentum, affine=False)
        self.split_bn = BatchNorm3d(num_features * num_splits, eps, momentum, affine=False)
        self.reset_parameters()
        self.register_state_dict_pre_hook(_aggregate_first)

    def reset_parameters(self) -> None:
        """Reset gamma, beta and the running statistics to their initial values."""
        self.bn.reset_parameters()
        self.split_bn.reset_parameters()
        if self.weight is not None and self.bias is not None:
            nn.init.constant_(self.weight, 0 if self.zero_init else 1)
            nn.init.zeros_(self.bias)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        check_input(x, self.num_features, 3, "SubBatchNorm3d")
        if not self.training:
            y = self.bn(x)
        else:
            if len(x) % self.num_splits:
                raise ValueError(
                    f"a batch of {len(x)} cannot be split into {self.num_splits} equal parts. Choose a batch size that "
                    f"is divisible by num_splits, and drop the last batch if it is smaller."
                )
            # Samples i, i + S, ... share a part: the channels of S consecutive samples become separate channels.
            parts = x.reshape(len(x) // self.num_splits, self.num_splits * self.num_features, *x.shape[2:])
            y = like_memory(self.split_bn(parts).reshape(x.shape), x)
        if self.weight is None or self.bias is None:
            return y
        per_channel = (-1, 1, 1, 1)
        return y * self.weight.to(y.dtype).view(per_channel) + self.bias.to(y.dtype).view(per_channel)

    @torch.no_grad()
    def aggregate(self) -> None:
        """Compute the running statistics in `bn` from those of the parts in `split_bn`."""
        means = self.split_bn.running_mean.view(self.num_splits, -1)  # type: ignore[union-attr]
        variances = self.split_bn.running_var.view(self.num_splits, -1)  # type: ignore[union-attr]
        mean = means.mean(0)
        self.bn.running_mean.copy_(mean)  # type: ignore[union-attr]
        self.bn.running_var.copy_((variances + (means - mean) ** 2).mean(0))  # type: ignore[union-attr]

    def train(self, mode: bool = True) -> SubBatchNorm3d:
        if self.training and not mode:
            self.aggregate()
        super().train(mode)
        return self

    def extra_repr(self) -> str:
        return f"{self.num_features}, num_splits={self.num_splits}"


def split_batch_norm(network: nn.Module, num_splits: int) -> nn.Module:
    """Replace every 3D batch norm in `network` by a `SubBatchNorm3d`, in place.

    Gamma and beta are kept, and each part starts from the batch norm's running statistics. The state dict then has
    PySlowFast's keys. A checkpoint with the keys of plain batch norms must be loaded before the split. To save such a
    checkpoint, call `join_batch_norm` first.

    Returns:
        `network`, or its replacement if it is a batch norm itself.

    Raises:
        ValueError: if num_splits is below 1, or a norm is already split into another number of parts.
    """

    def split(module: nn.Module) -> nn.Module | None:
        if isinstance(module, SubBatchNorm3d):
            if module.num_splits != num_splits:
                raise ValueError(
                    f"a norm is already split into {module.num_splits} parts; given num_splits={num_splits}. Call "
                    "join_batch_norm first."
                )
            return module
        return _split(module, num_splits) if isinstance(module, nn.BatchNorm3d) else None

    return replace_modules(network, split)


def _split(norm: nn.BatchNorm3d, num_splits: int) -> SubBatchNorm3d:
    split = SubBatchNorm3d(
        norm.num_features,
        num_splits,
        eps=norm.eps,
        momentum=norm.momentum,
        affine=norm.affine,
        zero_init=getattr(norm, "zero_init", False),
    )
    like = next((v for v in norm.state_dict().values() if v.is_floating_point()), torch.empty(0))
    split.to(device=like.device, dtype=like.dtype)
    split.weight, split.bias = norm.weight, norm.bias
    if norm.running_mean is not None and norm.running_var is not None:
        split.split_bn.running_mean.copy_(norm.running_mean.repeat(num_splits))  # type: ignore[union-attr]
        split.split_bn.running_var.copy_(norm.running_var.repeat(num_splits))  # type: ignore[union-attr]
        split.aggregate()
    return split.train(norm.training)


def join_batch_norm(network: nn.Module) -> nn.Module:
    """Replace, in place, every `SubBatchNorm3d` in `network` by a `BatchNorm3d`.

    Both give the same output in evaluation mode.

    Returns:
        `network`, or its replacement if it is a `SubBatchNorm3d` itself.
    """
    return replace_modules(network, lambda module: _join(module) if isinstance(module, SubBatchNorm3d) else None)


def join_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict in which each `SubBatchNorm3d` is a `BatchNorm3d`, as `join_batch_norm` makes it.

    The statistics are the aggregated ones in `bn`, and the count of batches is that of `split_bn`. Other entries, and
    norms that are not split, are kept.
    """
    end = "split_bn.running_mean"
    norms = [name.removesuffix(end) for name in state if name == end or name.endswith(f".{end}")]
    renamed: dict[str, str | None] = {}
    for norm in norms:
        renamed |= {f"{norm}bn.{name}": f"{norm}{name}" for name in ("running_mean", "running_var")}
        renamed |= {f"{norm}split_bn.{name}": None for name in ("running_mean", "running_var")}
        renamed |= {
            f"{norm}bn.num_batches_tracked": None,
            f"{norm}split_bn.num_batches_tracked": f"{norm}num_batches_tracked",
        }
    named = ((renamed.get(name, name), value) for name, value in state.items())
    return {name: value for name, value in named if name is not None}


def _join(split: SubBatchNorm3d) -> BatchNorm3d:
    if split.training:
        split.aggregate()
    bn = split.bn
    joined = BatchNorm3d(
        split.num_features, bn.eps, bn.momentum, affine=split.weight is not None, zero_init=split.zero_init
    )
    joined.weight, joined.bias = split.weight, split.bias  # type: ignore[assignment]
    joined.running_mean, joined.running_var = bn.running_mean, bn.running_var
    joined.num_batches_tracked = split.split_bn.num_batches_tracked
    return joined.train(split.training)


def _aggregate_first(module: nn.Module, prefix: str, keep_vars: bool) -> None:
    assert isinstance(module, SubBatchNorm3d)
    if module.training:
        module.aggregate()
