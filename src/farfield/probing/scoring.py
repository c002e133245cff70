"""Score the views of validation or test videos with a single head, or with all configurations of a head at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farfield.data.manifest import Manifest
from farfield.evaluation.manifest_scores import video_scores
from farfield.evaluation.scores_file import Scores
from farfield.models.network import ActionNet
from farfield.probing.grid import Grid
from farfield.probing.heads import ProbeHead
from farfield.probing.training_set import FeatureSet
from farfield.scoring.aggregation import aggregate_views, view_probabilities

VIEWS_AT_ONCE = 64
"""Number of views that are scored at once; bounds memory."""


def score_videos(grid: Grid, videos: FeatureSet) -> Float[Tensor, "k n views classes"]:
    """Compute class probabilities of every view with each of the k configurations of a head.

    Args:
        grid: the head and its k configurations.
        videos: features of the n videos.

    Returns:
        Class probabilities, on the CPU.
    """
    return _score(grid.head.eval(), grid.scores, videos)


def score_head(head: ProbeHead, videos: FeatureSet) -> Float[Tensor, "n views classes"]:
    """Compute class probabilities of every view of the videos with a single head. The result is on the CPU."""
    return _score(head.eval(), lambda inputs: head(*inputs)[None], videos)[0]


@torch.no_grad()
def _score(
    head: ProbeHead, logits_of: Callable[[Sequence[Tensor]], Float[Tensor, "k b classes"]], videos: FeatureSet
) -> Float[Tensor, "k n views classes"]:
    task = head.network[0].task
    found = []
    at_once = max(VIEWS_AT_ONCE // int(videos.vectors.shape[1]), 1)
    for begin in range(0, len(videos), at_once):
        rows = np.arange(begin, min(begin + at_once, len(videos)))
        logits = logits_of([each.flatten(0, 1) for each in videos.inputs(rows, maps=head.takes_maps)])
        found.append(torch.stack([view_probabilities(each, len(rows), task) for each in logits]).cpu())
    return torch.cat(found, 1)


def aggregated(probabilities: Float[Tensor, "k n views classes"], network: ActionNet) -> Float[Tensor, "k n classes"]:
    """Aggregate class probabilities over views, by mean or maximum as the network's clip settings specify."""
    return aggregate_views(probabilities, method=network.clip.views_aggregation)


def as_scores(
    probabilities: Float[Tensor, "n views classes"], videos: FeatureSet, manifest: Manifest, network: ActionNet
) -> Scores:
    """Build the `Scores` of a test from the class probabilities of the views.

    Args:
        probabilities: class probabilities of each view of each video.
        videos: the scored videos, with their targets.
        manifest: manifest that these videos are from.
        network: the probed network; its labels, its task and its aggregation of views are used.
    """
    return video_scores(
        manifest,
        videos.manifest_rows,
        videos.targets,
        probabilities,
        labels=network.labels,
        views_aggregation=network.clip.views_aggregation,
        task=network.task,
    )
