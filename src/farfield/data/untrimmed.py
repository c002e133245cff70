"""Training on untrimmed videos: which clips an epoch has, where each begins, and its target.

An epoch has one clip of each labelled segment, and clips outside of all segments of their videos (negatives), which
make up `negative_share` of the epoch. The target of a clip is the share of its time that each class covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, Int

from farfield.clip_spec import ClipSpec
from farfield.data.frame_sampling import random_clip, stream_frames
from farfield.data.hard_negatives import HardWindow
from farfield.data.manifest import Manifest
from farfield.data.targets import ClipTargets, WholeVideos
from farfield.data.untrimmed_sampling import (
    NoFreeTime,
    clip_bounds,
    overlapping,
    place_in_segment,
    place_in_window,
    place_outside,
)
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, nearest

NEGATIVE_SHARE = 0.3
"""Default for `UntrimmedVideos.negative_share`: the share of an epoch's clips that lie outside of all segments."""
HARD_REPEATS = 2
"""Default for `UntrimmedVideos.hard_repeats`: the largest number of clips of one hard window in an epoch."""


class Kind(IntEnum):
    """Kinds of places in untrimmed videos from which training clips are drawn."""

    SEGMENT = 0
    """A labelled segment; its clips overlap it, but may begin before it or end after it."""
    FREE_TIME = 1
    """Time outside of all segments of a video."""
    HARD_WINDOW = 2
    """A window that a network scored wrongly (see `HardWindow`)."""


@dataclass(frozen=True)
class UntrimmedVideos:
    """Sources of training clips in untrimmed videos, and the targets of the clips.

    Attributes:
        sources: a row for each place from which clips are drawn. Only rows of segments have labels. A place is one of:
            - a labelled segment
            - the free time of a video, that is, the time outside of its segments
            - a hard window, that is, a window that a network scored wrongly
        kinds: kind of each source, see `Kind`.
        weights: relative number of clips of each source among the sources of its kind: 1 for a segment, and the
            length in seconds for free time. Not used for hard windows.
        video: video of each source, as an index into the videos of `targets`.
        targets: computes the targets of clips from the labelled segments of each video.
        labelled: for each source, whether a labelled segment overlaps it.
        negative_share: share of an epoch's clips that are outside of all segments.
        hard_repeats: largest number of clips of one hard window in an epoch.
    """

    sources: Manifest
    kinds: Int[np.ndarray, " sources"]
    weights: Float[np.ndarray, " sources"]
    video: Int[np.ndarray, " sources"]
    targets: ClipTargets
    labelled: Bool[np.ndarray, " sources"]
    negative_share: float
    hard_repeats: int

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        labels: Sequence[str],
        *,
        negative_share: float = NEGATIVE_SHARE,
        hard_windows: Sequence[HardWindow] = (),
        hard_repeats: int = HARD_REPEATS,
    ) -> UntrimmedVideos:
        """List the sources of training clips in the videos of a manifest.

        Args:
            manifest: a row for each labelled segment. A row without a label is no segment; it only lists its video, so
                that clips are drawn from the time outside of the video's segments.
            labels: class names in the network's order.
            negative_share: see the class.
            hard_windows: windows to draw more often; a window that is listed for several classes counts once.
            hard_repeats: see the class.

        Raises:
            FarfieldError: if no row has a label, if `negative_share` is above 0 but segments cover every video
                completely, or for a hard window of a video that the manifest does not list.
        """
        videos = WholeVideos.of(manifest)
        number = {record.path: i for i, record in enumerate(videos.manifest)}
        targets = videos.labelled().clip_targets(labels)
        segments = [record for record in manifest if record.labels]
        if not segments:
            raise FarfieldError(
                f"{manifest.source} has no label in any row, so there are no segments. Label the segments."
            )
        free = free_seconds(videos.manifest, targets)
        with_free_time = np.flatnonzero(free > 0) if negative_share else np.empty(0, dtype=np.int64)
        if negative_share and not len(with_free_time):
            raise FarfieldError(
                f"data.negative_share is {negative_share}, but the segments of {manifest.source} cover every video, so "
                "there is no time outside of them. Add videos, or set data.negative_share to 0."
            )
        windows = list(dict.fromkeys(_record_of(window, videos.manifest, number) for window in hard_windows))
        rows = [*segments, *(replace(videos.manifest[i], label="") for i in with_free_time.tolist()), *windows]
        kinds = np.repeat([*Kind], [len(segments), len(with_free_time), len(windows)])
        weights = np.concatenate([np.ones(len(segments)), free[with_free_time], np.ones(len(windows))])
        video = np.array([number[record.path] for record in rows], dtype=np.int64)
        labelled = kinds == Kind.SEGMENT
        for row in np.flatnonzero(kinds == Kind.HARD_WINDOW).tolist():
            window = np.array([[rows[row].start_seconds, rows[row].end_seconds]])
            labelled[row] = overlapping(window, targets.bounds[video[row]]).any()
        sources = Manifest(rows, root=manifest.root, source=manifest.source)
        return cls(sources, kinds, weights, video, targets, labelled, negative_share, hard_repeats)

    def __len__(self) -> int:
        """Return the number of clips in an epoch."""
        return sum(self.clips_per_epoch())

    def clips_per_epoch(self) -> tuple[int, int]:
        """Return how many clips of an epoch are drawn at segments, and how many outside of all segments.

        Clips of hard windows are included: they replace clips of either kind, see `epoch`.
        """
        segments = int((self.kinds == Kind.SEGMENT).sum())
        return segments, round(segments * self.negative_share / (1 - self.negative_share))

    def epoch(self, rng: np.random.Generator) -> tuple[Int[np.ndarray, " clips"], Int[np.ndarray, " clips"]]:
        """Draw the clips of an epoch.

        Each hard window is used `hard_repeats` times. Windows that overlap a segment replace clips of segments; other
        windows replace clips outside of all segments. At most half of the clips of either kind are replaced. If there
        are too many hard windows for this limit, some of them, chosen at random, are used fewer times or not at all.

        Returns:
            Source of each clip, in random order; and for each clip, how many earlier clips have the same source.
        """
        drawn = []
        for kind, labelled, count in zip(
            (Kind.SEGMENT, Kind.FREE_TIME), (True, False), self.clips_per_epoch(), strict=True
        ):
            hard = np.flatnonzero((self.kinds == Kind.HARD_WINDOW) & (self.labelled == labelled))
            hard = np.concatenate([rng.permutation(hard) for _ in range(self.hard_repeats)])[: count // 2]
            usual = np.flatnonzero(self.kinds == kind)
            drawn += [hard, _spread(usual, self.weights[usual], count - len(hard), rng)]
        rows = rng.permutation(np.concatenate(drawn))
        return rows, _occurrences(rows)

    def choose_frames(
        self, row: int, times: Float[np.ndarray, " frames"], rng: np.random.Generator, *, spec: ClipSpec
    ) -> Int[np.ndarray, " t"]:
        """Choose the frames of a random clip, as indices into `times`.

        Args:
            row: source of the clip, as an index into `sources`.
            times: start time of each frame of the source's video.
            rng: random generator.
            spec: input format of the network.

        Raises:
            ClipTooShort: if the video has no frame in the source's segment or window, or if the video is shorter than a
                clip and `short_clip` is "refuse".
            NoFreeTime: if the source is the free time of a video (outside of its segments), and no clip fits into it.
        """
        stream = stream_frames(times, target_fps=spec.target_fps)
        bounds = clip_bounds(times, stream, spec)
        segments, kind = self.targets.bounds[self.video[row]], self.kinds[row]
        if kind == Kind.FREE_TIME:
            place = place_outside(bounds, segments, rng)
        else:
            record = self.sources[row]
            start, end = record.start_seconds, record.end_seconds
            stream_frames(times, start_seconds=start, end_seconds=end)  # raises if the video ends before
            start, end = start or 0.0, np.inf if end is None else end
            if kind == Kind.SEGMENT:
                place = place_in_segment(bounds, start, end, rng)
            else:
                place = place_in_window(bounds, start, end, segments, rng)
        if len(bounds) == 1:  # short videos are looped or clamped
            return stream[random_clip(len(stream), spec, rng)]
        return stream[place + np.arange(spec.num_frames) * spec.frame_stride]

    def target(self, row: int, bounds_seconds: Float[np.ndarray, " 2"]) -> Float[np.ndarray, " classes"]:
        """Return the share of a clip's time that each class covers.

        Args:
            row: source of the clip, as an index into `sources`.
            bounds_seconds: start and end of the clip.
        """
        start, end = bounds_seconds.tolist()
        return self.targets.shares(int(self.video[row]), start, end)

    def check_free_time(self, tried: set[int]) -> None:
        """Raise `NoFreeTime` if no clip fits into the free time (the time outside all segments) of any video.

        Args:
            tried: sources of the kind `Kind.FREE_TIME` (as indices into `sources`) that were tried, and into which no
                clip fits. The error is raised if they include every source of this kind.
        """
        if tried.issuperset(np.flatnonzero(self.kinds == Kind.FREE_TIME).tolist()):
            raise NoFreeTime(
                f"no clip fits outside of the labelled segments in any video of {self.sources.source}. Set "
                "data.negative_share to 0, or use shorter clips."
            )


def free_seconds(videos: Manifest, targets: ClipTargets) -> Float[np.ndarray, " videos"]:
    """Return, for each video, the time outside of its labelled segments, in seconds.

    Durations come from the manifest: `duration_seconds`, else `num_frames` / `fps`. A segment without an end covers the
    rest of its video. A video's duration is not needed if one of its segments has no end and one (the same or another)
    begins at 0. A video whose duration is needed but unknown gets the mean of the known results (at least 0.001), or 1
    if none is known.
    """
    free = np.full(len(videos), np.nan)
    for row, record in enumerate(videos):
        bounds, seconds = targets.bounds[row], _duration(record)
        if len(bounds) and bounds[:, 0].min() <= 0 and np.isinf(bounds[:, 1]).any():
            seconds = float(bounds[np.isinf(bounds[:, 1]), 0].min())  # nothing is free after it
        if seconds is not None:
            free[row] = seconds - _covered(bounds.clip(0, seconds))
    known = free[~np.isnan(free)]
    free[np.isnan(free)] = max(float(known.mean()), 1e-3) if len(known) else 1.0
    return free.clip(0)


def _duration(record: VideoRecord) -> float | None:
    if record.duration_seconds is None and record.num_frames is not None and record.fps:
        return record.num_frames / record.fps
    return record.duration_seconds


def _covered(bounds: Float[np.ndarray, "segments 2"]) -> float:
    """Return the total time that segments cover; overlaps count once."""
    covered, reached = 0.0, 0.0
    for start, end in sorted(bounds.tolist()):
        covered += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return covered


def _record_of(window: HardWindow, videos: Manifest, number: dict[str, int]) -> VideoRecord:
    """Make a manifest row for a hard window: the row of its video, with the window as the segment and without a label.

    Args:
        window: hard window.
        videos: manifest with one row for each video.
        number: maps the path of each video to its row in `videos`.
    """
    if window.path not in number:
        raise FarfieldError(
            f"data.hard_negatives names {window.path!r}, which {videos.source} does not list. "
            f"{nearest(window.path, list(number))} Give windows of the training videos."
        )
    video = videos[number[window.path]]
    return replace(video, label="", start_seconds=window.start_seconds, end_seconds=window.end_seconds)


def _spread(
    rows: Int[np.ndarray, " rows"], weights: Float[np.ndarray, " rows"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, " count"]:
    """Draw `count` of `rows`, with repeats, in proportion to their weights.

    The number of times that a row is drawn is its expected number, rounded up or down (systematic sampling).
    """
    if count == 0:
        return np.empty(0, dtype=np.int64)
    order = rng.permutation(len(rows))
    edges = np.cumsum(weights[order])
    places = (np.arange(count) + rng.random()) / count * edges[-1]
    return rows[order[np.searchsorted(edges, places, side="right").clip(max=len(rows) - 1)]]


def _occurrences(rows: Int[np.ndarray, " clips"]) -> Int[np.ndarray, " clips"]:
    """Return, for each clip, the number of earlier clips with the same row."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    first = np.searchsorted(ordered, ordered, side="left")
    repeats = np.empty_like(rows)
    repeats[order] = np.arange(len(rows)) - first
    return repeats
