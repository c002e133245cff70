"""Batch-norm diagnostics: outdated running statistics, small batches, dead or exploding channels.

A batch norm gives the same output in evaluation as in training only if its running statistics match the statistics of
its input. `diagnose` runs the network in evaluation mode on some batches, measures the mean and variance of each norm's
input, and compares them with the running statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from farfield.layers.frozen_batch_norm import FrozenBatchNorm3d
from farfield.layers.moments import Moments
from farfield.layers.positions import at_least_float32
from farfield.layers.sub_batch_norm import SubBatchNorm3d
from farfield.layers.torch_private import BatchNormBase

BATCH_NORMS = (BatchNormBase, FrozenBatchNorm3d)

SMALL_BATCH = 16
"""Clips per batch, or per part of a `SubBatchNorm3d`, below which statistics are noisy.

See Wu and He, "Group Normalization", ECCV 2018.
"""


@dataclass(frozen=True)
class NormReport:
    """Diagnosis of one batch norm.

    Attributes:
        name: name in `named_modules`.
        num_features: number of channels.
        clips_per_batch: number of samples that are normalised by the same statistics.
        values_per_channel: the effective batch size: clips_per_batch times the number of positions.
        mean_drift: |measured mean - running mean| in running standard deviations, median over channels.
        worst_mean_drift: |measured mean - running mean| in running standard deviations, maximum over channels.
        var_ratio: measured variance / running variance, median over channels.
        dead: number of channels whose output has a standard deviation below the argument `dies` of `diagnose`; 0 if
            gamma is zero in all channels.
        exploding: number of channels whose output has a standard deviation that is not finite, or above the argument
            `explodes` of `diagnose`.
        problems: descriptions of problems; empty for a healthy norm.
    """

    name: str
    num_features: int
    clips_per_batch: int
    values_per_channel: int
    mean_drift: float
    worst_mean_drift: float
    var_ratio: float
    dead: int
    exploding: int
    problems: tuple[str, ...]


@torch.no_grad()
def diagnose(
    network: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Callable[[nn.Module, Any], object] | None = None,
    drifts: float = 0.5,
    dies: float = 1e-5,
    explodes: float = 100.0,
) -> list[NormReport]:
    """Return a report on every batch norm with running statistics, in the order in which the norms run.

    The network is left unchanged. A problem in one norm changes the input of all later norms, so fix the first problem
    first.

    Args:
        network: network to diagnose; training and evaluation modes are restored.
        batches: evaluation data, in batches of the training size.
        forward: function of network and batch that runs the network; None for network(batch). For a loader of (clips,
            labels): `forward=lambda network, batch: network(batch[0])`.
        drifts: largest accepted `mean_drift`. Accepted values of `var_ratio` are 1 / (1 + drifts) to 1 + drifts.
        dies: standard deviation of a channel's output below which the channel is dead.
        explodes: standard deviation of a channel's output above which the channel explodes.

    Raises:
        ValueError: if there are no batches.
    """
    names = {
        m: name for name, m in network.named_modules() if isinstance(m, BATCH_NORMS) and m.running_mean is not None
    }
    parts: dict[Any, int] = {m.bn: m.num_splits for m in network.modules() if isinstance(m, SubBatchNorm3d)}
    gammas: dict[Any, Any] = {m.bn: m.weight for m in network.modules() if isinstance(m, SubBatchNorm3d)}
    seen: dict[Any, Moments] = {}
    clips: dict[Any, int] = {}

    def record(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        x = at_least_float32(inputs[0]).transpose(0, 1).flatten(1)
        var, mean = torch.var_mean(x, dim=1, correction=0)
        seen.setdefault(norm, Moments()).add(x.shape[1], mean, var)
        clips[norm] = max(clips.get(norm, 0), len(inputs[0]))

    modes = {module: module.training for module in network.modules()}
    # Evaluation mode aggregates the statistics of a `SubBatchNorm3d`.
    before = {bn: (bn.running_mean.clone(), bn.running_var.clone()) for bn in parts}
    hooks = [norm.register_forward_pre_hook(record) for norm in names]
    network.eval()
    norms: list[Any] = list(names)
    running = {n: tuple(v.to(torch.float64, copy=True) for v in (n.running_mean, n.running_var)) for n in norms}
    try:
        count = 0
        for count, batch in enumerate(batches, start=1):  # noqa: B007
            forward(network, batch) if forward is not None else network(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
        for bn, (running_mean, running_var) in before.items():
            bn.running_mean.copy_(running_mean)
            bn.running_var.copy_(running_var)
    if not count:
        raise ValueError("there are no batches to diagnose the norms on. Give at least one batch.")

    reports = []
    for norm, moments in seen.items():
        mean, var = moments.mean_and_var()
        running_mean, running_var = running[norm]
        std = (running_var + norm.eps).sqrt()
        drift = (mean - running_mean).abs() / std
        ratio = ((var + norm.eps) / (running_var + norm.eps)).nanmedian().item()
        weight = gammas.get(norm, norm.weight)
        gamma = torch.ones_like(std) if weight is None else weight.double().abs()
        output_std = gamma * var.sqrt() / std
        dead = int((output_std < dies).sum()) if gamma.any() else 0
        exploding = int((~output_std.isfinite() | (output_std > explodes)).sum())
        clips_per_batch = clips[norm] // parts.get(norm, 1)
        median_drift = drift.nanmedian().item()
        problems = []
        if not median_drift <= drifts or not 1 / (1 + drifts) <= ratio <= 1 + drifts:
            problems.append("running statistics do not match the norm's input: recalibrate")
        live = isinstance(norm, BatchNormBase) and not isinstance(norm, nn.SyncBatchNorm)
        if clips_per_batch < SMALL_BATCH and live:
            problems.append(
                f"statistics are noisy in training (clips per batch: {clips_per_batch}): freeze or synchronise"
            )
        if dead:
            problems.append(f"dead channels: {dead}")
        if exploding:
            problems.append(f"exploding channels: {exploding}")
        reports.append(
            NormReport(
                name=names[norm].removesuffix(".bn") if norm in parts else names[norm],
                num_features=len(mean),
                clips_per_batch=clips_per_batch,
                values_per_channel=max(moments.counts) // parts.get(norm, 1),
                mean_drift=median_drift,
                worst_mean_drift=drift.max().item(),
                var_ratio=ratio,
                dead=dead,
                exploding=exploding,
                problems=tuple(problems),
            )
        )
    return reports


def not_zero_at_init(network: nn.Module) -> list[str]:
    """Return the names of the parameters that should be zero at initialisation but are not.

    Modules whose residual branch starts at zero have the attribute `zero_at_init`: the names of the parameters that
    make the branch zero. This package's blocks, and its norms with `zero_init`, have this attribute. After training,
    these parameters are expected to be nonzero.
    """
    wrong: list[str] = []
    for name, module in network.named_modules():
        for key in getattr(module, "zero_at_init", ()):
            full = f"{name}.{key}" if name else key
            if full not in wrong and module.get_parameter(key).any():
                wrong.append(full)
    return wrong


def format_reports(reports: Sequence[NormReport]) -> str:
    """Format reports as a table, one line per norm with its problems at the end."""
    width = max([len(report.name) for report in reports] + [4])
    lines = [f"{'norm':{width}}  channels  clips  values  mean drift  (worst)  var ratio  dead  exploding"]
    for r in reports:
        lines.append(
            f"{r.name:{width}}  {r.num_features:8}  {r.clips_per_batch:5}  {r.values_per_channel:6}  "
            f"{r.mean_drift:10.3f}  {r.worst_mean_drift:7.2f}  {r.var_ratio:9.3f}  {r.dead:4}  {r.exploding:9}  "
            f"{'; '.join(r.problems)}".rstrip()
        )
    return "\n".join(lines)
