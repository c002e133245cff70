"""8-bit weights and activations, their ranges chosen on clips; what that costs in accuracy is measured on them.

Post-training quantisation by NNCF: activations get the range that they have on the clips, weights a range per channel.
Nothing is trained, and no accuracy is promised.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from farfield.clip_spec import ClipSpec
from farfield.exporters.parity import ParityVideo, central_clip, normalised, reference, spread
from farfield.models.network import ActionNet
from farfield.optional_dependencies import require_packages
from farfield.runtimes.exported_network import ExportedNet


@dataclass(frozen=True)
class Accuracy:
    """An 8-bit network against the network that it was, on the central clips of videos.

    Attributes:
        videos: how many.
        agreement: the share of them that both give the same most probable class.
        largest: the largest difference of a class probability.
        mean: the mean of each video's largest difference of a class probability.
        top1: of the network, over the videos whose class is known; None where none is.
        top1_int8: likewise of the 8-bit one.
    """

    videos: int
    agreement: float
    largest: float
    mean: float
    top1: float | None
    top1_int8: float | None


def quantize(path: Path, spec: ClipSpec, takes_frames: bool, videos: Sequence[ParityVideo], at_most: int) -> Any:
    """The graph of an OpenVINO file in 8 bits.

    Args:
        path: .xml, with normalisation inside or not.
        spec: what it wants of clips.
        takes_frames: it has the normalisation inside.
        videos: to choose ranges by.
        at_most: so many of them, spread evenly.

    Raises:
        FarfieldError: where NNCF is missing, or a video cannot be read.
    """
    chosen = [videos[i] for i in spread(len(videos), at_most)]

    def clips() -> Iterator[np.ndarray]:
        for video in chosen:
            frames = central_clip(video, spec)
            yield (frames if takes_frames else normalised(frames, spec).contiguous()).numpy()

    ready = list(clips())  # before NNCF is imported, which takes seconds: a video may be damaged
    with redirect_stdout(sys.stderr), warnings.catch_warnings(), require_packages("nncf", "openvino"):
        warnings.simplefilter("ignore")
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        model = openvino.Core().read_model(path)
        return nncf.quantize(model, nncf.Dataset(ready), subset_size=len(ready), preset=nncf.QuantizationPreset.MIXED)


def measure_accuracy(network: ActionNet, int8: ExportedNet, videos: Sequence[ParityVideo]) -> Accuracy:
    """Scores the central clip of each video with both.

    Raises:
        VideoError: for a video that cannot be read.
    """
    scores: list[tuple[Float[Tensor, " classes"], Float[Tensor, " classes"]]] = []
    for video in tqdm(videos, "measure 8 bits", unit="clip", delay=1, leave=False):
        clips = normalised(central_clip(video, network.clip), network.clip)
        scores.append((reference(network, clips)[0].softmax(-1), int8(clips)[0].softmax(-1)))
    ours, theirs = (torch.stack(parts) for parts in zip(*scores, strict=True))
    apart = (ours - theirs).abs().amax(1)
    known = [i for i, video in enumerate(videos) if video.target is not None]
    targets = torch.tensor([videos[i].target for i in known])

    def top1(of: Tensor) -> float | None:
        return float((of[known].argmax(1) == targets).float().mean()) if known else None

    agreement = float((ours.argmax(1) == theirs.argmax(1)).float().mean())
    return Accuracy(len(videos), agreement, float(apart.max()), float(apart.mean()), top1(ours), top1(theirs))
