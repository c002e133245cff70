"""Compute the logits of views and, on request, the features before the classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from farfield.data.transforms import network_input
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.progress import ProgressBar
from farfield.scoring.load import InferenceModel


class ViewScores(NamedTuple):
    """Logits of views and, if requested, the features before the classifier.

    Attributes:
        logits: one row per view, float32 for every precision, on the network's device.
        features: the classifier's input, one vector per view; None if not requested. If the network's head pools over
            several windows, this is the mean of the windows' vectors.
    """

    logits: Float[Tensor, "views classes"]
    features: Float[Tensor, "views c"] | None


def score_clips(model: Callable[[Tensor], Tensor], batches: Iterable[Float[Tensor, "b 3 t h w"]]) -> ViewScores:
    """Score batches of normalised clips. The model's mode (train or eval) and gradient tracking are left unchanged."""
    return ViewScores(torch.cat([model(clips).float() for clips in batches]), None)


@torch.inference_mode()
def score_views(
    model: InferenceModel,
    views: UInt8[Tensor, "views t h w c"],
    *,
    batch_size: int,
    features: bool = False,
    progress: bool = False,
    on_progress: Callable[[int, int], object] | None = None,
) -> ViewScores:
    """Score uint8 views in batches of `batch_size`, which bounds memory.

    Args:
        model: from `load_model` or `build_model`; it is put in evaluation mode.
        views: RGB frames, resized and cropped to the network's test size.
        batch_size: views per forward pass.
        features: whether to also return the features before the classifier.
        progress: show a progress bar.
        on_progress: called with (views done, views in all) after each batch.

    Raises:
        FarfieldError: if features are requested from an exported network, or if a score is NaN.
    """
    model.eval()
    parts = ProgressBar(views.split(batch_size), "views", unit="batch", leave=False, disable=None if progress else True)

    def clips() -> Iterator[Tensor]:
        done = 0
        for part in parts:
            yield network_input(part[None].to(model.device), model.clip).to(model.dtype)
            done += len(part)  # the next batch is asked for when this one has been scored
            if on_progress is not None:
                on_progress(done, len(views))

    batches = clips()
    if not features:
        return checked(score_clips(model, batches))
    if not isinstance(model, ActionNet):
        raise FarfieldError("an exported network returns scores, but no features. Use its checkpoint to get features.")
    embedded = [model.embed(each) for each in batches]
    logits = torch.cat([model.head.classify(each).float() for each in embedded])
    return checked(ViewScores(logits, torch.cat([each.mean(1).float() for each in embedded])))


def checked(scores: ViewScores) -> ViewScores:
    """Return the scores unchanged; raise `FarfieldError` if a score is NaN."""
    if scores.logits.isnan().any():
        raise FarfieldError(
            "the network returned NaN scores. Check that its training has not diverged. If precision is float16, use "
            "float32."
        )
    return scores
