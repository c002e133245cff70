"""Score the windows of one video without recomputing the features that overlapping windows have in common.

If a network's first layers do not mix frames (`farfield/models/frame_levels.py`), they compute the same features for a
frame in every window that contains the frame. The features of all new frames in a batch of windows are computed
together. They stay in memory until no later window can contain their frames, so only the features of about one batch of
windows are in memory at any time.

Frames are identified by their index in the video. A window that has no frame in common with earlier windows is computed
in full. This can happen for the last window, which ends with the video: if its start is not a multiple of the hop, all
its frames may lie between those of earlier windows.
"""

from __future__ import annotations

from collections.abc import Sequence

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

Key = tuple[tuple[int, ...], int]
"""Identifies a feature map by its input: indices of the frames in the video, and index of the crop."""

MIN_REPEATED = 0.05
"""Minimum share of repeated frames in the windows. With fewer, copying features takes as long as sharing saves."""

MAX_GROWTH = 4
"""Maximum of `views_at_once` as a multiple of `batch_size`. It bounds memory."""


class SharedFrames:
    """Score the windows of one video, in order. The features of a frame are computed once for all windows that have it.

    Args:
        network: network to score with.
        split: the layers of the network's backbone, as divided by `frame_levels`. The first part processes each group
            of frames independently of all other frames; the second part is the rest.
        batch_size: maximum number of views per forward pass. A view is one crop of a window.
        indices: indices of each window's frames in the video, for all windows of the video.

    Attributes:
        views_at_once: recommended number of views in a call of `score`. It may be larger than `batch_size`, since
            features that the views have in common are computed once, and since fewer calls have less overhead.
    """

    def __init__(
        self, network: ActionNet, split: FrameLevels, batch_size: int, indices: Int[np.ndarray, "windows t"]
    ) -> None:
        self.network = network
        self.split = split
        self.batch_size = batch_size
        self.views_at_once = batch_size * min(indices.size // len(np.unique(indices)), MAX_GROWTH)
        self._indices = indices
        self._regrouped = _frames_of_several_groups(indices, split.levels[-1].span)
        self._max_frames = batch_size * indices.shape[1]
        self._done = 0
        self._held = [_HeldMaps() for _ in split.levels]
        self._pictures: dict[int, UInt8[Tensor, "v h w c"]] = {}

    @torch.inference_mode()
    def score(self, windows: Sequence[Window], *, features: bool = False) -> ViewScores:
        """Score the video's next windows. Views are in the order of the windows, then of each window's crops.

        Args:
            windows: the windows that follow those of the previous call.
            features: whether to also return the features before the classifier.

        Raises:
            FarfieldError: if a score is NaN.
        """
        self.network.eval()
        indices = self._indices[self._done : self._done + len(windows)]
        self._done += len(windows)
        for held in self._held:
            held.drop_before(int(indices[0].min()))
        self._pictures = {
            index: window.frames[:, place]
            for window, row in zip(windows, indices.tolist(), strict=True)
            for place, index in enumerate(row)
        }
        last, span = len(self._held) - 1, self.split.levels[-1].span
        views = [
            [(group, crop) for group in groups_of(row[None], span)]
            for row in indices
            for crop in range(len(windows[0].frames))
        ]
        self._hold(last, [key for view in views for key in view])
        self._pictures = {}
        head = self.network.head
        logits, vectors = [], []
        for i in range(0, len(views), self.batch_size):
            maps = self._held[last].clips(views[i : i + self.batch_size])
            embedded = head.embed(self.split.features(maps))
            logits.append(head.classify(embedded).float())
            vectors.append(embedded.mean(1).float())
        return checked(ViewScores(torch.cat(logits), torch.cat(vectors) if features else None))

    def _hold(self, depth: int, keys: Sequence[Key]) -> None:
        """Compute feature maps that are not in memory yet, and keep them.

        Args:
            depth: index of the level whose maps are computed, see `frame_levels`.
            keys: frames and crop of each wanted map.
        """
        held, span = self._held[depth], self.split.levels[depth].span
        missing = [key for key in dict.fromkeys(keys) if key not in held.rows]
        step = max(self._max_frames // span, 1)
        parts = [missing[i : i + step] for i in range(0, len(missing), step)]
        held.add(missing, [self._compute(depth, part)[0].permute(1, 2, 3, 0) for part in parts])

    def _compute(self, depth: int, keys: Sequence[Key]) -> Float[Tensor, "1 c n h w"]:
        """Compute one feature map for each key.

        Args:
            depth: index of the level whose maps are computed, see `frame_levels`.
            keys: frames and crop of each of the n maps.

        Returns:
            The maps, joined along the time axis in the order of the keys, as if they were a single clip.
        """
        level = self.split.levels[depth]
        if depth == 0:
            pictures = torch.stack([self._pictures[frame][crop] for (frame,), crop in keys])
            clip = network_input(pictures[None, None].to(self.network.device), self.network.clip)
            return level(clip.to(self.network.dtype))
        span = level.span // level.group
        below = [(group[i : i + span], crop) for group, crop in keys for i in range(0, len(group), span)]
        if any(frame in self._regrouped for group, _ in below for frame in group):
            self._hold(depth - 1, below)
            return level(self._held[depth - 1].clips([below]))
        return level(self._compute(depth - 1, below))  # no other group needs its maps


class _HeldMaps:
    """Feature maps of one level of the network (see `frame_levels`) that are kept in memory.

    Attributes:
        rows: row of each map in the tensor that holds all maps. The keys identify the maps by their inputs, see `Key`.
    """

    def __init__(self) -> None:
        self.rows: dict[Key, int] = {}
        self._maps: Float[Tensor, "rows h w c"] | None = None

    def drop_before(self, frame: int) -> None:
        """Drop maps that were computed from a frame before `frame`."""
        kept = [key for key in self.rows if min(key[0]) >= frame]
        if self._maps is not None and len(kept) < len(self.rows):
            self._maps = self._maps.index_select(0, self._places(kept))
            self.rows = {key: row for row, key in enumerate(kept)}

    def add(self, keys: Sequence[Key], maps: Sequence[Float[Tensor, "n h w c"]]) -> None:
        """Add one map for each key. `maps`, concatenated along their first axis, are in the order of `keys`."""
        if not keys:
            return
        self.rows |= {key: len(self.rows) + i for i, key in enumerate(keys)}
        parts = [*maps] if self._maps is None else [self._maps, *maps]
        self._maps = torch.cat(parts) if len(parts) > 1 else parts[0].contiguous()

    def clips(self, keys: Sequence[Sequence[Key]]) -> Float[Tensor, "n c t h w"]:
        """Copy the maps of n clips into one tensor of memory format channels_last_3d."""
        assert self._maps is not None
        taken = self._maps.index_select(0, self._places([key for clip in keys for key in clip]))
        return taken.unflatten(0, (len(keys), -1)).permute(0, 4, 1, 2, 3)

    def _places(self, keys: Sequence[Key]) -> Int[Tensor, " n"]:
        assert self._maps is not None
        return torch.tensor([self.rows[key] for key in keys], dtype=torch.long, device=self._maps.device)


def _frames_of_several_groups(indices: Int[np.ndarray, "windows t"], span: int) -> set[int]:
    """Return the indices of frames that occur more than once in groups: in several groups, or repeatedly in one.

    Each window is cut into groups of `span` frames, starting at its first frame. Frames at its end that do not fill a
    group are left out. Equal groups count as one.

    The last of the network's frame levels (see `frame_levels`) computes one feature map from each group. The maps that
    earlier levels compute from a frame are needed more than once only if the frame is one of those returned.

    Args:
        indices: indices of each window's frames in the video.
        span: number of frames in a group.
    """
    whole = indices.shape[1] // span * span
    groups = np.unique(indices[:, :whole].reshape(-1, span), axis=0)
    frames, counts = np.unique(groups, return_counts=True)
    return set(frames[counts > 1].tolist())


def share_frames(windows: Windows, model: InferenceModel, batch_size: int) -> SharedFrames | None:
    """Return a `SharedFrames` scorer of a video's windows, or None if it would not save time.

    Args:
        windows: the windows of the video.
        model: the network.
        batch_size: views per forward pass.

    Returns:
        The scorer. None if the windows have hardly any frames in common, if the network is an exported file, or if
        `frame_levels` cannot split it, for example because its first layers mix frames.
    """
    if not isinstance(model, ActionNet) or len(windows) < 2:
        return None
    if len(np.unique(windows.indices)) > (1 - MIN_REPEATED) * windows.indices.size:
        return None
    split = frame_levels(model)
    return None if split is None else SharedFrames(model, split, batch_size, windows.indices)
