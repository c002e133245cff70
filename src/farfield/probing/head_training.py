"""Train a head with several configurations, and choose the best on the validation videos."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from farfield.data.datamodule import VideoDataModule
from farfield.probing.grid import Grid, Loss
from farfield.probing.halving import rounds, search_steps
from farfield.probing.heads import ProbeHead
from farfield.probing.options import Configuration, ProbeSettings
from farfield.probing.scoring import aggregated, score_videos
from farfield.probing.training_set import FeatureSet, training_rows


@dataclass(frozen=True)
class Measure:
    """Loss for training heads, and metrics for comparing them, both as in training of the whole network.

    Attributes:
        loss: training loss.
        figures: function of class probabilities and targets. It returns the validation metrics as {name: value}.
        monitor: name of the metric by which the best head and configuration are chosen.
        mode: "max" if a higher value of `monitor` is better, "min" if a lower one is.
        loss_figure: name of the validation loss, which breaks ties.
        curve_figure: name of the metric in the curve that shows accuracy against training videos per class.
    """

    loss: Loss
    figures: Callable[[Tensor, Tensor], dict[str, float]]
    monitor: str
    mode: Literal["min", "max"]
    loss_figure: str
    curve_figure: str

    def rank(self, figures: Mapping[str, float]) -> tuple[float, float]:
        """Return a sort key for validation metrics: higher for better metrics, lowest for a head that has diverged."""
        if not math.isfinite(figures[self.loss_figure]):
            return -math.inf, -math.inf
        value = figures[self.monitor]
        return (value if self.mode == "max" else -value), -figures[self.loss_figure]

    def of(self, grid: Grid, videos: FeatureSet) -> list[dict[str, float]]:
        """Return the metrics of each configuration in a grid, computed on the videos."""
        probabilities = aggregated(score_videos(grid, videos), grid.head.network[0])
        return [self.figures(each, videos.targets) for each in probabilities]


class HeadTraining:
    """Training of one head.

    Args:
        head: the head, with its initial weights.
        training: training videos.
        validation: videos that the configurations are compared on.
        settings: options of the probe.
        measure: loss and metrics.
        data: data module, of which only the seed and `class_balanced` are used.

    Attributes:
        figures: latest validation metrics of each configuration.
    """

    def __init__(
        self,
        head: ProbeHead,
        training: FeatureSet,
        validation: FeatureSet,
        settings: ProbeSettings,
        measure: Measure,
        data: VideoDataModule,
    ) -> None:
        self.head = head
        self.training = training
        self.validation = validation
        self.settings = settings
        self.measure = measure
        self.data = data
        self.figures: dict[Configuration, dict[str, float]] = {}
        self._about: dict[Configuration, dict[str, Any]] = {}

    def best(self) -> tuple[ProbeHead, Configuration]:
        """Train the head; return (the head with the weights of the best configuration, the best configuration).

        If the best configuration of a search diverges on whole maps, the next best is trained. If all of them diverge,
        a head that has diverged is returned.
        """
        configurations = self.settings.configurations
        steps = self.settings.num_steps(len(self.training))
        if not (self.head.takes_maps and self.settings.halving and len(configurations) > 1 and search_steps(steps)):
            grid, [first, *_] = self._train(configurations, steps)
            return grid.take(first), grid.configurations[first]
        searched, order = self._train(configurations, search_steps(steps), is_search=True)
        best_first = [searched.configurations[place] for place in order]
        for best in list(filter(self._has_converged, best_first)) or best_first[:1]:
            grid, _ = self._train([best], steps)
            if self._has_converged(best):
                break
        return grid.take(0), best

    def rows(self, best: Configuration) -> list[dict[str, Any]]:
        """Return a row of settings and metrics for each configuration. The entry "best" is True for `best` only."""
        return [
            self._about[each] | self.figures[each] | {"best": each == best} for each in self.settings.configurations
        ]

    def _has_converged(self, configuration: Configuration) -> bool:
        return math.isfinite(self.figures[configuration][self.measure.loss_figure])

    def _train(
        self, configurations: Sequence[Configuration], steps: int, *, is_search: bool = False
    ) -> tuple[Grid, list[int]]:
        """Train configurations from the initial weights.

        Args:
            configurations: hyperparameters to train with.
            steps: number of steps.
            is_search: whether to train on coarse feature maps (see `FeatureSet.coarse`), and to drop the worst
                configurations during training.

        Returns:
            (grid, order). `grid` holds the remaining configurations and their weights. `order` lists the indices of
            these configurations in the grid, from best to worst.
        """
        grid = Grid(self.head, configurations, self.measure.loss)
        ends = rounds(len(configurations), steps) if is_search else {}
        training, validation = self.training, self.validation
        if is_search:
            training, validation = training.coarse(), validation.coarse()

        def ranked(step: int) -> list[int]:
            found = self.measure.of(grid, validation)
            for configuration, loss, figures in zip(
                grid.configurations, grid.train_losses.tolist(), found, strict=True
            ):
                about = {"head": self.head.name, **configuration._asdict(), "steps": step, "coarse_maps": is_search}
                self._about[configuration] = about | {"train/loss": loss}
                self.figures[configuration] = figures
            return sorted(range(len(found)), key=lambda place: self.measure.rank(found[place]), reverse=True)

        def drop_those_behind(step: int) -> list[int] | None:
            return sorted(ranked(step)[: ends[step]]) if step in ends else None

        what = "search among heads" if is_search else "heads"
        grid.train(
            self._batches(training),
            steps,
            after_step=drop_those_behind,
            description=f"{self.head.name} {what} ({len(configurations)})",
        )
        return grid, ranked(steps)

    def _batches(self, training: FeatureSet) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        """Yield batches of training clips without end, each as (inputs of the head, targets).

        The inputs are feature maps if the head takes maps, else pooled vectors.
        """
        classes = training.video_targets.tolist() if self.data.class_balanced else None
        videos = np.arange(len(training))
        size = min(self.settings.batch_size, len(videos))
        each_video, seed = training.rows_per_video, self.data.seed
        for rows in training_rows(videos, size, rows_per_video=each_video, seed=seed, classes=classes):
            inputs = tuple(each[:, 0] for each in training.inputs(rows, maps=self.head.takes_maps))
            yield inputs, training.targets_of(rows)
