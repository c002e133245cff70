"""Post-training quantization to 8 bits, and measurement of the loss of accuracy on clips.

NNCF chooses the value ranges of activations from their values on the clips. Weights have one range per channel. Nothing
is trained.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.exporters.parity import normalised, predicted_classes, reference
from farfield.exporters.reference_clips import ReferenceClip
from farfield.exporters.trace import silence_exporter_logs
from farfield.models.network import ActionNet
from farfield.optional_dependencies import require_packages
from farfield.progress import ProgressBar
from farfield.runtimes.exported_network import ExportedNet
from farfield.task import class_probabilities


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of an 8-bit network compared with the original, on the central clips of videos.

    A multi_head network has a most probable class for each head. `agreement` counts a video only if both networks have
    the same class for every head. `top1` and `top1_int8` count it only if the class of every head is right.

    Attributes:
        videos: number of videos.
        agreement: share of videos for which both networks have the same most probable class.
        largest: the largest difference of a class probability, over all videos.
        mean: the largest difference of a class probability per video, averaged over videos.
        top1: top-1 accuracy of the original on the videos whose class is known; None if no class is known.
        top1_int8: top-1 accuracy of the 8-bit network on the same videos; None if no class is known.
    """

    videos: int
    agreement: float
    largest: float
    mean: float
    top1: float | None
    top1_int8: float | None


@dataclass(frozen=True)
class MultilabelAccuracy:
    """Accuracy of a multilabel 8-bit network compared with the original, on the central clips of videos.

    The agreement does not count classes that neither network finds in a video. A video shows only a few of the classes,
    so with all classes counted, even networks that find different classes would seem to agree.

    Attributes:
        videos: number of videos.
        found: number of (video, class) pairs for which at least one of the networks reaches the threshold.
        agreement: share of these pairs for which both networks reach the threshold; None if there are no such pairs.
        largest: the largest difference of a class probability, over all videos.
        mean: the largest difference of a class probability per video, averaged over videos.
        map: mean average precision of the original on the videos whose labels are known; None if no label is known.
        map_int8: mean average precision of the 8-bit network on the same videos; None if no label is known.
    """

    videos: int
    found: int
    agreement: float | None
    largest: float
    mean: float
    map: float | None
    map_int8: float | None


def quantize(path: Path, spec: ClipSpec, takes_frames: bool, clips: Sequence[ReferenceClip]) -> Any:
    """Quantise the graph of an OpenVINO file to 8 bits, and return it as an `openvino.Model`.

    Args:
        path: .xml file of the float graph.
        spec: clip settings of the network.
        takes_frames: whether the graph takes uint8 frames and normalises them itself.
        clips: clips from which the ranges of the 8-bit activations are determined.

    Raises:
        FarfieldError: if NNCF is not installed.
    """

    def graph_input(clip: ReferenceClip) -> np.ndarray:
        return (clip.frames if takes_frames else normalised(clip.frames, spec).contiguous()).numpy()

    with redirect_stdout(sys.stderr), warnings.catch_warnings(), require_packages("nncf", "openvino"):
        warnings.simplefilter("ignore")
        import nncf
        import openvino

        with silence_exporter_logs():  # not nncf.set_log_level, which also changes the level of others' handlers
            model = openvino.Core().read_model(path)
            dataset = nncf.Dataset(clips, graph_input)
            return nncf.quantize(model, dataset, subset_size=len(clips), preset=nncf.QuantizationPreset.MIXED)


def measure_accuracy(
    network: ActionNet, int8: ExportedNet, clips: Sequence[ReferenceClip]
) -> Accuracy | MultilabelAccuracy:
    """Compare the scores of the original and of the 8-bit network on clips."""
    scores: list[tuple[Float[Tensor, " classes"], Float[Tensor, " classes"]]] = []
    for clip in ProgressBar(clips, "measure 8 bits", unit="clip", delay=1, leave=False):
        x = normalised(clip.frames, network.clip)
        scores.append((reference(network, x)[0], int8(x)[0]))
    ours, theirs = (class_probabilities(torch.stack(parts), network.task) for parts in zip(*scores, strict=True))
    differences = (ours - theirs).abs().amax(1)
    largest, mean = float(differences.max()), float(differences.mean())
    known = [i for i, clip in enumerate(clips) if clip.target is not None]
    targets = torch.from_numpy(np.array([clips[i].target for i in known]))
    if network.task == "multilabel":
        agreement, found = _common_share(predicted_classes(network, ours), predicted_classes(network, theirs))
        return MultilabelAccuracy(
            len(clips), found, agreement, largest, mean, _map(ours[known], targets), _map(theirs[known], targets)
        )

    sizes = network.head.head_sizes or [len(network.labels)]
    right = _best_classes(targets, sizes) if targets.ndim == 2 else targets[:, None]

    def top1(of: Tensor) -> float | None:
        return float((_best_classes(of[known], sizes) == right).all(1).float().mean()) if known else None

    agreement = float((_best_classes(ours, sizes) == _best_classes(theirs, sizes)).all(1).float().mean())
    return Accuracy(len(clips), agreement, largest, mean, top1(ours), top1(theirs))


def _best_classes(values: Float[Tensor, "n classes"], head_sizes: Sequence[int]) -> Int[Tensor, "n heads"]:
    """Return the index of the class with the highest value in each head."""
    return torch.stack([each.argmax(1) for each in values.split(list(head_sizes), 1)], 1)


def _common_share(a: Bool[Tensor, "videos classes"], b: Bool[Tensor, "videos classes"]) -> tuple[float | None, int]:
    """Count the entries that are true in `a` or `b`. Return the share of them that is true in both, and the count.

    The share, from 0 to 1, is None if no entry is true in `a` or `b`.
    """
    found = int((a | b).sum())
    return int((a & b).sum()) / found if found else None, found


def _map(probabilities: Float[Tensor, "known classes"], targets: Tensor) -> float | None:
    """Return the mean average precision; None if no video has any class."""
    from farfield.evaluation.class_metrics import mean_average_precision  # late: slow to import

    return mean_average_precision(probabilities, targets > 0) if targets.any() else None
