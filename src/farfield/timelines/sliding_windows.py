"""Sliding windows over a long video. Each frame is decoded once, and only frames that are still needed are in memory.

A window has as many frames as a clip of the network. Windows start at equal distances (hops) in the video's stream of
frames (see `frame_sampling.py`), except that the last one ends with the video.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.data.crops import resize_short_side, spread_crops
from farfield.data.frame_sampling import ClipTooShort, dense_views, stream_frames
from farfield.data.segment_sampling import segment_views
from farfield.errors import VideoError
from farfield.timelines.window_lengths import check_window_lengths
from farfield.video.decoder_names import Decoder
from farfield.video.decoders import Video, open_video
from farfield.video.frame_rate import frame_rate

log = logging.getLogger("farfield")


@dataclass(frozen=True)
class Window:
    """One window of a long video.

    Attributes:
        frames: the window's frames, uint8 RGB (v t h w c). v is the number of crops of each frame; a crop has the
            network's input size.
        start_seconds: time at which the display of the first frame starts.
        end_seconds: time at which the display of the last frame ends.

    If the network has a `target_fps`, start and end are multiples of 1 / target_fps, and may differ from the times of
    the video's frames.
    """

    frames: UInt8[Tensor, "v t h w c"]
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Windows:
    """The windows of an open video. They can be iterated over only once.

    Attributes:
        starts: start of each window in seconds, ascending.
        ends: end of each window in seconds, later than its start.
        indices: indices of each window's frames in the video.
    """

    starts: Float[np.ndarray, " windows"]
    ends: Float[np.ndarray, " windows"]
    indices: Int[np.ndarray, "windows t"]
    _clips: Iterator[UInt8[Tensor, "v t h w c"]]

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Window]:
        for frames, start, end in zip(self._clips, self.starts.tolist(), self.ends.tolist(), strict=True):
            yield Window(frames, start, end)


@contextmanager
def sliding_windows(
    path: str | Path,
    spec: ClipSpec,
    *,
    hop_seconds: float | None = None,
    hop_frames: int | None = None,
    window_seconds: float | None = None,
    num_crops: int = 1,
    decoder: Decoder = "pyav",
    fps: float | None = None,
) -> Iterator[Windows]:
    """Open a video and yield its windows. The video stays open for the `with` block.

    Args:
        path: video file, or folder of numbered pictures.
        spec: the network's clip settings.
        hop_seconds: time from the start of one window to the next; None for half a window.
        hop_frames: number of frames from the start of one window to the next; overrides `hop_seconds`.
        window_seconds: length of a window; None for `num_frames` frames at `frame_stride`.
        num_crops: square crops of each window, spread along the longer side.
        decoder: "pyav" or "decord".
        fps: frame rate of a folder of pictures, see `open_video`.

    Raises:
        FarfieldError: see `check_window_lengths`.
        VideoError: if the file cannot be opened. If `window_seconds` is None and `spec.short_clip` is "refuse", also
            for a video that is shorter than a clip. Iterating over the windows raises this error if a frame cannot be
            decoded.
    """
    check_window_lengths(spec, hop_seconds, window_seconds)
    with open_video(path, decoder, deinterlace=spec.deinterlace, tone_map=spec.tone_map, fps=fps) as video:
        yield windows_of(
            video,
            path,
            spec,
            hop_seconds=hop_seconds,
            hop_frames=hop_frames,
            window_seconds=window_seconds,
            num_crops=num_crops,
        )


def windows_of(
    video: Video,
    path: str | Path,
    spec: ClipSpec,
    *,
    hop_seconds: float | None = None,
    hop_frames: int | None = None,
    window_seconds: float | None = None,
    num_crops: int = 1,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> Windows:
    """Slide windows over an open video, or a segment of it.

    The first window starts with the video or segment, and the last window ends with it. A video or segment that is
    shorter than a window has one window.

    Args:
        video: an open video from `open_video`.
        path: file of the video, for messages.
        spec: the network's clip settings.
        hop_seconds: time from the start of one window to the next, rounded to frames; None for half a window.
        hop_frames: number of frames from the start of one window to the next; overrides `hop_seconds`.
        window_seconds: length of a window; None for the length of `num_frames` frames at `frame_stride`. Required for a
            network that samples frames from the whole video, because its clips have no fixed length.
        num_crops: square crops of each window, spread along the longer side.
        start_seconds: start of the segment, see `stream_frames`; None for the start of the video.
        end_seconds: end of the segment, excluded; None for the end of the video.

    Raises:
        FarfieldError: see `check_window_lengths`.
        VideoError: if no frame lies in the segment. If `window_seconds` is None and `spec.short_clip` is "refuse", also
            if the video or segment is shorter than a clip.
    """
    check_window_lengths(spec, hop_seconds, window_seconds)
    fps = spec.target_fps or frame_rate(video.times)
    span, hop = span_and_hop(fps, spec, hop_seconds=hop_seconds, window_seconds=window_seconds)
    try:
        stream = stream_frames(
            video.times, target_fps=spec.target_fps, start_seconds=start_seconds, end_seconds=end_seconds
        )
        views, bounds = window_indices(
            len(stream), spec, span, hop if hop_frames is None else hop_frames, spread=window_seconds is not None
        )
    except ClipTooShort as error:
        raise VideoError(path, str(error)) from error
    indices = stream[views]
    shown = np.append(video.times, video.times[-1] + 1 / fps)
    first = int(stream[0])
    seconds = shown[first + bounds] if spec.target_fps is None else video.times[first] + bounds / fps
    pictures = video.pictures(np.unique(indices), spec.decoded_short_side_px)
    clips = assemble_windows(_crop(pictures, spec, num_crops), iter(indices))
    return Windows(seconds[:, 0], seconds[:, 1], indices, clips)


def span_and_hop(
    fps: float, spec: ClipSpec, *, hop_seconds: float | None, window_seconds: float | None
) -> tuple[int, int]:
    """Return the length and the hop of windows in frames at `fps`, each at least one frame.

    Without `window_seconds`, a window is as long as a clip of the network. Without `hop_seconds`, the hop is half a
    window.
    """
    span = spec.span if window_seconds is None else _whole_frames(window_seconds, fps)
    hop = max(span // 2, 1) if hop_seconds is None else _whole_frames(hop_seconds, fps)
    if hop > span:
        _warn_of_gaps(f"{hop / fps:.3g}", f"{span / fps:.3g}")
    return span, hop


def _whole_frames(seconds: float, fps: float) -> int:
    """Convert seconds to frames, at least one. Noise in a measured frame rate does not decide how a half is rounded."""
    return max(round(round(seconds * fps, 6)), 1)


@cache
def _warn_of_gaps(hop_seconds: str, window_seconds: str) -> None:
    """Warn, once for the same values, that no window sees the end of each hop."""
    log.warning(
        "hop_seconds is %s, but a window covers only %s s. The time between windows is not looked at, and takes the "
        "classes of a neighbouring window. Lower hop_seconds, or raise window_seconds.",
        hop_seconds, window_seconds,
    )  # fmt: skip


def window_indices(
    length: int, spec: ClipSpec, span: int, hop: int, *, spread: bool
) -> tuple[Int[np.ndarray, "windows num_frames"], Int[np.ndarray, "windows 2"]]:
    """Choose the frames and the bounds of each window in a stream of `length` frames.

    The bounds are a half-open interval [start, end) of positions in the stream.

    Args:
        length: frames in the stream.
        spec: the network's clip settings.
        span: frames that a window covers.
        hop: frames from the start of one window to the start of the next.
        spread: whether to spread the `num_frames` frames evenly over the span, instead of taking them at the network's
            frame stride.

    Raises:
        ClipTooShort: if the stream is shorter than a clip, `spread` is False, and `spec.short_clip` is "refuse".
    """
    last = max(length - span, 0)
    starts = np.array([*range(0, last, hop), last])
    views = starts[:, None] + segment_views(min(span, length), spec, 1) if spread else None
    if views is None:
        views = dense_views(length, spec, hop)
    return views, np.stack([starts, np.minimum(starts + span, length)], 1)


def _crop(
    pictures: Iterable[tuple[int, np.ndarray]], spec: ClipSpec, num_crops: int
) -> Iterator[tuple[int, UInt8[Tensor, "v h w c"]]]:
    """Resize and crop one frame at a time, so that full-size frames do not accumulate in memory."""
    for index, picture in pictures:
        resized = resize_short_side(torch.from_numpy(picture.copy())[None], spec.test_short_side_px, spec.resize)
        yield (
            index,
            torch.stack([crop[0] for crop in spread_crops(resized, spec.test_side_px, num_crops, spec.resize)]),
        )


def assemble_windows(
    frames: Iterable[tuple[int, UInt8[Tensor, "v h w c"]]], windows: Iterable[Int[np.ndarray, " t"]]
) -> Iterator[UInt8[Tensor, "v t h w c"]]:
    """Assemble windows from a stream of frames, and drop frames that no later window needs.

    Args:
        frames: index and crops of each frame, by ascending index.
        windows: frame indices of each window, by ascending start. The iterable is read one window at a time, so it may
            be endless.
    """
    held: dict[int, Tensor] = {}
    waiting = iter(windows)
    window = next(waiting, None)
    for index, crops in frames:
        held[index] = crops
        while window is not None and window.max() <= index:
            yield torch.stack([held[each] for each in window.tolist()], dim=1)
            window = next(waiting, None)
            first = index + 1 if window is None else int(window.min())
            held = {each: crops for each, crops in held.items() if each >= first}
        if window is None:
            return
