"""Precise batch normalisation: running statistics measured anew, for evaluation.

The running statistics of training are a moving average that forgets, over weights that have moved since. Wu and
Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3, measure them with the final weights instead. Over batches k
with n_k values per channel, mean m_k and *biased* variance v_k, with M = sum n_k,

    mean = sum n_k m_k / M
    var  = sum n_k (v_k + (m_k - mean)^2) / M

which is the variance of all M values; times M / (M - 1), since PyTorch's running variance is the unbiased one. In
float64. While it is measured each batch is normalised by its own statistics, so that deeper layers see what training
showed them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from farfield.layers.moments import Moments
from farfield.layers.sub_batch_norm import SubBatchNorm3d

BatchNorm = nn.modules.batchnorm._BatchNorm


@torch.no_grad()
def recalibrate(
    network: nn.Module, batches: Iterable[Any], *, forward: Callable[[nn.Module, Any], object] | None = None
) -> int:
    """Measures the running statistics of every batch norm in `network`, in place.

    Everything but the batch norms runs in evaluation mode (no dropout). Modes and momentum are as before afterwards,
    and when anything fails so are the statistics.

    Args:
        network: on the device of the batches. Batch norms that keep no running statistics, or are frozen, stay as they
            are.
        batches: what to measure on: augmented as in training, a few thousand clips.
        forward: how to run a batch; network(batch) if not given. For a loader of (clips, labels):
            `forward=lambda network, batch: network(batch[0])`.

    Returns:
        The number of batches measured.

    Raises:
        ValueError: for no batches, a network without such a norm, or a batch with one value per channel.
    """
    if isinstance(batches, Tensor):
        raise ValueError("batches is a tensor, and would be taken apart into its clips. Give a list: [clips].")
    seen = {m: Moments() for m in network.modules() if isinstance(m, BatchNorm) and m.track_running_stats}
    if not seen:
        raise ValueError(
            "the network has no batch norm that keeps running statistics; there is nothing to recalibrate."
        )
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
        norm.reset_running_stats()  # 0 times an old NaN is NaN
        norm.momentum = 1.0  # the running statistics become those of the batch, the variance unbiased
    hooks = [norm.register_forward_hook(add) for norm in seen]
    measured = 0
    done = False
    try:
        for batch in batches:
            forward(network, batch) if forward is not None else network(batch)
            measured += 1
        if not measured:
            raise ValueError("there are no batches to measure statistics on. Give at least one.")
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
