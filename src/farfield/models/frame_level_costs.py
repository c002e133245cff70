"""Estimate how much faster overlapping windows run if the features of each frame are computed only once.

The estimate is a ratio of multiply-adds, which are counted as in `summary.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from farfield.layers.meta_copy import meta_copy
from farfield.models.frame_levels import FrameLevels, find_levels
from farfield.models.network import ActionNet
from farfield.models.summary import NORMS


@dataclass(frozen=True)
class LevelCosts:
    """Multiply-adds of a network for one clip, by level.

    A level is a sequence of layers that computes one feature map from each group of consecutive frames, see
    `frame_levels.py`.

    Attributes:
        spans: for each level, the number of frames that one feature map is computed from.
        of_maps: for each level, the multiply-adds of one feature map, without those of the previous levels.
        maps: for each level, the number of feature maps of a clip.
        rest: multiply-adds of the layers after the levels, and of the head.
    """

    spans: tuple[int, ...]
    of_maps: tuple[int, ...]
    maps: tuple[int, ...]
    rest: int

    @property
    def total(self) -> int:
        """Multiply-adds of one clip that shares no feature maps with other clips."""
        return self.rest + sum(each * count for each, count in zip(self.of_maps, self.maps, strict=True))

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of each level in the multiply-adds of a clip, from 0 to 1."""
        return tuple(each * count / self.total for each, count in zip(self.of_maps, self.maps, strict=True))

    def times_faster(self, frames: Int[np.ndarray, "windows t"]) -> float:
        """Return the factor by which multiply-adds decrease if feature maps that windows share are computed only once.

        Args:
            frames: frame indices of each window.
        """
        once = [len(set(groups_of(frames, span))) for span in self.spans]
        shared = sum(each * count for each, count in zip(self.of_maps, once, strict=True))
        return len(frames) * self.total / (shared + len(frames) * self.rest)


def groups_of(frames: Int[np.ndarray, "windows t"], span: int) -> list[tuple[int, ...]]:
    """Split the frame indices of each window into groups of `span` frames, and list the groups of all windows.

    A group that several windows share is listed for each of them. Frames at a window's end that do not fill a group are
    left out.
    """
    whole = frames.shape[1] // span * span
    return [tuple(group) for group in frames[:, :whole].reshape(-1, span).tolist()]


def count_levels(network: ActionNet) -> LevelCosts | None:
    """Count a network's multiply-adds by level, for clips of the test size; None for a network without levels.

    Args:
        network: the network, which is not changed. Batch norms count, too, so a folded network, which has none, has
            slightly lower counts.
    """
    shapes = meta_copy(network)
    levels = find_levels(shapes)
    if levels is None:
        return None
    spec = network.clip
    frame = torch.empty(1, 3, 1, spec.test_side_px, spec.test_side_px, device="meta", dtype=network.dtype)
    return _count(shapes, levels, frame, spec.num_frames)


def _count(shapes: ActionNet, levels: FrameLevels, x: Tensor, num_frames: int) -> LevelCosts:
    of_maps: list[int] = []
    for level in levels.levels:
        products, x = _multiply_adds(level.layers, x.expand(-1, -1, level.group, -1, -1))
        of_maps.append(products)
    spans = tuple(level.span for level in levels.levels)
    maps = tuple(num_frames // span for span in spans)
    rest, _ = _multiply_adds((*levels.rest, shapes.head), x.expand(-1, -1, maps[-1], -1, -1))
    return LevelCosts(spans, tuple(of_maps), maps, rest)


@torch.no_grad()
def _multiply_adds(layers: Sequence[nn.Module], x: Tensor) -> tuple[int, Tensor]:
    """Run layers on the meta device, and return their multiply-adds and output."""
    of_norms = 0

    def add(module: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal of_norms
        of_norms += 2 * output.numel()

    norms = (each for layer in layers for each in layer.modules() if isinstance(each, NORMS))
    hooks = [norm.register_forward_hook(add) for norm in norms]
    from torch.utils.flop_counter import FlopCounterMode  # late: it imports Triton

    with FlopCounterMode(display=False) as counted:
        for layer in layers:
            x = layer(x)
    for hook in hooks:
        hook.remove()
    return counted.get_total_flops() // 2 + of_norms, x
