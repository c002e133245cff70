"""Parity of an exported network with the original: on random clips, and on clips of real videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.data.transforms import network_input
from farfield.exporters.reference_clips import ReferenceClip
from farfield.models.network import ActionNet
from farfield.progress import ProgressBar
from farfield.runtimes.exported_network import ExportedNet

BATCHES = (1, 3)
"""Batch sizes of the random clips at the network's own length."""


@dataclass(frozen=True)
class ParityDifference:
    """Difference between two networks on one batch of clips.

    Attributes:
        clips: name of the batch: a text such as "3 random clips of 8 frames", or a video's path.
        frames: number of frames in each clip.
        probabilities: the largest difference of a class probability.
        logits: the largest difference of a logit, relative to the largest logit.
    """

    clips: str
    frames: int
    probabilities: float
    logits: float

    def within(self, tolerance: float) -> bool:
        """Return whether both differences are within a tolerance; False for NaN."""
        return self.probabilities <= tolerance and self.logits <= tolerance


def difference(
    clips: str, frames: int, ours: Float[Tensor, "b classes"], theirs: Float[Tensor, "b classes"]
) -> ParityDifference:
    """Compare two networks' logits for the same batch, which `clips` names."""
    probabilities = (ours.softmax(-1) - theirs.softmax(-1)).abs().max()
    return ParityDifference(clips, frames, float(probabilities), float((ours - theirs).abs().max() / ours.abs().max()))


def other_lengths(num_frames: int) -> list[int]:
    """Return the clip lengths, besides the network's own, at which a graph for any length is checked."""
    return sorted({max(1, num_frames // 2), num_frames + 1, 2 * num_frames} - {num_frames})


def on_random_clips(network: ActionNet, exported: ExportedNet, lengths: Sequence[int]) -> Iterator[ParityDifference]:
    """Compare the exported network with the original on random clips.

    Clips of the network's own length come in batches of several sizes, clips of other lengths in batches of two.
    Lengths that the network itself rejects are left out.
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


def on_reference_clips(
    network: ActionNet, exported: ExportedNet, clips: Sequence[ReferenceClip]
) -> Iterator[ParityDifference]:
    """Compare the exported network with the original on clips of real videos."""
    for clip in ProgressBar(clips, "compare", unit="clip", delay=1, leave=False):
        x = normalised(clip.frames, network.clip)
        yield difference(clip.name, x.shape[2], reference(network, x), exported(x))


def normalised(frames: UInt8[Tensor, "b t h w c"], spec: ClipSpec) -> Float[Tensor, "b 3 t h w"]:
    """Normalise uint8 RGB frames to the network's input."""
    return network_input(frames[:, None], spec)


@torch.inference_mode()
def reference(network: ActionNet, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b classes"]:
    """Return the logits of the original network, whose batch norms are not folded."""
    return network.eval()(clips)
