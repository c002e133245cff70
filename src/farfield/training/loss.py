"""Training loss of a single-label task: cross entropy or focal loss, with class weights and targets of mixed clips."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from farfield.errors import FarfieldError


@dataclass(frozen=True)
class LossSettings:
    """Settings of the training loss for classes with uneven numbers of videos.

    The validation loss, val/loss, ignores these settings. `class_weights` and `effective_beta` are for single-label
    tasks, `pos_weight` is for multilabel tasks.

    Args:
        class_weights: weight of each class in the loss. "inverse" is proportional to 1 / videos of the class.
            "effective" is proportional to 1 / the effective number of samples of the class (Cui et al., CVPR 2019), see
            `effective_beta`. {name: weight} sets the weights of the named classes; all other classes have the weight 1.
            In all three cases the weights are then scaled so that their mean over the training videos is 1, which keeps
            the size of the loss. With None, all weights are 1.
        effective_beta: beta of "effective", in [0, 1): a class with n videos has the effective number
            (1 - beta^n) / (1 - beta). 0 gives equal weights; near 1, the weights approach those of "inverse". The
            effective number cannot exceed 1 / (1 - beta), so that classes with many more videos than that have nearly
            equal weights.
        pos_weight: weight of the positives of each class in a multilabel loss. "balanced" is negatives / positives
            among the training videos, so that positives and negatives count equally; it cannot be used with
            `data.whole_videos` or `data.untrimmed`. A number is the weight for all classes. {name: weight} sets the
            weights of the named classes; all other classes have the weight 1. With None, all weights are 1.
        focal_gamma: gamma of the focal loss (Lin et al., ICCV 2017), which multiplies the loss by (1 - p)^gamma, where
            p is the probability of the clip's class. Clips that are already classified well count less; the paper uses
            a gamma of 2. With 0, the loss is the cross entropy.
    """

    class_weights: Literal["inverse", "effective"] | dict[str, float] | None = None
    effective_beta: float = 0.9999
    pos_weight: Literal["balanced"] | float | dict[str, float] | None = None
    focal_gamma: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.effective_beta < 1:
            raise FarfieldError(
                f"loss.effective_beta is {self.effective_beta}; it must be at least 0 and below 1, for example 0.999."
            )
        if not 0 <= self.focal_gamma < math.inf:
            raise FarfieldError(f"loss.focal_gamma is {self.focal_gamma}; it must be a number of at least 0.")
        if isinstance(self.pos_weight, float | int) and not 0 < self.pos_weight < math.inf:
            raise FarfieldError(f"loss.pos_weight is {self.pos_weight}; it must be a number above 0.")
        self._check_named("class_weights")
        self._check_named("pos_weight")

    def _check_named(self, option: str) -> None:
        """If the option maps class names to weights, check the weights, and convert the names to strings."""
        given = getattr(self, option)
        if not isinstance(given, dict):
            return
        by_name = {str(name): weight for name, weight in given.items()}  # YAML reads 7 as a number
        object.__setattr__(self, option, by_name)
        for name, weight in by_name.items():
            if not 0 < weight < math.inf:
                raise FarfieldError(f"loss.{option} has the weight {weight} for {name!r}; it must be a number above 0.")


class ClipBatch(Protocol):
    """A batch of clips, with the attributes that training uses."""

    clips: Float[Tensor, "b*v 3 t h w"]
    labels: Int[Tensor, " b"] | Float[Tensor, "b classes"]
    """Class index of each clip; for a `multilabel` or `multi_head` task, 1 for the clip's classes and 0 for all others.

    For clips of untrimmed videos, the share of the clip's time, in [0, 1], that each class covers.
    """
    draw: Any
    """Random draws of the augmentation; None without augmentation.

    If clips were mixed, `draw.mix` has `partner` (b,), the batch index of the clip that each clip was mixed with, and
    `share` (b,), the weight of each clip's own label. Otherwise `draw.mix` is None.
    """


def mixed_targets(batch: ClipBatch) -> Float[Tensor, "b classes"]:
    """Return the targets of a batch. The target of a mixed clip is the weighted mean of the two clips' targets."""
    mix = None if batch.draw is None else batch.draw.mix
    if mix is None:
        return batch.labels
    return torch.lerp(batch.labels[mix.partner], batch.labels, mix.share[:, None].to(batch.labels.dtype))


def labelled_part(
    batch: ClipBatch, is_labelled: Bool[Tensor, " b"] | None
) -> tuple[ClipBatch, Float[Tensor, " b"] | None]:
    """Return a batch whose targets come from labelled clips only, and each clip's weight in the loss.

    The target and the weight depend on the clip:
    - An unmixed labelled clip, or a mix of two labelled clips: the target is unchanged, and the weight is 1.
    - A mix of a labelled and an unlabelled clip: the target is that of the labelled clip, and the weight is the
      labelled clip's share in the mix.
    - An unmixed unlabelled clip, or a mix of two unlabelled clips: the weight is 0.

    Args:
        batch: batch of clips. `labels` may hold any valid values for unlabelled clips.
        is_labelled: whether each clip has a label. None if all clips have labels; the batch is then returned unchanged,
            with None as weights.
    """
    if is_labelled is None:
        return batch, None
    has_label = is_labelled.float()
    mix = None if batch.draw is None else batch.draw.mix
    if mix is None:
        return batch, has_label
    own, other = mix.share * has_label, (1 - mix.share) * has_label[mix.partner]
    share = own / (own + other).clamp_min(torch.finfo(own.dtype).tiny)
    changed: Any = batch
    return changed._replace(draw=batch.draw._replace(mix=mix._replace(share=share))), own + other


def mean_over_clips(losses: Float[Tensor, "b ..."], weights: Float[Tensor, " b"] | None) -> Float[Tensor, ""]:
    """Return the mean of all losses, each multiplied by its clip's weight; if `weights` is None, all weights are 1."""
    if weights is None:
        return losses.mean()
    return (losses * weights.to(losses.dtype).view(-1, *[1] * (losses.ndim - 1))).mean()


def classification_loss(
    logits: Float[Tensor, "b classes"],
    batch: ClipBatch,
    *,
    label_smoothing: float = 0.0,
    class_weights: Float[Tensor, " classes"] | None = None,
    focal_gamma: float = 0.0,
    clip_weights: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, ""]:
    """Compute the mean cross entropy or focal loss of a batch.

    The loss of a clip mixed by MixUp or CutMix is the mean of the losses for its two labels, weighted by their shares.

    The clips' losses, multiplied by class weights and clip weights, are summed and divided by the number of clips.
    torch's `cross_entropy(reduction="mean")` divides by the sum of the clips' class weights instead, so that the same
    clip counts more in a batch with small class weights. Over the whole training set, both divisors are equal if the
    class weights of its videos have the mean 1.

    Args:
        logits: output of the network.
        batch: clips with their labels and, if they were mixed, their partners and shares.
        label_smoothing: share of the target that is spread over all classes.
        class_weights: weight of each class; None for equal weights.
        focal_gamma: gamma of the focal loss; 0 for the cross entropy.
        clip_weights: factor for each clip's loss before the average, see `labelled_part`; None for factors of 1.
    """

    def losses(labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        if focal_gamma:
            return focal_loss(logits, labels, gamma=focal_gamma, weight=class_weights, label_smoothing=label_smoothing)
        return F.cross_entropy(logits, labels, weight=class_weights, label_smoothing=label_smoothing, reduction="none")

    mix = None if batch.draw is None else batch.draw.mix
    own = losses(batch.labels)
    if mix is None:
        return mean_over_clips(own, clip_weights)
    return mean_over_clips(torch.lerp(losses(batch.labels[mix.partner]), own, mix.share), clip_weights)


def focal_loss(
    logits: Float[Tensor, "b classes"],
    labels: Int[Tensor, " b"],
    *,
    gamma: float,
    weight: Float[Tensor, " classes"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " b"]:
    """Compute each clip's focal loss in softmax form: the sum over classes c of -w_c q_c (1 - p_c)^gamma log p_c.

    In this formula:
    - p_c: probability of the class, from the softmax of the logits.
    - w_c: weight of the class (alpha in the paper).
    - q_c: target of the class, 1 for the clip's class and 0 for all others. Label smoothing multiplies all targets by
      1 - label_smoothing, and then adds label_smoothing / classes to each.

    With a gamma of 0, this is torch's `cross_entropy(reduction="none")`.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 5. The paper and
    `torchvision.ops.sigmoid_focal_loss` use sigmoids; the paper calls the extension to several classes straightforward.

    Returns:
        float32, or float64 for float64 logits.
    """
    log_p = F.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=1)
    # The gradient of 0^gamma is infinite for a gamma below 1, and NaN when multiplied by that of log p, which is 0.
    others = (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).tiny)  # 1 - p
    losses = -(others**gamma) * log_p
    if weight is not None:
        losses = losses * weight
    own = losses.gather(1, labels[:, None]).squeeze(1)
    return torch.lerp(own, losses.mean(1), label_smoothing)
