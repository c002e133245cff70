"""Segment sampling: divide a video into T parts and take one frame of each. Pure functions, as in `frame_sampling`.

`ClipSpec.segment_offsets` chooses which frame of a part is taken. The symbols below are:
- L: number of frames in the stream (the frames of the video, or of the video resampled to `target_fps`)
- T: number of frames in a clip, which is also the number of parts
- i: index of a part, from 0 to T-1
- V: number of test clips of a video
- v: index of a test clip, from 0 to V-1

even (Wang et al., "Temporal Segment Networks", ECCV 2016; the default)
    Part i is [i L/T, (i+1) L/T). Training takes a random frame of each part; test clip v takes the frame at
    (v + 1/2) / V of each part.

pyslowfast (facebookresearch/SlowFast at 058922e, slowfast/datasets/ssv2.py, get_seq_frames)
    Part i is [round(s i), round(s (i+1))] with s = (L-1)/T, both ends included, so that neighbouring parts share a
    frame. numpy rounds halves to even. Training takes a random frame of each part, and a test clip takes the middle
    frame, rounded down. All test clips of a video would be equal, so only one is allowed.

videomae (MCG-NJU/VideoMAE at 26abf53, ssv2.py, loadvideo_decord)
    In training, part i is [i m, (i+1) m) with m = floor(L/T), and a random frame of each part is taken. Up to T-1
    frames at the end are therefore never taken. If L < T, the first frame is taken T times. In a test, part i is
    [i L/T, (i+1) L/T). Test clip 0 takes the first frame of each part, and test clip 1 the middle frame, both rounded
    down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from farfield.clip_spec import ClipSpec, check_segment_clips


def random_segments(length: int, spec: ClipSpec, rng: np.random.Generator) -> Int[np.ndarray, " num_frames"]:
    """Sample a training clip: a random frame of each part of a stream of `length` frames (see `stream_frames`).

    Return the positions of the frames in the stream.
    """
    return OFFSETS[spec.segment_offsets].train(length, spec.num_frames, rng)


def segment_views(length: int, spec: ClipSpec, num_clips: int) -> Int[np.ndarray, "num_clips num_frames"]:
    """Sample test clips. A clip has one frame of each part of a stream of `length` frames (see `stream_frames`).

    Within a clip, the frames have the same place in their parts, for example the middle. Return the positions of the
    frames in the stream.

    Raises:
        FarfieldError: for more clips than `spec.segment_offsets` allows.
    """
    check_segment_clips(spec.segment_offsets, num_clips)
    test = OFFSETS[spec.segment_offsets].test
    return np.stack([test(length, spec.num_frames, v, num_clips) for v in range(num_clips)])


def _even_train(length: int, parts: int, rng: np.random.Generator) -> Int[np.ndarray, " parts"]:
    places = (np.arange(parts) + rng.random(parts)) * (length / parts)
    return np.minimum(places.astype(np.int64), length - 1)


def _even_test(length: int, parts: int, clip: int, num_clips: int) -> Int[np.ndarray, " parts"]:
    places = (np.arange(parts) + (clip + 0.5) / num_clips) * (length / parts)
    return np.minimum(places.astype(np.int64), length - 1)


def _pyslowfast_ends(length: int, parts: int) -> Int[np.ndarray, " parts_plus_1"]:
    return np.round((length - 1) / parts * np.arange(parts + 1)).astype(np.int64)


def _pyslowfast_train(length: int, parts: int, rng: np.random.Generator) -> Int[np.ndarray, " parts"]:
    ends = _pyslowfast_ends(length, parts)
    return rng.integers(ends[:-1], ends[1:], endpoint=True)  # as Python's randint


def _pyslowfast_test(length: int, parts: int, clip: int, num_clips: int) -> Int[np.ndarray, " parts"]:
    ends = _pyslowfast_ends(length, parts)
    return (ends[:-1] + ends[1:]) // 2


def _videomae_train(length: int, parts: int, rng: np.random.Generator) -> Int[np.ndarray, " parts"]:
    whole = length // parts
    if whole == 0:
        return np.zeros(parts, dtype=np.int64)
    return np.arange(parts) * whole + rng.integers(whole, size=parts)


def _videomae_test(length: int, parts: int, clip: int, num_clips: int) -> Int[np.ndarray, " parts"]:
    part = length / parts
    return (part / 2 * clip + part * np.arange(parts)).astype(np.int64)


class Offsets(NamedTuple):
    """Functions that choose the frames for one value of `segment_offsets`.

    Attributes:
        train: returns the frame positions of a training clip, from (length, number of parts, random generator).
        test: returns the frame positions of a test clip, from (length, number of parts, index of the clip, number of
            clips).
    """

    train: Callable[[int, int, np.random.Generator], Int[np.ndarray, " parts"]]
    test: Callable[[int, int, int, int], Int[np.ndarray, " parts"]]


OFFSETS = {
    "even": Offsets(_even_train, _even_test),
    "pyslowfast": Offsets(_pyslowfast_train, _pyslowfast_test),
    "videomae": Offsets(_videomae_train, _videomae_test),
}
