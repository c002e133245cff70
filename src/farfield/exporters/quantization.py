"""Post-training quantization to 8 bits, and measurement of the loss of accuracy on clips.

NNCF chooses the range of activations from their values on the clips, and a range per channel for weights. Nothing is
trained.
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
from jaxtyping import Float
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.exporters.parity import normalised, reference
from farfield.exporters.reference_clips import ReferenceClip
from farfield.exporters.trace import silence_exporter_logs
from farfield.models.network import ActionNet
from farfield.optional_dependencies import require_packages
from farfield.progress import ProgressBar
from farfield.runtimes.exported_network import ExportedNet


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of an 8-bit network compared with the original, on the central clips of videos.

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


def quantize(path: Path, spec: ClipSpec, takes_frames: bool, clips: Sequence[ReferenceClip]) -> Any:
    """Quantize the graph of an OpenVINO file to 8 bits.

    Args:
        path: .xml file of the float graph.
        spec: clip settings of the network.
        takes_frames: whether the graph takes uint8 frames and normalises them itself.
        clips: clips to choose the ranges on.

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


def measure_accuracy(network: ActionNet, int8: ExportedNet, clips: Sequence[ReferenceClip]) -> Accuracy:
    """Compare the scores of the original and of the 8-bit network on clips."""
    scores: list[tuple[Float[Tensor, " classes"], Float[Tensor, " classes"]]] = []
    for clip in ProgressBar(clips, "measure 8 bits", unit="clip", delay=1, leave=False):
        x = normalised(clip.frames, network.clip)
        scores.append((reference(network, x)[0].softmax(-1), int8(x)[0].softmax(-1)))
    ours, theirs = (torch.stack(parts) for parts in zip(*scores, strict=True))
    differences = (ours - theirs).abs().amax(1)
    known = [i for i, clip in enumerate(clips) if clip.target is not None]
    targets = torch.tensor([clips[i].target for i in known])

    def top1(of: Tensor) -> float | None:
        return float((of[known].argmax(1) == targets).float().mean()) if known else None

    agreement = float((ours.argmax(1) == theirs.argmax(1)).float().mean())
    return Accuracy(
        len(clips), agreement, float(differences.max()), float(differences.mean()), top1(ours), top1(theirs)
    )
