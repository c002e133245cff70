"""Which frames of a video make a clip. Pure: counts, rates and a random generator in, indices out; no I/O.

A clip is chosen on a *stream* of frames at a constant rate: the video's own frames, or, with `target_fps`, the video
resampled to that rate. `stream_frames` says which frame of the video stands at each place of the stream.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError


class ClipTooShort(FarfieldError):
    """A video is shorter than a clip, and `short_clip` says that it is not to be looped."""


def stream_frames(
    times: Float[np.ndarray, " frames"],
    *,
    target_fps: float | None = None,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> Int[np.ndarray, " stream"]:
    """Returns the frame of the video at each place of the stream.

    Args:
        times: when each frame is first shown, in seconds, ascending.
        target_fps: rate of the stream; None takes the video's frames as they are. At each moment k / target_fps the
            frame is the one then shown, as a player would.
        start_seconds: the annotated segment's start, on the clock of `times`.
        end_seconds: its end, not included.

    Raises:
        ClipTooShort: where no frame lies in the segment.
    """
    first = 0 if start_seconds is None else int(np.searchsorted(times, start_seconds - 1e-6))
    last = len(times) if end_seconds is None else int(np.searchsorted(times, end_seconds - 1e-6))
    if last <= first:
        shown = f"[{start_seconds or 0:g}, {'end' if end_seconds is None else f'{end_seconds:g}'}) s"
        ends = f"its last frame is at {times[-1]:.3f} s" if len(times) else "it has no frames"
        raise ClipTooShort(f"no frame lies in the segment {shown}; {ends}. Correct the manifest's segment.")
    if target_fps is None:
        return np.arange(first, last)
    spacing = np.median(np.diff(times)) if len(times) > 1 else 1 / target_fps
    duration = times[last - 1] - times[first] + spacing  # the last frame is shown for a while, too
    moments = times[first] + np.arange(max(1, round(duration * target_fps))) / target_fps
    # Half a millisecond of tolerance: containers round times, and a frame must not lose its moment to that.
    return np.clip(np.searchsorted(times, moments + 5e-4, side="right") - 1, first, last - 1)


def random_clip(length: int, spec: ClipSpec, rng: np.random.Generator) -> Int[np.ndarray, " num_frames"]:
    """One clip for training: its start drawn uniformly, or one frame drawn from each segment.

    Args:
        length: frames in the stream.
        spec: number of frames, stride, and what to do with a short video.
        rng: where the draw comes from.

    Returns:
        Places in the stream.

    Raises:
        ClipTooShort: for a short video where `spec.short_clip` is "refuse".
    """
    _check_length(length, spec)
    if spec.sampling == "segments":
        return segments(length, spec.num_frames, rng.random(spec.num_frames))
    start = int(rng.integers(max(length - spec.span, 0) + 1))
    return _clip(start, length, spec)


def uniform_views(length: int, spec: ClipSpec, num_clips: int) -> Int[np.ndarray, "num_clips num_frames"]:
    """Clips for testing, spread evenly: the first starts at the beginning, the last ends at the end; one is central.

    With segments, view v of V takes the frame at (v + 1/2) / V of each segment.

    Raises:
        ClipTooShort: as `random_clip`.
    """
    _check_length(length, spec)
    if spec.sampling == "segments":
        return np.stack([segments(length, spec.num_frames, (v + 0.5) / num_clips) for v in range(num_clips)])
    slack = max(length - spec.span, 0)
    starts = np.linspace(0, slack, num_clips) if num_clips > 1 else np.array([slack / 2])
    return np.stack([_clip(round(float(start)), length, spec) for start in starts])


def dense_views(length: int, spec: ClipSpec, hop: int) -> Int[np.ndarray, "views num_frames"]:
    """Clips that start every `hop` frames and together cover the whole stream; the last one ends at its end.

    Raises:
        ClipTooShort: as `random_clip`.
        FarfieldError: for a hop below 1, or for segments, of which one clip covers everything.
    """
    if hop < 1 or spec.sampling == "segments":
        raise FarfieldError(
            f"dense sampling needs sampling='clip' and hop at least 1; given {spec.sampling!r} and {hop}."
        )
    _check_length(length, spec)
    slack = max(length - spec.span, 0)
    starts = [*range(0, slack, hop), slack]
    return np.stack([_clip(start, length, spec) for start in starts])


def segments(
    length: int, num_segments: int, offset: float | Float[np.ndarray, " num_segments"]
) -> Int[np.ndarray, " num_segments"]:
    """One frame from each of `num_segments` equal parts, at `offset` in [0, 1) of the part (0.5 for its centre)."""
    places = (np.arange(num_segments) + offset) * (length / num_segments)
    return np.minimum(places.astype(np.int64), length - 1)


def _clip(start: int, length: int, spec: ClipSpec) -> Int[np.ndarray, " num_frames"]:
    return (start + np.arange(spec.num_frames) * spec.frame_stride) % length  # modulo: a short video is looped


def _check_length(length: int, spec: ClipSpec) -> None:
    needed = spec.num_frames if spec.sampling == "segments" else spec.span
    if length < needed and spec.short_clip == "refuse":
        rate = "" if spec.target_fps is None else f" at {spec.target_fps:g} frames per second"
        raise ClipTooShort(
            f"it has {length} frames{rate}; {spec.num_frames} at stride {spec.frame_stride} need {needed}. "
            "Lower frame_stride, or set short_clip='loop'."
        )
