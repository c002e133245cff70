"""How far an exported network is from the network: on random clips, and on clips of real videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from farfield.clip_spec import ClipSpec
from farfield.data.clips import video_views
from farfield.data.manifest import VideoRecord
from farfield.data.transforms import network_input
from farfield.models.network import ActionNet
from farfield.runtimes.exported_network import ExportedNet

BATCHES = (1, 3)
"""Numbers of random clips at the network's own length."""


@dataclass(frozen=True)
class ParityDifference:
    """How far two networks are apart on one batch of clips.

    Attributes:
        clips: what they were: "3 random clips of 8 frames", or a video's path.
        frames: of each.
        probabilities: the largest difference of a class probability.
        logits: the largest difference of a logit, relative to the largest logit.
    """

    clips: str
    frames: int
    probabilities: float
    logits: float

    def within(self, tolerance: float) -> bool:
        return self.probabilities <= tolerance and self.logits <= tolerance  # False for NaN


@dataclass(frozen=True)
class ParityVideo:
    """A video to compare on: its file, its row, and its class where that is known."""

    path: Path
    record: VideoRecord
    target: int | None = None


def difference(
    clips: str, frames: int, ours: Float[Tensor, "b classes"], theirs: Float[Tensor, "b classes"]
) -> ParityDifference:
    """How far two batches of logits are apart."""
    probabilities = (ours.softmax(-1) - theirs.softmax(-1)).abs().max()
    return ParityDifference(clips, frames, float(probabilities), float((ours - theirs).abs().max() / ours.abs().max()))


def other_lengths(num_frames: int) -> list[int]:
    """Lengths, besides the network's own, at which a graph for all lengths must be right: odd ones among them."""
    return sorted({max(1, num_frames // 2), num_frames + 1, 2 * num_frames} - {num_frames})


def on_random_clips(network: ActionNet, exported: ExportedNet, lengths: Sequence[int]) -> Iterator[ParityDifference]:
    """Compares on noise, at the network's own length with several batch sizes, and at other lengths with two clips.

    Lengths that the network itself refuses are left out.
    """
    spec = network.clip
    generator = torch.Generator().manual_seed(0)
    for count, t in [*((count, spec.num_frames) for count in BATCHES), *((2, t) for t in lengths)]:
        shape = (count, t, spec.test_side_px, spec.test_side_px, 3)
        frames = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        clips = normalised(frames, spec)
        try:
            expected = reference(network, clips)
        except (RuntimeError, ValueError, AssertionError):
            if t == spec.num_frames:
                raise
            continue
        name = f"{count} random clip{'s' if count > 1 else ''} of {t} frames"
        yield difference(name, t, expected, exported(clips))


def on_videos(network: ActionNet, exported: ExportedNet, videos: Sequence[ParityVideo]) -> Iterator[ParityDifference]:
    """Compares on the central clip of each video, with a progress bar on standard error where that takes long.

    Raises:
        VideoError: for one that cannot be read.
    """
    for video in tqdm(videos, "compare", unit="clip", delay=1, leave=False):
        clips = normalised(central_clip(video, network.clip), network.clip)
        yield difference(str(video.path), clips.shape[2], reference(network, clips), exported(clips))


def spread(count: int, at_most: int) -> list[int]:
    """Up to so many of the numbers below count, evenly."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, at_most))})


def central_clip(video: ParityVideo, spec: ClipSpec) -> UInt8[Tensor, "1 t h w c"]:
    """The clip in the middle of a video, its central square."""
    return video_views(video.path, video.record, spec, num_clips=1, num_crops=1).frames


def normalised(frames: UInt8[Tensor, "b t h w c"], spec: ClipSpec) -> Float[Tensor, "b 3 t h w"]:
    return network_input(frames[:, None], spec)


@torch.inference_mode()
def reference(network: ActionNet, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b classes"]:
    """The logits of the network itself, as it was trained."""
    return network.eval()(clips)
