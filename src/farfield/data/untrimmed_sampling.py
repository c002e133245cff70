"""Choose where training clips of untrimmed videos start: at a segment, outside of all segments, or in a hard window.

A hard window is a window that a network scored wrongly (see `hard_negatives.py`). Clips are sampled from a stream of
frames: the video's own frames, or the video resampled to another frame rate (see `frame_sampling.py`). A clip's place
is the position in the stream at which it begins.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from farfield.clip_spec import ClipSpec
from farfield.data.frame_sampling import SEGMENT_TOLERANCE_SECONDS, shown_seconds
from farfield.errors import FarfieldError

MIN_OVERLAP = 0.5
"""Smallest overlap of a clip with its segment, as a fraction of the clip or the segment, whichever is shorter."""
NEAR_BORDER_SHARE = 0.5
"""Probability that a clip outside of all segments is drawn only from places less than a clip length from a segment."""


class NoFreeTime(FarfieldError):
    """No clip fits outside of a video's labelled segments."""


def clip_bounds(
    times: Float[np.ndarray, " frames"], stream: Int[np.ndarray, " stream"], spec: ClipSpec
) -> Float[np.ndarray, "places 2"]:
    """Return start and end, in seconds, of all clips of a video. Row k is the clip that begins at stream position k.

    The stream is what clips are sampled from: the video's own frames, or the video resampled to another frame rate.
    A clip ends when its last frame ends. Both columns ascend. A stream that is not longer than a clip gives one row.

    Args:
        times: start time of each frame of the video.
        stream: index of the video's frame at each position of the stream, from `stream_frames`.
        spec: input format of the network.
    """
    count = max(len(stream) - spec.span + 1, 1)
    ends = np.stack([stream[:count], stream[-count:]], axis=1)
    return shown_seconds(times, ends, spec.target_fps)


def place_in_segment(bounds: Float[np.ndarray, "places 2"], start: float, end: float, rng: np.random.Generator) -> int:
    """Draw the start position of a clip that overlaps the segment [start, end). The clip may extend beyond the segment.

    All clips whose overlap is at least `MIN_OVERLAP` (a fraction of the clip or the segment, whichever is shorter) are
    equally likely. If there is no such clip, the clip with the largest overlap is used.

    Args:
        bounds: start and end in seconds of the clip at each position, from `clip_bounds`.
        start: start of the segment in seconds.
        end: end of the segment in seconds.
        rng: random generator.
    """
    overlap = np.minimum(bounds[:, 1], end) - np.maximum(bounds[:, 0], start)
    wanted = MIN_OVERLAP * np.minimum(bounds[:, 1] - bounds[:, 0], end - start)
    enough = np.flatnonzero(overlap >= wanted - SEGMENT_TOLERANCE_SECONDS)
    return int(rng.choice(enough)) if len(enough) else int(overlap.argmax())


def place_outside(
    bounds: Float[np.ndarray, "places 2"], segments: Float[np.ndarray, "segments 2"], rng: np.random.Generator
) -> int:
    """Draw the start position of a clip outside of all segments.

    A clip is near a segment if the time between the two is less than one clip length. If any clips outside of all
    segments are near a segment, then, with probability `NEAR_BORDER_SHARE`, only these clips are considered. In all
    other cases, all clips outside of all segments are considered. The clips considered are equally likely.

    Args:
        bounds: start and end in seconds of the clip at each position, from `clip_bounds`.
        segments: start and end of each segment of the video in seconds.
        rng: random generator.

    Raises:
        NoFreeTime: if every clip overlaps a segment.
    """
    free = ~overlapping(bounds, segments)
    if not free.any():
        raise NoFreeTime("no clip fits outside of the labelled segments.")
    seconds = bounds[0, 1] - bounds[0, 0]
    near = free & overlapping(bounds, segments + np.array([-seconds, seconds]))
    chosen = near if near.any() and rng.random() < NEAR_BORDER_SHARE else free
    return int(rng.choice(np.flatnonzero(chosen)))


def place_in_window(
    bounds: Float[np.ndarray, "places 2"],
    start: float,
    end: float,
    segments: Float[np.ndarray, "segments 2"],
    rng: np.random.Generator,
) -> int:
    """Draw the start position of a clip whose middle lies in the middle half of the window [start, end).

    All such clips are equally likely, with one exception: If the window overlaps no segment, clips that overlap a
    segment are left out, unless this would leave no clip. If no clip has its middle in the middle half of the window,
    the clip whose middle is nearest to the middle of the window is used, whether it overlaps a segment or not.

    Args:
        bounds: start and end in seconds of the clip at each position, from `clip_bounds`.
        start: start of the window in seconds.
        end: end of the window in seconds.
        segments: start and end of each segment of the video in seconds.
        rng: random generator.
    """
    middles = bounds.mean(axis=1)
    inside = np.abs(middles - (start + end) / 2) <= (end - start) / 4
    if not overlapping(np.array([[start, end]]), segments).any():
        free = inside & ~overlapping(bounds, segments)
        inside = free if free.any() else inside
    chosen = np.flatnonzero(inside)
    return int(rng.choice(chosen)) if len(chosen) else int(np.abs(middles - (start + end) / 2).argmin())


def overlapping(
    bounds: Float[np.ndarray, "places 2"], segments: Float[np.ndarray, "segments 2"]
) -> Bool[np.ndarray, " places"]:
    """Return, for each clip, whether it overlaps any segment.

    Args:
        bounds: start and end of each clip in seconds; both columns must ascend.
        segments: start and end of each segment in seconds, in any order.
    """
    found = np.zeros(len(bounds), dtype=bool)
    first = np.searchsorted(bounds[:, 1], segments[:, 0] + SEGMENT_TOLERANCE_SECONDS, side="right")
    stop = np.searchsorted(bounds[:, 0], segments[:, 1] - SEGMENT_TOLERANCE_SECONDS, side="left")
    for begin, end in zip(first.tolist(), stop.tolist(), strict=True):
        found[begin:end] = True
    return found
