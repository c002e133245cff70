"""Pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure
from torch import Tensor

NAMED_CLASSES = 60
"""More classes than this are drawn without their names, which could not be read."""


def plot_confusion(
    confusion: Int[Tensor, "classes classes"], labels: Sequence[str], path: str | Path | None = None
) -> Figure:
    """Draws a confusion matrix, each row as fractions of its class; saves it as PNG where a path is given."""
    counts = confusion.numpy()
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    classes = len(labels)
    named = classes <= NAMED_CLASSES
    side = 2.5 + (0.32 * classes if named else 6)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(fractions, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, ax=axes, shrink=0.8, label="fraction of the class")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if named:
        axes.set_xticks(range(classes), labels, rotation=90)
        axes.set_yticks(range(classes), labels)
    if classes <= 25:
        for i, j in zip(*np.nonzero(counts), strict=True):
            shade = "white" if fractions[i, j] > 0.5 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=shade, fontsize=8)
    if path is not None:
        with matplotlib.rc_context({"savefig.dpi": 120}):
            figure.savefig(path)
    return figure
