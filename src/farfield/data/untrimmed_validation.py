"""Validation on untrimmed videos, which are divided into consecutive windows, each with its own labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import Dataset

from farfield.clip_spec import ClipSpec
from farfield.data.clips import count_windows, video_windows
from farfield.data.datasets import Batch, Failure
from farfield.data.manifest import Manifest
from farfield.data.shared_memory import stack_into_buffer
from farfield.data.targets import WholeVideos
from farfield.errors import VideoError
from farfield.video.decoder_names import Decoder

MIN_SHARE = 0.5
"""Smallest share of a window's time that a class must cover for the window to have its label."""


class ValidationWindows(Dataset[Batch]):
    """Windows of untrimmed videos, numbered consecutively over all videos. Each window is one clip, cropped centrally.

    `Batch.indices` are the windows' numbers. The constructor opens every video to count its windows, and each batch
    opens its videos again. An unreadable video counts as one window, which batches leave out and list in
    `Batch.failures`.

    Args:
        manifest: labelled segments of the videos.
        labels: class names in the network's order.
        spec: input format of the network.
        decoder: see `open_video`.
    """

    def __init__(self, manifest: Manifest, labels: Sequence[str], spec: ClipSpec, *, decoder: Decoder = "pyav") -> None:
        videos = WholeVideos.of(manifest).labelled()
        self.manifest = videos.manifest
        self.targets = videos.clip_targets(labels)
        self.spec = spec
        self.decoder: Decoder = decoder
        self.first: Int[np.ndarray, " videos+1"] = np.cumsum([0, *map(self._count, range(len(self.manifest)))])
        """Number of each video's first window. The last entry is the total number of windows."""

    def __len__(self) -> int:
        return int(self.first[-1])

    def __getitem__(self, chosen: Sequence[int]) -> Batch:
        clips: list[torch.Tensor] = []
        targets, indices, failures = [], [], []
        for row, group in groupby(chosen, key=self.video):
            windows = list(group)
            record, path = self.manifest[row], self.manifest.path(row)
            places = [window - int(self.first[row]) for window in windows]
            try:
                clip = video_windows(path, record, self.spec, places, decoder=self.decoder)
            except VideoError as error:
                failures.append(Failure(error.path, error.reason))
                continue
            clips += clip.frames[:, None]
            shares = [self.targets.shares(row, *bounds) for bounds in clip.bounds_seconds.tolist()]
            targets += [(each >= MIN_SHARE).astype(np.float32) for each in shares]
            indices += windows
        side = self.spec.test_side_px
        nothing = torch.empty((0, 1, self.spec.num_frames, side, side, 3), dtype=torch.uint8)
        num_classes = self.targets.has_label[0].shape[1]
        return Batch(
            stack_into_buffer(clips) if clips else nothing,
            torch.from_numpy(np.array(targets, dtype=np.float32).reshape(-1, num_classes)),
            torch.tensor(indices, dtype=torch.int64),
            None,
            failures,
        )

    def video(self, window: int) -> int:
        """Return the row of the video to which a window belongs."""
        return int(np.searchsorted(self.first, window, side="right")) - 1

    def _count(self, row: int) -> int:
        try:
            return count_windows(self.manifest.path(row), self.manifest[row], self.spec, decoder=self.decoder)
        except VideoError:
            return 1
