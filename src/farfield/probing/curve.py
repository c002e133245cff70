"""Accuracy against the number of training videos per class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Int
from matplotlib.figure import Figure
from torch import Tensor

from farfield.data.randomness import Purpose, generator
from farfield.probing.grid import Grid, Loss
from farfield.probing.heads import ProbeHead
from farfield.probing.options import Configuration, ProbeSettings
from farfield.probing.training_set import FeatureSet, training_rows


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy of heads trained with a limited number of videos per class.

    Attributes:
        videos_per_class: maximum number of training videos of each class. Classes with fewer videos use all of them.
        videos: number of training videos, averaged over the random draws of videos.
        values: for each draw, the accuracy or mean average precision of the head that was trained on it, in [0, 1].
    """

    videos_per_class: int
    videos: float
    values: list[float]

    @property
    def mean(self) -> float:
        """Mean over the draws."""
        return fmean(self.values)


def videos_per_class(targets: Tensor) -> list[int]:
    """Return the numbers of videos per class to train with: 1, 2, 4, ... and, last, the size of the largest class.

    Args:
        targets: class of each video; for a multilabel task, a row for each video with 1 for the classes that it has
            (see `Batch.labels`).
    """
    counts = torch.bincount(targets) if targets.ndim == 1 else (targets > 0).sum(0)
    largest = max(int(counts.max()), 1)
    return [2**power for power in range((largest - 1).bit_length())] + [largest]


def choose_videos(targets: Tensor, count: int, *, seed: int, draw: int) -> Int[np.ndarray, " n"]:
    """Choose `count` videos of each class at random, or all videos of a class that has fewer.

    In a multilabel task, `count` videos without any class are chosen, too. With the same seed and draw, the videos
    chosen for a smaller count are among those for a larger one.

    Args:
        targets: class of each video; for a multilabel or multi-head task, a row for each video with 1 for the classes
            that it has.
        count: number of videos to choose of each class.
        seed: seed of the run.
        draw: index of the random draw.

    Returns:
        Indices of the chosen videos, ascending.
    """
    rng = generator(Purpose.REPLACEMENT, seed, draw)
    classes = targets.numpy()
    if classes.ndim == 1:
        members = [np.flatnonzero(classes == each) for each in range(int(classes.max()) + 1)]
    else:
        members = [np.flatnonzero(each > 0) for each in classes.T] + [np.flatnonzero(~(classes > 0).any(1))]
    return np.unique(np.concatenate([rng.permutation(each)[:count] for each in members]))


def learning_curve(
    make: Callable[[], ProbeHead],
    configuration: Configuration,
    training: FeatureSet,
    evaluate: Callable[[Grid], Sequence[float]],
    settings: ProbeSettings,
    loss: Loss,
    *,
    seed: int,
) -> list[CurvePoint]:
    """Train heads on 1, 2, 4, ... videos of each class, and measure their accuracy or mean average precision.

    For each number, the videos are drawn at random several times (`settings.curve_draws`). One head is trained on each
    draw, and the heads of all draws are trained at once.

    The numbers stay below the size of the largest class. The curve's last point, with all videos, is not part of the
    result, because a head has already been trained on all videos. Features are always standardised by the mean and
    standard deviation over all training videos, which needs no labels.

    Args:
        make: function that returns a new head with its initial weights.
        configuration: learning rate and weight decay, the same for all heads.
        training: all training videos.
        evaluate: function that returns the accuracy or mean average precision of each head of a grid. The heads of a
            grid differ here in the random draw, not in the configuration.
        settings: options of the probe.
        loss: training loss.
        seed: seed of the run.
    """
    of_videos = training.video_targets
    points = []
    for count in videos_per_class(of_videos)[:-1]:
        chosen = [choose_videos(of_videos, count, seed=seed, draw=draw) for draw in range(settings.curve_draws)]
        grid = Grid(make(), [configuration] * len(chosen), loss)
        smallest = min(map(len, chosen))
        streams = [
            training_rows(
                each,
                min(settings.batch_size, smallest),
                rows_per_video=training.rows_per_video,
                seed=seed,
                draw=draw + 1,
            )
            for draw, each in enumerate(chosen)
        ]
        grid.train(
            _stacked_batches(training, streams, maps=grid.head.takes_maps),
            settings.num_steps(max(map(len, chosen))),
            own_inputs=True,
            description=f"curve, {count} per class",
        )
        points.append(CurvePoint(count, fmean(map(len, chosen)), [float(each) for each in evaluate(grid)]))
    return points


def _stacked_batches(
    training: FeatureSet, streams: Sequence[Iterator[np.ndarray]], *, maps: bool
) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    while True:
        rows = np.stack([next(each) for each in streams])
        inputs = [each[:, 0].unflatten(0, rows.shape) for each in training.inputs(rows.ravel(), maps=maps)]
        yield tuple(inputs), training.targets_of(rows.ravel()).unflatten(0, rows.shape)


def plot_curve(points: Sequence[CurvePoint], *, metric: str, measured_on: str) -> Figure:
    """Plot the metric (mean and range over draws) against the number of training videos per class.

    Args:
        points: points of the curve.
        metric: name of the metric.
        measured_on: "test" or "validation": the videos that the metric is measured on.
    """
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    counts = [each.videos_per_class for each in points]
    lowest, highest = ([100 * choose(each.values) for each in points] for choose in (min, max))
    axes.fill_between(counts, lowest, highest, alpha=0.2, label="lowest to highest draw")
    axes.plot(counts, [100 * each.mean for each in points], marker="o", label="mean of the draws")
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(each) for each in counts])
    axes.minorticks_off()
    axes.set_xlabel("training videos per class")
    axes.set_ylabel(f"{metric} on {measured_on} videos (%)")
    axes.set_ylim(0, 104)  # points at 100% are drawn whole
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure
