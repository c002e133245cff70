"""PySlowFast's rules for Charades and for the head that scores it, restated as slow loops over one frame or position.

Read in facebookresearch/SlowFast: slowfast/datasets/charades.py at 193f67b, slowfast/datasets/utils.py at 0a7067b,
slowfast/utils/meters.py at 058922e, and slowfast/models/head_helper.py at 0cc8244.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

Segment = tuple[float, float, int]
"""Start and end of an action in seconds, the end excluded, and its class."""


def training_starts(video_frames: int, clip_frames: int, stride: int) -> list[int]:
    """First frames that a training clip may have, all with the same probability, before they are clamped.

    A clip that fits starts anywhere from the first frame to the last start at which it fits. One that does not fit ends
    anywhere from the video's last frame to where it starts with the video.
    """
    last = video_frames - (1 + (clip_frames - 1) * stride)
    return list(range(min(last, 0), max(last, 0) + 1))


def test_starts(video_frames: int, clip_frames: int, stride: int, clips: int) -> list[int]:
    """First frames of the test clips: the first clip starts with the video, the last one ends with it."""
    room = video_frames - (1 + (clip_frames - 1) * stride)
    step = float(room if room > 0 else 0) / (clips - 1)
    return [round(step * k) for k in range(clips)]


test_starts.__test__ = False  # type: ignore[attr-defined]  # for pytest, which takes it for a test


def clip_from(start: int, video_frames: int, clip_frames: int, stride: int) -> list[int]:
    """The frames of a clip. A frame before the video is its first one, a frame after it is its last one."""
    clip = []
    for k in range(clip_frames):
        frame = start + k * stride
        if frame >= video_frames:
            frame = video_frames - 1
        if frame < 0:
            frame = 0
        clip.append(frame)
    return clip


def labels_of_frames(segments: Sequence[Segment], video_frames: int, fps: float) -> list[set[int]]:
    """What a list of frames states for each of a video's frames."""
    return [{label for start, end, label in segments if start <= frame / fps < end} for frame in range(video_frames)]


def labels_of_clip(labels: Sequence[set[int]], clip: Sequence[int]) -> set[int]:
    """The target of a training clip: labels of every frame from its first to its last, shown or not."""
    found: set[int] = set()
    for frame in range(clip[0], clip[-1] + 1):
        found |= labels[frame]
    return found


def labels_of_video(labels: Sequence[set[int]]) -> set[int]:
    """The target in validation and test, for every clip of the video."""
    return set().union(*labels)


def highest(probabilities: Tensor) -> Tensor:
    """The score of a video from those of its views (views classes): a running maximum for each class."""
    score = torch.full_like(probabilities[0], -1e10)
    for view in probabilities:
        for label, value in enumerate(view):
            score[label] = max(score[label], value)
    return score


def head_probabilities(
    maps: Sequence[Tensor], weight: Tensor, bias: Tensor, windows: Sequence[Sequence[int]], activation: str
) -> Tensor:
    """The head in evaluation, for one clip: activation at every position of the window, then the mean over positions.

    Args:
        maps: features of each pathway (c t h w).
        weight: of the classifier (classes c), with the pathways' channels one after the other.
        bias: of the classifier.
        windows: the window (t h w) of each pathway, which has its size in training.
        activation: softmax or sigmoid.
    """
    steps = [
        [have - own + 1 for have, own in zip(each.shape[1:], size, strict=True)]
        for each, size in zip(maps, windows, strict=True)
    ]
    assert all(step == steps[0] for step in steps)
    total = torch.zeros(len(weight), dtype=weight.dtype)
    for t, h, w in itertools.product(*map(range, steps[0])):
        pooled = [
            each[:, t : t + size[0], h : h + size[1], w : w + size[2]].sum((1, 2, 3)) / math.prod(size)
            for each, size in zip(maps, windows, strict=True)
        ]
        scores = weight @ torch.cat(pooled) + bias
        exponentials = scores.exp()
        total += exponentials / exponentials.sum() if activation == "softmax" else exponentials / (1 + exponentials)
    return total / math.prod(steps[0])
