"""Frame sampling: which frames of a video make a clip. Pure functions of counts, rates and a random generator.

Clips are sampled from a *stream* of frames: the video's own frames, or, with `target_fps`, the video resampled to that
rate. `stream_frames` maps positions in the stream to frames of the video.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from farfield.clip_spec import ClipSpec
from farfield.data.segment_sampling import random_segments, segment_views
from farfield.errors import FarfieldError
from farfield.video.frame_rate import frame_rate

SEGMENT_TOLERANCE_SECONDS = 1e-6
"""Tolerance for rounded times.

A frame that starts at most this long before a segment's start or end is treated as starting exactly there.
"""


class ClipTooShort(FarfieldError):
    """A video has no frame in its segment, or fewer frames than a clip needs while `short_clip` is "refuse"."""


def stream_frames(
    times: Float[np.ndarray, " frames"],
    *,
    target_fps: float | None = None,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> Int[np.ndarray, " stream"]:
    """Return the stream that clips are sampled from: the index of the video's frame at each position of the stream.

    Args:
        times: start time of each frame in seconds, ascending.
        target_fps: frame rate of the stream; None for the video's own frames. With a rate, position k holds the frame
            that a player shows k / target_fps seconds after the segment's first frame.
        start_seconds: start of the annotated segment, on the time axis of `times`; None for the start of the video.
        end_seconds: end of the segment, excluded; None for the end of the video.

    Raises:
        ClipTooShort: if no frame lies in the segment.
    """
    first = 0 if start_seconds is None else int(np.searchsorted(times, start_seconds - SEGMENT_TOLERANCE_SECONDS))
    last = len(times)
    if end_seconds is not None:
        last = int(np.searchsorted(times, end_seconds - SEGMENT_TOLERANCE_SECONDS))
    if last <= first:
        shown = f"[{start_seconds or 0:g}, {'end' if end_seconds is None else f'{end_seconds:g}'}) s"
        ends = f"the video's last frame is at {times[-1]:.3f} s" if len(times) else "the video has no frames"
        raise ClipTooShort(f"no frame lies in the segment {shown}; {ends}. Correct the segment in the manifest.")
    if target_fps is None:
        return np.arange(first, last)
    spacing = np.median(np.diff(times)) if len(times) > 1 else 1 / target_fps
    duration = times[last - 1] - times[first] + spacing  # the last frame has a duration, too
    moments = times[first] + np.arange(max(1, round(duration * target_fps))) / target_fps
    # Half a millisecond of tolerance, since containers round times.
    return np.clip(np.searchsorted(times, moments + 5e-4, side="right") - 1, first, last - 1)


def random_clip(length: int, spec: ClipSpec, rng: np.random.Generator) -> Int[np.ndarray, " num_frames"]:
    """Sample a training clip that starts at a random frame; with sampling="segments", see `random_segments`.

    With sampling="clip", `spec.short_clip` says how to treat a video that is shorter than the clip:
    - "loop": The clip starts at the video's first frame, and the video is repeated.
    - "clamp": The video is placed at a random time in the clip. Repeats of the video's first frame fill the time before
      the video, and repeats of its last frame the time after it.
    - "refuse": `ClipTooShort` is raised.

    Args:
        length: number of frames in the stream, see `stream_frames`.
        spec: number of frames, stride, sampling and treatment of short videos.
        rng: random generator.

    Returns:
        Positions in the stream.

    Raises:
        ClipTooShort: for a short video if `spec.short_clip` is "refuse".
    """
    _check_length(length, spec)
    if spec.sampling == "segments":
        return random_segments(length, spec, rng)
    slack = length - spec.span
    earliest = min(slack, 0) if spec.short_clip == "clamp" else 0
    start = int(rng.integers(earliest, max(slack, 0) + 1))
    return _clip(start, length, spec)


def uniform_views(length: int, spec: ClipSpec, num_clips: int) -> Int[np.ndarray, "num_clips num_frames"]:
    """Sample test clips spread evenly from the first frame to the last; a single clip is central.

    With sampling="segments", see `segment_views`. `length` is the number of frames in the stream, see `stream_frames`.

    Returns:
        Positions in the stream.

    Raises:
        ClipTooShort: see `random_clip`.
        FarfieldError: see `segment_views`.
    """
    _check_length(length, spec)
    if spec.sampling == "segments":
        return segment_views(length, spec, num_clips)
    slack = max(length - spec.span, 0)
    starts = np.linspace(0, slack, num_clips) if num_clips > 1 else np.array([slack / 2])
    return np.stack([_clip(round(float(start)), length, spec) for start in starts])


def dense_views(length: int, spec: ClipSpec, hop: int) -> Int[np.ndarray, "views num_frames"]:
    """Sample clips that start every `hop` frames, from the first frame on; the last clip ends with the stream.

    The last clip may start fewer than `hop` frames after the one before. If `hop` is at most `spec.span`, the clips
    together cover the stream. A stream that is shorter than a clip gives one clip, which starts at the first frame and
    goes on after the stream's end as `spec.short_clip` says. `length` is the number of frames in the stream, see
    `stream_frames`.

    Returns:
        Positions in the stream.

    Raises:
        ClipTooShort: see `random_clip`.
        FarfieldError: for a hop below 1, or for sampling="segments", since such clips always span the whole stream.
    """
    if hop < 1 or spec.sampling == "segments":
        raise FarfieldError(
            f"dense sampling needs sampling='clip' and hop at least 1; sampling is {spec.sampling!r} and hop is {hop}."
        )
    _check_length(length, spec)
    slack = max(length - spec.span, 0)
    starts = [*range(0, slack, hop), slack]
    return np.stack([_clip(start, length, spec) for start in starts])


def resampled_frames(
    times: Float[np.ndarray, " frames"], places: Int[np.ndarray, " t"], num_frames: int
) -> Int[np.ndarray, " num_frames"]:
    """Resample a clip to `num_frames` frames in the same span of time. Return the frames as indices into `times`.

    The frames are spread evenly from the clip's first frame to its last. If the clip has `num_frames` frames already,
    it is returned unchanged. In a clip of a looped short video, time jumps back from the video's end to its start. A
    resampled frame that falls inside such a jump is replaced by the clip's last frame before the jump or the first
    frame after it, whichever is nearer.

    Args:
        times: start time of each frame of the video.
        places: frames of the clip, as indices into `times`.
        num_frames: number of frames to return.
    """
    at = np.linspace(0, len(places) - 1, num_frames)
    before = np.floor(at + 1e-9).astype(np.int64)  # linspace may round an integer down
    after = np.minimum(before + 1, len(places) - 1)
    share = np.clip(at - before, 0, 1)
    first, last = places[before], places[after]
    moments = times[first] + share * (times[last] - times[first])
    between = np.searchsorted(times, moments + SEGMENT_TOLERANCE_SECONDS, side="right") - 1
    return np.where(last >= first, between, np.where(share < 0.5, first, last))


def shown_seconds(
    times: Float[np.ndarray, " frames"], places: Int[np.ndarray, "clips t"], target_fps: float | None
) -> Float[np.ndarray, "clips 2"]:
    """Return the time that each clip shows: start of its earliest frame and end of its latest, in seconds.

    A frame lasts until the next frame starts; the video's last frame lasts 1 / `frame_rate(times)` seconds. With
    `target_fps`, a frame lasts 1 / target_fps seconds instead, but at most until the end of the video.

    Args:
        times: start time of each frame of the video.
        places: frames of each clip, as indices into `times`.
        target_fps: frame rate of the stream; None for the video's own frames.
    """
    video_ends = times[-1] + 1 / frame_rate(times)
    last = places.max(axis=1)
    if target_fps is None:
        ends = np.append(times[1:], video_ends)[last]
    else:
        ends = np.minimum(times[last] + 1 / target_fps, video_ends)
    return np.stack([times[places.min(axis=1)], ends], axis=1)


def _clip(start: int, length: int, spec: ClipSpec) -> Int[np.ndarray, " num_frames"]:
    places = start + np.arange(spec.num_frames) * spec.frame_stride
    return places.clip(0, length - 1) if spec.short_clip == "clamp" else places % length  # modulo loops a short video


def _check_length(length: int, spec: ClipSpec) -> None:
    needed = spec.num_frames if spec.sampling == "segments" else spec.span
    if length < needed and spec.short_clip == "refuse":
        rate = "" if spec.target_fps is None else f" at {spec.target_fps:g} frames per second"
        frames = "1 frame" if length == 1 else f"{length} frames"
        raise ClipTooShort(
            f"it has {frames}{rate}, but a clip of {spec.num_frames} frames at stride {spec.frame_stride} needs "
            f"{needed}. "
            "Lower num_frames or frame_stride, or set short_clip='loop' or 'clamp'."
        )
