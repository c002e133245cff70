"""Precise batch normalisation: recompute running statistics for evaluation.

Training gathers running statistics as a moving average while the weights change. Wu and Johnson, "Rethinking 'Batch' in
BatchNorm", 2021, section 3, compute them with the final weights instead. Batch k has n_k values per channel, with
mean m_k and *biased* variance v_k. All batches together have M = sum n_k values per channel. Their statistics are

    mean = sum n_k m_k / M
    var  = sum n_k (v_k + (m_k - mean)^2) / M

This var is the biased variance of all M values. It is multiplied by M / (M - 1), since PyTorch's running variance is
unbiased. Statistics are computed in float64. While they are gathered, each batch is normalised by its own statistics,
so that deeper layers have the same input as in training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from farfield.layers.moments import Moments
from farfield.layers.sub_batch_norm import SubBatchNorm3d
from farfield.layers.torch_private import BatchNormBase


@torch.no_grad()
def recalibrate(
    network: nn.Module, batches: Iterable[Any], *, forward: Callable[[nn.Module, Any], object] | None = None
) -> int:
    """Recompute the running statistics of every batch norm in `network`, in place.

    All other modules run in evaluation mode (no dropout). Training modes and momentum are restored afterwards. After an
    exception, the statistics are restored, too.

    Args:
        network: network on the device of the batches. Frozen batch norms, and batch norms without running statistics,
            are left unchanged.
        batches: training batches with augmentation, a few thousand clips in total.
        forward: function of network and batch that runs the network; None for network(batch). For a loader of (clips,
            labels): `forward=lambda network, batch: network(batch[0])`.

    Returns:
        Number of batches used.

    Raises:
        ValueError: if there are no batches, the network has no batch norm with running statistics, batches is a tensor,
            or a batch has only one value per channel, which has no variance.
    """
    if isinstance(batches, Tensor):
        raise ValueError("batches is a tensor, which would be split into single clips. Give a list of batches.")
    seen = {m: Moments() for m in network.modules() if isinstance(m, BatchNormBase) and m.track_running_stats}
    if not seen:
        raise ValueError("the network has no batch norm with running statistics; there is nothing to recalibrate.")
    modes = {module: module.training for module in network.modules()}
    before = {norm: (norm.momentum, {k: v.clone() for k, v in norm.state_dict().items()}) for norm in seen}
    network.eval()
    for module in network.modules():
        if isinstance(module, SubBatchNorm3d):
            module.training = module.split_bn.training = True

    def add(norm: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        n = inputs[0].numel() // inputs[0].shape[1]
        if isinstance(norm, nn.SyncBatchNorm) and torch.distributed.is_initialized():
            n *= torch.distributed.get_world_size(norm.process_group)
        seen[norm].add(n, norm.running_mean, norm.running_var.double() * ((n - 1) / n))

    for norm in seen:
        norm.train()
        norm.reset_running_stats()  # since 0 times an old NaN is NaN
        norm.momentum = 1.0  # running statistics become those of the batch, with unbiased variance
    hooks = [norm.register_forward_hook(add) for norm in seen]
    measured = 0
    done = False
    try:
        for batch in batches:
            forward(network, batch) if forward is not None else network(batch)
            measured += 1
        if not measured:
            raise ValueError("there are no batches to compute statistics on. Give at least one batch.")
        done = True
    finally:
        for hook in hooks:
            hook.remove()
        for norm, (momentum, state) in before.items():
            norm.momentum = momentum
            norm.load_state_dict(state)
            if done and seen[norm].total:
                mean, var = seen[norm].mean_and_var()
                norm.running_mean.copy_(mean)  # type: ignore[union-attr]
                norm.running_var.copy_(var * seen[norm].total / (seen[norm].total - 1))  # type: ignore[union-attr]
        for module, mode in modes.items():
            if done and isinstance(module, SubBatchNorm3d):
                module.aggregate()
            module.training = mode
    return measured
