"""Contribution of each window of a video to the prediction.

A window is the time span of one sampled clip. Window i has the class probabilities p_i. The video's class probabilities
p are the mean of all p_i or, if the network's views are aggregated by "max", their maximum. Without window i, the video
has the probabilities p_without_i: the mean or maximum over all other windows. The contribution of window i to a class
is how much the window raises the video's probability of the class:

    contribution_i = p - p_without_i          which is (p_i - p) / (windows - 1) for the mean

With the mean, the contribution is positive if the window gives the class a higher probability than the other windows do
on average. With the maximum, it is positive only for a window whose probability is above those of all others,
and otherwise 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

from farfield.clip_spec import ViewsAggregation
from farfield.errors import FarfieldError
from farfield.fonts import draw_text, drawable, shown_name
from farfield.interpretability.legend import draw_legend, short_label
from farfield.scoring.aggregation import aggregate_views


def window_contributions(
    probabilities: Float[np.ndarray, "windows classes"], index: int, aggregation: ViewsAggregation = "mean"
) -> Float[np.ndarray, " windows"] | None:
    """Return how much each window raises the video's probability of a class, or None if there is only one window.

    Args:
        probabilities: class probabilities of each window.
        index: index of the class.
        aggregation: "mean" or "max": how the windows' probabilities are combined into those of the video.
    """
    windows = len(probabilities)
    if windows < 2:
        return None
    of_class = probabilities[:, index]
    if aggregation == "max":
        return of_class.max() - np.array([np.delete(of_class, i).max() for i in range(windows)])
    without = (of_class.sum() - of_class) / (windows - 1)
    return of_class.mean() - without


def draw_windows(
    start_seconds: Sequence[float] | Float[np.ndarray, " windows"],
    end_seconds: Sequence[float] | Float[np.ndarray, " windows"],
    probabilities: Float[np.ndarray, "windows classes"],
    labels: Sequence[str],
    *,
    top_k: int = 5,
    aggregation: ViewsAggregation = "mean",
    contributions_to: int | None = None,
    explained: int | None = None,
    title: str = "",
) -> Figure:
    """Draw the probabilities of a video's most probable classes over time, one horizontal line per class and window.

    If there are several windows, a second plot shows each window's contribution to one class. If all windows span about
    the same time, as for a network that samples frames from the whole video, they are drawn side by side and numbered.

    Args:
        start_seconds: start of each window.
        end_seconds: end of each window, exclusive.
        probabilities: class probabilities of each window.
        labels: class names.
        top_k: number of classes to draw.
        aggregation: "mean" or "max": how the windows' probabilities are combined into those of the video.
        contributions_to: index of the class whose contributions the second plot shows; None for the most probable
            class. The first plot always shows this class, even if it is not among the `top_k`.
        explained: index of a window to mark; None for no mark.
        title: title above the plot.

    Raises:
        FarfieldError: if there are no windows, or `start_seconds`, `end_seconds` and `probabilities` differ in length.
    """
    windows = len(probabilities)
    if not windows or len(start_seconds) != windows or len(end_seconds) != windows:
        raise FarfieldError(
            f"given {len(start_seconds)} start_seconds, {len(end_seconds)} end_seconds and {windows} rows of "
            "probabilities; each window needs one of each. Give equal numbers of all three, at least 1."
        )
    starts, ends = np.asarray(start_seconds, dtype=float), np.asarray(end_seconds, dtype=float)
    same = windows > 1 and np.ptp(starts + ends) < 0.5 * float((ends - starts).mean())
    if same:
        starts, ends = np.arange(windows) + 0.55, np.arange(windows) + 1.45
    of_video = aggregate_views(torch.from_numpy(probabilities), method=aggregation).numpy()
    best = np.argsort(-of_video, kind="stable")[:top_k].tolist()
    main = best[0] if contributions_to is None else contributions_to
    best += [] if main in best else [main]
    gains = window_contributions(probabilities, main, aggregation)
    heights = [3] if gains is None else [3, 1.4]
    figure = Figure(figsize=(9, 0.2 + sum(heights)), layout="constrained")
    rows = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    axes = rows[0]
    if explained is not None and windows > 1:
        for each in rows:
            each.axvspan(starts[explained], ends[explained], color="0.92", zorder=0)
    middles = (starts + ends) / 2
    handles = []
    for place, index in reversed(list(enumerate(best))):
        colour, thick = f"C{place}", 3.0 if index == main else 1.6
        axes.hlines(probabilities[:, index], starts, ends, color=colour, lw=thick)
        handles += axes.plot(middles, probabilities[:, index], ".-", color=colour, lw=0.8, alpha=0.8, zorder=3)
    names = [f"{short_label(shown_name(labels[index], index))}  {100 * of_video[index]:.1f}%" for index in best]
    draw_legend(axes, handles[::-1], names, title=f"class and its {'maximum' if aggregation == 'max' else 'mean'}")
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("probability")
    axes.grid(alpha=0.3)
    if gains is not None:
        colours = [f"C{best.index(main)}" if gain >= 0 else "#b04a3a" for gain in gains]
        rows[1].bar(middles, 100 * gains, 0.85 * np.minimum(ends - starts, _spacing(middles)), color=colours)
        rows[1].axhline(0, color="0.4", lw=0.8)
        rows[1].set_ylabel("contribution,\npercentage points", fontsize=9)
        rows[1].grid(alpha=0.3)
        if np.abs(gains).max() < 1e-6:
            rows[1].set_ylim(-1, 1)
    rows[-1].set_xlabel("window" if same else "seconds")
    if same:
        rows[-1].set_xticks(range(1, windows + 1))
    if title:
        axes.set_title(drawable(title), fontsize=10, **draw_text(title))
    return figure


def _spacing(middles: np.ndarray) -> float:
    steps = np.diff(np.sort(middles))
    steps = steps[steps > 1e-9]
    return float(steps.min()) if len(steps) else np.inf
