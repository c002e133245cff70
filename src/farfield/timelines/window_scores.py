"""Class probabilities of sliding windows, scored in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from farfield.errors import VideoError
from farfield.scoring.aggregation import aggregate_views, view_probabilities
from farfield.scoring.load import InferenceModel
from farfield.scoring.score_views import score_views
from farfield.timelines.shared_frames import share_frames
from farfield.timelines.sliding_windows import Window, Windows


class WindowScore(NamedTuple):
    """Class probabilities and features of one window.

    The probabilities are the mean or the maximum over the window's crops, depending on the network's
    `views_aggregation`. The features are the classifier's input, averaged over the crops; None if not requested.
    """

    probabilities: Float[np.ndarray, " classes"]
    features: Float[np.ndarray, " c"] | None


def score_windows(
    windows: Windows | Iterable[Window],
    model: InferenceModel,
    view_batch_size: int = 8,
    features: bool = False,
    *,
    sharing: bool = True,
) -> Iterator[WindowScore]:
    """Yield the class probabilities of each window and, if requested, its features. Windows are scored in batches.

    If a frame cannot be decoded, the scores of all earlier windows are yielded before the error is raised.

    Args:
        windows: windows of one video, in order.
        model: a network from `load_model` or `build_model`.
        view_batch_size: windows x crops per forward pass; bounds memory.
        features: whether to also return the features of each window.
        sharing: whether overlapping windows share the features of the frames that they have in common. This works only
            if `windows` is a `Windows` and the network supports it (see `shared_frames.py`). Scores change by rounding
            only.
    """
    shared = share_frames(windows, model, view_batch_size) if sharing and isinstance(windows, Windows) else None
    for batch in _batches(windows, view_batch_size if shared is None else shared.views_at_once):
        if shared is not None:
            scores = shared.score(batch, features=features)
        else:
            views = torch.cat([window.frames for window in batch])
            scores = score_views(model, views, batch_size=view_batch_size, features=features)
        probabilities = (
            aggregate_views(
                view_probabilities(scores.logits, len(batch), model.task), method=model.clip.views_aggregation
            )
            .cpu()
            .numpy()
        )
        crops = (len(batch), len(batch[0].frames))
        vectors = None if scores.features is None else scores.features.unflatten(0, crops).mean(1).cpu().numpy()
        for i, each in enumerate(probabilities):
            yield WindowScore(each, None if vectors is None else vectors[i])


def _batches(windows: Iterable[Window], view_batch_size: int) -> Iterator[list[Window]]:
    """Group windows into batches. A batch is full once its windows x crops reach `view_batch_size`.

    If a window cannot be decoded, all earlier windows are yielded before the error is raised.
    """
    batch: list[Window] = []
    try:
        for window in windows:
            batch.append(window)
            if len(batch) * len(window.frames) >= view_batch_size:
                yield batch
                batch = []
    except VideoError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
