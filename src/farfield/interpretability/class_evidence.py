"""Class evidence over time: the logits of each time step, before they are averaged.

If the head is global average pooling and one linear layer, averaging over time before the linear layer gives the same
result as averaging after it. For the features A of a clip:

    y = W mean_thw(A) + b = mean_t (W mean_hw(A_t) + b) = mean_t y(t)

y(t) is the logit of a class at time step t. It is called the evidence of the class, and its mean over t is exactly the
network's own logit y. With two pathways, a time step of the slow pathway spans alpha steps of the fast pathway, and is
repeated for each of them. Evidence over time cannot be computed if a nonlinear layer lies between pooling and the
linear layer, or if the head averages over pooling windows that weight time steps unequally.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from farfield.fonts import shown_name
from farfield.interpretability.block_activations import grid_middles
from farfield.interpretability.legend import draw_legend, short_label
from farfield.models.network import ActionNet


@dataclass(frozen=True)
class Evidence:
    """Logits of each class at each time step.

    Their mean over time is the network's output; for a multi_head network, the output before the log-softmax over each
    head.

    Attributes:
        scores: the logits, with one row for each time step and one column for each class.
        middles: middle of each time step in the clip, in [0, 1).
    """

    scores: Float[Tensor, "t classes"]
    middles: Float[np.ndarray, " t"]


@torch.no_grad()
def class_evidence(network: ActionNet, clip: Float[Tensor, "1 3 t h w"]) -> Evidence | str:
    """Compute the class evidence over time, or return a one-line reason why this network has none.

    Args:
        network: network in evaluation mode, on the device of the clip.
        clip: clip, normalised by `network.clip`.
    """
    head, backbone = network.head, network.backbone
    if not backbone.has_map:
        return "no evidence over time: the network outputs one vector for the whole clip, not features over time."
    if head.attentive_pools is not None:
        return "no evidence over time: the attentive head mixes all time steps before the classifier."
    if not isinstance(head.embedding, nn.Identity):
        return "no evidence over time: there is a nonlinear layer between pooling and classifier."
    features = backbone(clip)
    maps = features if isinstance(features, list) else [features]
    if head.windows is not None and any(
        tuple(each.shape[2:]) != tuple(window.kernel_size)  # type: ignore[arg-type]
        for each, window in zip(maps, head.windows, strict=True)
    ):
        return f"no evidence over time: the {head.kind} head's pooling windows weight time steps unequally."
    steps = max(each.shape[2] for each in maps)
    if any(steps % each.shape[2] for each in maps):
        return "no evidence over time: the time steps of the two pathways do not align."
    pooled = [each[0].float().mean((2, 3)).repeat_interleave(steps // each.shape[2], dim=1) for each in maps]
    scores = head.fc(torch.cat(pooled).T.to(head.fc.weight.dtype)).float().cpu()
    finest = backbone.tops[-1]  # the fast pathway's, if there are two
    return Evidence(scores, grid_middles(backbone, finest, clip.shape[2], (steps, 1, 1))[0])


def draw_evidence(
    found: Evidence, seconds: Sequence[float] | Float[np.ndarray, " t"], labels: Sequence[str], *, top_k: int = 5
) -> Figure:
    """Draw the evidence of the `top_k` most probable classes over time: one curve per class.

    The dotted line of a class is the mean of its curve: the network's logit of the class.

    Args:
        found: evidence to draw.
        seconds: time of each time step in seconds.
        labels: class names.
        top_k: number of curves.
    """
    means = found.scores.mean(0)
    best = means.topk(min(top_k, len(labels))).indices.tolist()
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for place, index in enumerate(best):
        curve = found.scores[:, index].tolist()
        axes.plot(seconds, curve, ".-", color=f"C{place}", lw=2.2 if not place else 1.2)
        axes.axhline(float(means[index]), color=f"C{place}", lw=0.9, ls=":")
    handles = axes.get_lines()[::2]
    names = [f"{short_label(shown_name(labels[index], index))}  {float(means[index]):+.2f}" for index in best]
    draw_legend(axes, handles, names, title="class and its mean (dotted)")
    axes.set_xlabel("seconds")
    axes.set_ylabel("evidence (logit of each time step)")
    axes.grid(alpha=0.3)
    return figure
