"""The newest window of a camera or a stream: what comes faster than it is looked at is left out, and no delay grows.

A thread decodes; it holds as many frames as one window needs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import torch
from av.video.frame import VideoFrame
from jaxtyping import UInt8
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.data.crops import resize_short_side, spread_crops
from farfield.errors import FarfieldError, VideoError
from farfield.inference.sliding_windows import Window, check_lengths, window_places
from farfield.video.container import video_stream
from farfield.video.deinterlacing import deinterlaced
from farfield.video.error_reason import reason_of
from farfield.video.frame_conversion import RgbConverter

USUAL_FPS = 25.0
"""Where a stream does not say its rate."""


@contextmanager
def live_windows(
    source: str,
    spec: ClipSpec,
    *,
    hop_seconds: float | None = None,
    window_seconds: float | None = None,
    timeout_seconds: float = 10.0,
) -> Iterator[Iterator[Window]]:
    """Opens a camera or a stream for the length of a `with` block; gives its windows, each the newest there is.

    Args:
        source: a URL that FFmpeg knows (rtsp, http, udp, tcp, ...) or a camera's device, as /dev/video0.
        spec: what the network wants of a clip.
        hop_seconds: at least so much time lies between windows; None for half a window.
        window_seconds: length of a window; None for the network's own, see `sliding_windows`.
        timeout_seconds: to open, and to wait for what comes next.

    Raises:
        FarfieldError: for lengths that are not positive, or missing.
        VideoError: where the source cannot be opened; from the windows, where it breaks off with an error.
    """
    check_lengths(hop_seconds, window_seconds)
    if window_seconds is None and spec.sampling == "segments":
        raise FarfieldError("this network samples frames from the whole of a video. Give window_seconds.")
    camera = _Camera(source, spec, timeout_seconds)
    try:
        yield _newest(camera, spec, hop_seconds, window_seconds)
    finally:
        camera.close()


class _Camera:
    """Frames of a source as they come, at a constant rate, cut to the network's size."""

    def __init__(self, source: str, spec: ClipSpec, timeout_seconds: float) -> None:
        self.source = source
        self._spec = spec
        try:
            form = "v4l2" if source.startswith("/dev/video") else None
            self._container = av.open(source, format=form, timeout=timeout_seconds)
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoError(source, reason_of(error)) from error
        stream: Any = video_stream(self._container)
        if stream is None:
            self._container.close()
            raise VideoError(source, "it has no video stream")
        self._stream = stream
        self.fps = spec.target_fps or float(stream.average_rate or USUAL_FPS)
        self.held: deque[tuple[float, Tensor]] = deque()
        self.count = 0
        self.error: str | None = None
        self.ended = False
        self.news = threading.Condition()
        self._thread = threading.Thread(target=self._decode, daemon=True)

    def start(self, span: int) -> None:
        self.held = deque(maxlen=span)
        self._thread.start()

    def close(self) -> None:
        self.ended = True
        if self._thread.is_alive():
            self._thread.join()
        self._container.close()

    def _decode(self) -> None:
        try:
            for seconds, frame in self._at_constant_rate():
                with self.news:
                    self.held.append((seconds, frame))
                    self.count += 1
                    self.news.notify()
        except (av.FFmpegError, ValueError, OSError) as error:
            self.error = reason_of(error)
        finally:
            with self.news:
                self.ended = True
                self.news.notify()

    def _decoded(self) -> Iterator[tuple[float, VideoFrame]]:
        """Yields (time in seconds, frame), deinterlaced where the first frame says that it is interlaced."""
        frames = self._container.decode(self._stream)
        first = next(frames, None)
        if first is None:
            return
        times: dict[int, float] = {}

        def numbered() -> Iterator[tuple[int, VideoFrame]]:
            for number, frame in enumerate(chain([first], frames)):
                times[number] = float(frame.time or 0.0)
                yield number, frame

        interlaced = self._spec.deinterlace == "auto" and first.interlaced_frame
        for number, frame in deinterlaced(numbered()) if interlaced else numbered():
            yield times.pop(number), frame

    def _to_rgb(self, frame: VideoFrame) -> RgbConverter:
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        return RgbConverter(
            (frame.width, frame.height),
            aspect,
            self._spec.test_short_side_px,
            tone_map=self._spec.tone_map,
            name=self.source,
        )

    def _at_constant_rate(self) -> Iterator[tuple[float, UInt8[Tensor, "h w c"]]]:
        """At each moment the frame that is then shown, as `stream_frames` takes it; else all frames as they come.

        Where the source's clock goes back, as after a restart, time goes on from the frame before.
        """
        convert: RgbConverter | None = None
        first: float | None = None
        seconds = 0.0
        moment = 0
        before: Tensor | None = None
        for time, frame in self._decoded():
            if self.ended:
                return
            if first is None or time - first < seconds:
                first = time - seconds - (0 if first is None else 1 / self.fps)
            seconds = time - first
            convert = convert or self._to_rgb(frame)
            resized = resize_short_side(torch.from_numpy(convert(frame).copy())[None], self._spec.test_short_side_px)
            crop = spread_crops(resized, self._spec.test_side_px, 1)[0][0]
            if self._spec.target_fps is None:
                yield seconds, crop
                continue
            while before is not None and moment / self.fps < seconds:
                yield moment / self.fps, before
                moment += 1
            before = crop


def _newest(
    camera: _Camera, spec: ClipSpec, hop_seconds: float | None, window_seconds: float | None
) -> Iterator[Window]:
    span = spec.span if window_seconds is None else max(round(window_seconds * camera.fps), 1)
    hop = max(span // 2, 1) if hop_seconds is None else max(round(hop_seconds * camera.fps), 1)
    within = window_places(span, camera.fps, spec, hop_seconds=None, window_seconds=window_seconds)[0][0]
    camera.start(span)
    due = span
    while True:
        with camera.news:
            while camera.count < due and not camera.ended:
                camera.news.wait()
            if camera.count < due:
                break
            due = camera.count + hop
            frames = list(camera.held)
        clip = torch.stack([frames[place][1] for place in within.tolist()])
        yield Window(clip[None], frames[0][0], frames[-1][0] + 1 / camera.fps)
    if camera.error is not None:
        raise VideoError(camera.source, camera.error)
