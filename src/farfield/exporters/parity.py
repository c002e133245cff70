"""Parity of an exported network with the original: on random clips, and on clips of real videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.data.transforms import network_input
from farfield.exporters.reference_clips import ReferenceClip
from farfield.memory_errors import is_out_of_memory
from farfield.models.network import ActionNet
from farfield.models.operating_point import class_thresholds, reaches
from farfield.progress import ProgressBar
from farfield.runtimes.exported_network import ExportedNet
from farfield.task import class_probabilities

BATCHES = (1, 3)
"""Batch sizes of the random clips at the network's own length."""


@dataclass(frozen=True)
class ParityDifference:
    """Difference between two networks on one batch of clips.

    Attributes:
        clips: name of the batch: a text such as "3 random clips of 8 frames", or a video's path.
        frames: number of frames in each clip.
        probabilities: the largest difference of a class probability.
        logits: the largest difference of a logit, divided by the largest absolute logit. For a multilabel network this
            divisor is at least 1, since all logits may be near 0.
        decisions: number of (clip, class) pairs whose probability reaches the class's threshold in only one of the
            networks; None unless the network is multilabel. The tolerance does not limit this number, since rounding
            may change a decision if the probability is very close to the threshold.
    """

    clips: str
    frames: int
    probabilities: float
    logits: float
    decisions: int | None = None

    def within(self, tolerance: float) -> bool:
        """Return whether the differences of probabilities and of logits are within a tolerance; False for NaN."""
        return self.probabilities <= tolerance and self.logits <= tolerance


def difference(
    network: ActionNet, clips: str, frames: int, ours: Float[Tensor, "b classes"], theirs: Float[Tensor, "b classes"]
) -> ParityDifference:
    """Compare two networks' logits for the same batch.

    Args:
        network: the original network; the exported network has the same task and thresholds.
        clips: name of the batch.
        frames: number of frames in each clip.
        ours: logits of the original.
        theirs: logits of the exported network.
    """
    p, q = (class_probabilities(logits, network.task) for logits in (ours, theirs))
    largest, decisions = ours.abs().max(), None
    if network.task == "multilabel":
        largest = largest.clamp_min(1)
        decisions = int((predicted_classes(network, p) != predicted_classes(network, q)).sum())
    return ParityDifference(
        clips, frames, float((p - q).abs().max()), float((ours - theirs).abs().max() / largest), decisions
    )


def predicted_classes(network: ActionNet, probabilities: Float[Tensor, "b classes"]) -> Bool[Tensor, "b classes"]:
    """Return, for each class of a multilabel network, whether its probability is at least its threshold."""
    return reaches(probabilities, class_thresholds(network.labels, network.operating_point, network.task))


def other_lengths(num_frames: int) -> list[int]:
    """Choose clip lengths, different from the network's own, for checking a graph that takes clips of any length."""
    return sorted({max(1, num_frames // 2), num_frames + 1, 2 * num_frames} - {num_frames})


def on_random_clips(network: ActionNet, exported: ExportedNet, lengths: Sequence[int]) -> Iterator[ParityDifference]:
    """Compare the exported network with the original on random clips.

    For clips of the network's own length, several batch sizes are tried; for other lengths, the batch size is 2.
    Lengths that the original network rejects are left out.
    """
    spec = network.clip
    generator = torch.Generator().manual_seed(0)
    for count, t in [*((count, spec.num_frames) for count in BATCHES), *((2, t) for t in lengths)]:
        shape = (count, t, spec.test_side_px, spec.test_side_px, 3)
        frames = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        clips = normalised(frames, spec)
        try:
            expected = reference(network, clips)
        except (RuntimeError, ValueError, AssertionError) as error:
            if t == spec.num_frames or is_out_of_memory(error):
                raise
            continue
        name = f"{count} random clip{'s' if count > 1 else ''} of {t} frames"
        yield difference(network, name, t, expected, exported(clips))


def on_reference_clips(
    network: ActionNet, exported: ExportedNet, clips: Sequence[ReferenceClip]
) -> Iterator[ParityDifference]:
    """Compare the exported network with the original on clips of real videos."""
    for clip in ProgressBar(clips, "compare", unit="clip", delay=1, leave=False):
        x = normalised(clip.frames, network.clip)
        yield difference(network, clip.name, x.shape[2], reference(network, x), exported(x))


def normalised(frames: UInt8[Tensor, "b t h w c"], spec: ClipSpec) -> Float[Tensor, "b 3 t h w"]:
    """Normalise uint8 RGB frames to the network's input."""
    return network_input(frames[:, None], spec)


@torch.inference_mode()
def reference(network: ActionNet, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b classes"]:
    """Return the logits of the original network, whose batch norms are not folded."""
    return network.eval()(clips)
