"""Score windows of one video, and compute only once what they share.

Where a network's first layers mix no frames (`farfield/models/frame_levels.py`), their features of a frame are the same
in every window that holds the frame. They are computed when the first such window comes, for all new frames of a batch
of windows together, and kept until no later window can need them. Memory holds the features of one batch of windows.

Frames are recognised by their index in the video. Windows that fall on other frames than the windows before, as the
last one of a video may, share nothing, and are computed anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from farfield.data.transforms import network_input
from farfield.models.frame_level_costs import groups_of
from farfield.models.frame_levels import FrameLevels, frame_levels
from farfield.models.network import ActionNet
from farfield.scoring.load import InferenceModel
from farfield.scoring.score_views import ViewScores, checked
from farfield.timelines.sliding_windows import Window, Windows

Group = tuple[int, ...]
"""Indices of the frames from which one map is computed."""

MIN_REPEATED = 0.05
"""Least share of repeated frames. With fewer, copying features takes about the time that sharing saves."""


class SharedFrames:
    """Scores the windows of one video, which come in order. What windows share is computed once.

    Args:
        network: network to score with.
        split: the network's levels.
        batch_size: views in a forward pass.
    """

    def __init__(self, network: ActionNet, split: FrameLevels, batch_size: int) -> None:
        self.network = network
        self.split = split
        self.batch_size = batch_size
        self._held = [_HeldMaps() for _ in split.levels]
        self._pictures: dict[Group, UInt8[Tensor, "v h w c"]] = {}

    @torch.inference_mode()
    def score(
        self, windows: Sequence[Window], indices: Int[np.ndarray, "windows t"], *, features: bool = False
    ) -> ViewScores:
        """Score the video's next windows, the crops of each one after another, as `score_views` does.

        Args:
            windows: the windows.
            indices: indices of their frames in the video.
            features: whether to also return the features before the classifier.

        Raises:
            FarfieldError: if scores are not numbers (NaN).
        """
        self.network.eval()
        for held in self._held:
            held.drop_before(int(indices[0].min()))
        self._pictures = {
            (index,): window.frames[:, place]
            for window, row in zip(windows, indices.tolist(), strict=True)
            for place, index in enumerate(row)
        }
        last, span = len(self._held) - 1, self.split.levels[-1].span
        groups = groups_of(indices, span)
        self._compute(last, groups, self.batch_size * indices.shape[1])
        self._pictures = {}
        maps, head = self._held[last], self.network.head
        logits, vectors = [], []
        for places in maps.places(groups, indices.shape[1] // span).split(self.batch_size):
            embedded = head.embed(self.split.features(maps.clips(places)))
            logits.append(head.classify(embedded).float())
            vectors.append(embedded.mean(1).float())
        return checked(ViewScores(torch.cat(logits), torch.cat(vectors) if features else None))

    def _compute(self, depth: int, groups: Iterable[Group], max_frames: int) -> None:
        """Compute the maps of a level that are not held yet, of at most `max_frames` frames of a crop at a time."""
        level, held = self.split.levels[depth], self._held[depth]
        missing = [group for group in dict.fromkeys(groups) if group not in held.rows]
        num_crops = len(next(iter(self._pictures.values())))
        step = max(max_frames // (level.span * num_crops), 1)
        parts = []
        for i in range(0, len(missing), step):
            part = missing[i : i + step]
            x = self._frames(part) if depth == 0 else self._maps_below(depth, part, max_frames)
            parts.append(level(x).unflatten(0, (-1, num_crops)))
        held.add(missing, parts)

    def _frames(self, frames: Sequence[Group]) -> Float[Tensor, "1 c t h w"]:
        """Return the input of the first level: each crop of each frame, one after another."""
        pictures = torch.cat([self._pictures[frame] for frame in frames])
        clip = network_input(pictures[None, None].to(self.network.device), self.network.clip)
        return clip.to(self.network.dtype)

    def _maps_below(self, depth: int, groups: Sequence[Group], max_frames: int) -> Float[Tensor, "1 c t h w"]:
        """Return the input of a later level: the maps of the level before, group by group, and crop by crop in each."""
        span = self.split.levels[depth - 1].span
        below = [group[i : i + span] for group in groups for i in range(0, len(group), span)]
        self._compute(depth - 1, below, max_frames)
        held = self._held[depth - 1]
        return held.clips(held.places(below, self.split.levels[depth].group).reshape(1, -1))


class _HeldMaps:
    """The maps of a level that are held in memory, in rows, each with the maps of all crops.

    Attributes:
        rows: row of each group of frames.
    """

    def __init__(self) -> None:
        self.rows: dict[Group, int] = {}
        self._maps: Float[Tensor, "rows v h w c"] | None = None

    def drop_before(self, frame: int) -> None:
        """Drop the maps of groups that have an earlier frame than the given one."""
        kept = [group for group in self.rows if min(group) >= frame]
        if self._maps is not None and len(kept) < len(self.rows):
            rows = torch.tensor([self.rows[group] for group in kept], dtype=torch.long, device=self._maps.device)
            self._maps = self._maps.index_select(0, rows)
            self.rows = {group: row for row, group in enumerate(kept)}

    def add(self, groups: Sequence[Group], maps: Sequence[Float[Tensor, "n v h w c"]]) -> None:
        """Hold the maps of further groups."""
        if not groups:
            return
        self.rows |= {group: len(self.rows) + i for i, group in enumerate(groups)}
        both = maps if self._maps is None else [self._maps, *maps]
        self._maps = torch.cat(list(both)) if len(both) > 1 else both[0].contiguous()

    def places(self, groups: Sequence[Group], length: int) -> Int[Tensor, "n length"]:
        """Return where the maps of clips are: of each `length` groups in turn, and of each crop."""
        assert self._maps is not None
        num_crops = self._maps.shape[1]
        rows = torch.tensor([self.rows[group] for group in groups]).unflatten(0, (-1, 1, length))
        places = rows * num_crops + torch.arange(num_crops)[:, None]
        return places.flatten(0, 1).to(self._maps.device)

    def clips(self, places: Int[Tensor, "n length"]) -> Float[Tensor, "n c length h w"]:
        """Copy maps from their places to clips, in channels_last_3d memory."""
        assert self._maps is not None
        taken = self._maps.flatten(0, 1).index_select(0, places.flatten())
        return taken.unflatten(0, places.shape).permute(0, 4, 1, 2, 3)


def share_frames(windows: Windows, model: InferenceModel, batch_size: int) -> SharedFrames | None:
    """Return a scorer of a video's windows that computes once what they share.

    Args:
        windows: the windows of the video.
        model: the network.
        batch_size: views in a forward pass.

    Returns:
        None if the windows have hardly any frames in common, or the network is an exported one or mixes frames from its
        first layers on.
    """
    if not isinstance(model, ActionNet) or len(windows) < 2:
        return None
    if len(np.unique(windows.indices)) > (1 - MIN_REPEATED) * windows.indices.size:
        return None
    split = frame_levels(model)
    return None if split is None else SharedFrames(model, split, batch_size)
