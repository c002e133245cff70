"""A long video as windows that slide over it: every frame decoded once, and no more held than the windows need.

A window is a clip as the network was trained on, cut out of the stream of frames (see `sampling.py`) at equal hops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.data.crops import resize_short_side, spread_crops
from farfield.data.frame_sampling import ClipTooShort, dense_views, segments, stream_frames
from farfield.errors import FarfieldError, VideoError
from farfield.video.decoders import Decoder, open_video
from farfield.video.frame_rate import frame_rate


@dataclass(frozen=True)
class Window:
    """A clip at one place of a long video.

    Attributes:
        frames: uint8, RGB, cut to the network's size; v crops.
        start_seconds: when its first frame is shown.
        end_seconds: when its last frame is no longer shown.

    At a rate of the network's own, these are the moments between which the stream's frames are taken, however long the
    video shows one of them.
    """

    frames: UInt8[Tensor, "v t h w c"]
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Windows:
    """The windows of an open video; can be walked through once.

    Attributes:
        starts: in seconds, each later than the one before.
        ends: in seconds, each later than its start.
    """

    starts: Float[np.ndarray, " windows"]
    ends: Float[np.ndarray, " windows"]
    _walk: Iterator[UInt8[Tensor, "v t h w c"]]

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Window]:
        for frames, start, end in zip(self._walk, self.starts.tolist(), self.ends.tolist(), strict=True):
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
) -> Iterator[Windows]:
    """Opens a video to be walked through window by window, for the length of a `with` block.

    The first window begins with the video, the last one ends with it; a video shorter than a window has one.

    Args:
        path: the file.
        spec: what the network wants of a clip.
        hop_seconds: from the start of one window to that of the next, to the nearest frame; None for half a window.
        hop_frames: the same in frames of the stream, in place of hop_seconds.
        window_seconds: length of a window. None for `num_frames` frames at `frame_stride`, which a network that samples
            segments does not have: its clips span whole videos, and half a minute's gestures are not its actions.
        num_crops: square crops of each window, spread along the longer side.
        decoder: what is tried first.

    Raises:
        FarfieldError: for lengths that are not positive, or missing.
        VideoError: where the file cannot be opened, or is shorter than a window and may not be looped; from the walk,
            where a frame cannot be decoded.
    """
    check_lengths(hop_seconds, window_seconds)
    if window_seconds is None and spec.sampling == "segments":
        raise FarfieldError(
            "this network samples frames from the whole of a video, so that its windows have no length of their own. "
            "Give window_seconds: how long an action takes."
        )
    try:
        with open_video(path, decoder, deinterlace=spec.deinterlace, tone_map=spec.tone_map) as video:
            stream = stream_frames(video.times, target_fps=spec.target_fps)
            fps = spec.target_fps or frame_rate(video.times)
            if hop_frames is not None:
                hop_seconds = hop_frames / fps
            views, bounds = window_places(
                len(stream), fps, spec, hop_seconds=hop_seconds, window_seconds=window_seconds
            )
            places = stream[views]
            shown = np.append(video.times, video.times[-1] + 1 / fps)
            seconds = shown[bounds] if spec.target_fps is None else bounds / fps
            pictures = video.pictures(np.unique(places), spec.test_short_side_px)
            yield Windows(seconds[:, 0], seconds[:, 1], assemble_windows(_cut(pictures, spec, num_crops), iter(places)))
    except ClipTooShort as error:
        raise VideoError(path, str(error)) from error


def check_lengths(hop_seconds: float | None, window_seconds: float | None) -> None:
    """
    Raises:
        FarfieldError: for lengths that are not positive.
    """
    for name, given in (("hop", hop_seconds), ("window", window_seconds)):
        if given is not None and not given > 0:
            raise FarfieldError(f"{name}_seconds is {given}; it must be positive.")


def window_places(
    length: int, fps: float, spec: ClipSpec, *, hop_seconds: float | None, window_seconds: float | None
) -> tuple[Int[np.ndarray, "windows num_frames"], Int[np.ndarray, "windows 2"]]:
    """Where the frames of each window lie in a stream of `length` frames at `fps`, and the part that it spans, [ , ).

    Raises:
        ClipTooShort: as `dense_views`.
    """
    span = spec.span if window_seconds is None else max(round(window_seconds * fps), 1)
    hop = max(span // 2, 1) if hop_seconds is None else max(round(hop_seconds * fps), 1)
    slack = max(length - span, 0)
    starts = np.array([*range(0, slack, hop), slack])
    if window_seconds is None:
        views = dense_views(length, spec, hop)
    else:
        views = starts[:, None] + segments(min(span, length), spec.num_frames, 0.5)
    return views, np.stack([starts, np.minimum(starts + span, length)], 1)


def _cut(
    pictures: Iterable[tuple[int, np.ndarray]], spec: ClipSpec, num_crops: int
) -> Iterator[tuple[int, UInt8[Tensor, "v h w c"]]]:
    """Resizes each frame and cuts out its crops, one frame at a time: what is held is of the network's size."""
    for place, picture in pictures:
        resized = resize_short_side(torch.from_numpy(picture.copy())[None], spec.test_short_side_px)
        yield place, torch.stack([crop[0] for crop in spread_crops(resized, spec.test_side_px, num_crops)])


def assemble_windows(
    frames: Iterable[tuple[int, UInt8[Tensor, "v h w c"]]], windows: Iterable[Int[np.ndarray, " t"]]
) -> Iterator[UInt8[Tensor, "v t h w c"]]:
    """Puts windows together as their frames come.

    Args:
        frames: (place, crops), ascending.
        windows: the places of each window, whose starts ascend; made as they are needed, so that there may be no end.
    """
    held: dict[int, Tensor] = {}
    waiting = iter(windows)
    window = next(waiting, None)
    for place, crops in frames:
        held[place] = crops
        while window is not None and window.max() <= place:
            yield torch.stack([held[each] for each in window.tolist()], dim=1)
            window = next(waiting, None)
            first = place + 1 if window is None else int(window.min())
            held = {each: crops for each, crops in held.items() if each >= first}
        if window is None:
            return
