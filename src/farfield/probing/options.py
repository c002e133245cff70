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
    """Hyperparameters of one head."""

    lr: float
    weight_decay: float


@dataclass(frozen=True)
class ProbeSettings:
    """Settings of a probe: heads that are trained on the features of a frozen network.

    Each head is trained with every pair of a learning rate and a weight decay, all at once: by default 24
    configurations, of 6 learning rates and 4 weight decays.

    Args:
        heads: heads to train. linear averages the features and classifies them, which takes seconds; attentive pools
            them by a learned query, as V-JEPA 2's probe does; non_local puts one non-local block before the average.
            The last two need the features of all positions on the disk, and are meant for a GPU.
        learning_rates: learning rates of AdamW, each of which falls to 0 along half a cosine.
        weight_decays: weight decays of AdamW, for all weights but biases and those of norms.
        head_options: options of the attentive head, as in model.head_options. By default it has 4 blocks, the
            last of which is the learned query, and 16 attention heads, or fewer if the number of channels is not a
            multiple of 16.
        halving: whether configurations of heads on maps are dropped that are behind on the validation videos after 1/16
            and 1/4 of the steps (successive halving): 24 take about as long as 4. Linear heads always train to the end.
        train_views: number of augmented clips of each training video whose features are computed.
        epochs: number of times that a head sees each training video, each time one of its views.
        min_steps: least number of training steps, for small sets, of which `epochs` would be too few.
        batch_size: number of clips in a training step.
        test: manifest of test videos, on which each head's best configuration is measured, with the network's test
            views. Validation videos choose the configuration.
        curve_draws: number of random choices of videos at each point of the curve of accuracy against videos per class;
            0 for no curve.
        cache: folder of computed features, which several runs may share; null for `features` in the run folder.
            Features of other weights, clips or augmentation are kept apart.
        dtype: number format of cached feature maps. float16 needs half the space. Pooled features are always float32.
        pool: largest size [t, h, w] of the maps of training clips; larger maps are average-pooled to it. Validation and
            test take whole maps. null keeps all maps whole.
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

        It is not checked at construction, where the parser would take the message for that of a wrong type.
        """
        for name in self.heads:
            if name not in get_args(HeadName):
                raise FarfieldError(f"probe.heads has {name!r}. {nearest(name, get_args(HeadName))}")
        for name in ("heads", "learning_rates", "weight_decays"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise FarfieldError(f"probe.{name} is {list(given)}; give at least one value, and each once.")
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
        """Configurations of each head."""
        return [Configuration(*pair) for pair in product(self.learning_rates, self.weight_decays)]

    def num_steps(self, num_videos: int) -> int:
        """Return the number of training steps for a number of training videos."""
        return max(self.epochs * -(-num_videos // self.batch_size), self.min_steps)
