"""Options of a probe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NamedTuple, cast, get_args

from farfield.errors import FarfieldError, nearest

HeadName = Literal["linear", "attentive", "non_local"]
FeatureType = Literal["float32", "float16"]


class Configuration(NamedTuple):
    """Hyperparameters with which a head is trained."""

    lr: float
    weight_decay: float


@dataclass(frozen=True)
class ProbeSettings:
    """Settings of a probe: heads that are trained on the features of a frozen network.

    Each head is trained with every pair of a learning rate and a weight decay (a configuration), all at once. By
    default, 6 learning rates and 4 weight decays give 24 configurations.

    Args:
        heads: heads to train. "linear" averages the features and classifies the average, which takes seconds.
            "attentive" pools the features by attention with a learned query, as in V-JEPA 2's probe. "non_local" puts
            one non-local block before the average. "attentive" and "non_local" need the features of all positions
            (feature maps), which are stored on disk, and are meant for a GPU.
        learning_rates: learning rates of AdamW at the first step. Each falls to 0 along half a cosine.
        weight_decays: weight decays of AdamW. Biases, weights of norms and the learned query are not decayed.
        head_options: options of the "attentive" head, as in model.head_options. By default this head has 4 blocks, the
            last of which attends with the learned query. It has 16 attention heads, or fewer if the number of channels
            is not a multiple of 16.
        halving: whether to choose the configuration of "attentive" and "non_local" heads by a short training on coarse
            maps, with half the length, height and width (successive halving). Of 24 configurations, the 6 best on the
            validation videos go on after 1/20 of the steps. After 1/5 of the steps, the best of the 6 is chosen, and
            then trained from the start on whole maps. false trains all configurations on whole maps. "linear" heads
            are always trained with all configurations.
        train_views: number of augmented clips of each training video.
        epochs: number of times that a head sees each training video, each time in a view drawn at random.
        min_steps: minimum number of training steps. It applies to small data sets, on which `epochs` gives fewer.
        batch_size: number of clips in a training step.
        test: manifest of test videos, on which each head's best configuration is measured with the network's test
            views; null for no test. Which configuration is best is decided on the validation videos.
        curve_draws: number of random draws of training videos at each point of the curve that shows accuracy against
            training videos per class; 0 for no curve.
        cache: folder for computed features, which several runs may share; null for `features` in the run folder.
            Features of different weights, clip settings or augmentations are stored separately.
        dtype: number format of cached feature maps. float16 needs half the space. Pooled features are always float32.
        pool: maximum size [t, h, w] of the maps of training clips; larger maps are average-pooled to it. null for
            no pooling. Maps of validation and test videos are never pooled.
    """

    heads: tuple[str, ...] = ("linear",)
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    weight_decays: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)
    head_options: dict[str, Any] | None = None
    halving: bool = True
    train_views: int = 4
    epochs: int = 20
    min_steps: int = 300
    batch_size: int = 32
    test: str | None = None
    curve_draws: int = 5
    cache: str | None = None
    dtype: FeatureType = "float32"
    pool: tuple[int, int, int] | None = None

    def check(self) -> None:
        """Raise `FarfieldError` for a value out of range.

        The constructor does not check, because the config parser would report an error raised there as a wrong type.
        """
        for name in self.heads:
            if name not in get_args(HeadName):
                raise FarfieldError(f"probe.heads has {name!r}. {nearest(name, get_args(HeadName))}")
        for name in ("heads", "learning_rates", "weight_decays"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise FarfieldError(f"probe.{name} is {list(given)}; give at least one value, and each value once.")
        if not all(0 < lr < math.inf for lr in self.learning_rates):
            raise FarfieldError(f"probe.learning_rates is {list(self.learning_rates)}; all must be above 0.")
        if not all(0 <= decay < math.inf for decay in self.weight_decays):
            raise FarfieldError(f"probe.weight_decays is {list(self.weight_decays)}; all must be at least 0.")
        for name, least in (
            ("train_views", 1), ("epochs", 1), ("min_steps", 1), ("batch_size", 2), ("curve_draws", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise FarfieldError(f"probe.{name} is {getattr(self, name)}; it must be at least {least}.")
        if self.pool is not None and min(self.pool) < 1:
            raise FarfieldError(f"probe.pool is {list(self.pool)}; give three sizes (t h w) of at least 1.")

    @property
    def head_names(self) -> tuple[HeadName, ...]:
        """Heads to train."""
        return cast(tuple[HeadName, ...], self.heads)

    @property
    def configurations(self) -> list[Configuration]:
        """Configurations with which each head is trained: all pairs of a learning rate and a weight decay."""
        return [Configuration(*pair) for pair in product(self.learning_rates, self.weight_decays)]

    def num_steps(self, num_videos: int) -> int:
        """Return the number of training steps on `num_videos` training videos."""
        return max(self.epochs * -(-num_videos // self.batch_size), self.min_steps)
