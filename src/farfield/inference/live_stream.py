"""Read the newest window of a camera or live stream. Excess frames are dropped, so that latency stays bounded.

A thread decodes the stream and keeps only the frames of the newest window.
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
from farfield.errors import VideoError
from farfield.timelines.sliding_windows import Window, check_window_lengths, span_and_hop, window_indices
from farfield.video.container import video_stream
from farfield.video.deinterlacing import deinterlaced
from farfield.video.error_reason import reason_of
from farfield.video.frame_conversion import RgbConverter

DEFAULT_FPS = 25.0
"""Frame rate assumed for a stream that does not state one."""


@contextmanager
def live_windows(
    source: str,
    spec: ClipSpec,
    *,
    hop_seconds: float | None = None,
    window_seconds: float | None = None,
    timeout_seconds: float = 10.0,
) -> Iterator[Iterator[Window]]:
    """Open a camera or stream for the `with` block, and yield an iterator of its newest windows.

    Args:
        source: a URL that FFmpeg opens (rtsp, http, udp, tcp, ...), or a camera's device such as /dev/video0.
        spec: the network's clip settings.
        hop_seconds: minimum time between the starts of windows; None for half a window.
        window_seconds: length of a window; None for `num_frames` frames at `frame_stride`.
        timeout_seconds: timeout for opening the source and for each read.

    Raises:
        FarfieldError: if hop_seconds or window_seconds is not positive, or if window_seconds is None and the network
            samples segments of a whole video.
        VideoError: if the source cannot be opened. The iterator raises it if the stream ends with an error.
    """
    check_window_lengths(spec, hop_seconds, window_seconds)
    camera = _Camera(source, spec, timeout_seconds)
    try:
        yield _newest(camera, spec, hop_seconds, window_seconds)
    finally:
        camera.close()


class _Camera:
    """A live source whose frames a thread decodes and crops to the network's input size."""

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
        self.fps = spec.target_fps or float(stream.average_rate or DEFAULT_FPS)
        self.held: deque[tuple[float, Tensor]] = deque()
        self.count = 0
        self.error: str | None = None
        self.ended = False
        self.arrived = threading.Condition()
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
                with self.arrived:
                    self.held.append((seconds, frame))
                    self.count += 1
                    self.arrived.notify()
        except (av.FFmpegError, ValueError, OSError) as error:
            self.error = reason_of(error)
        finally:
            with self.arrived:
                self.ended = True
                self.arrived.notify()

    def _decoded(self) -> Iterator[tuple[float, VideoFrame]]:
        """Yield (time in seconds, frame). Frames are deinterlaced if the first one is marked as interlaced."""
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
        """Yield (time in seconds, frame) at the network's frame rate, as `stream_frames` does.

        Every frame is yielded if the network has no frame rate of its own. If the source's clock jumps back, for
        example after a restart, time continues from the previous frame.
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
    """Yield the newest window whenever at least one hop of new frames has arrived."""
    span, hop = span_and_hop(camera.fps, spec, hop_seconds=hop_seconds, window_seconds=window_seconds)
    indices = window_indices(span, spec, span, hop, spread=window_seconds is not None)[0][0]
    camera.start(span)
    due = span
    while True:
        with camera.arrived:
            while camera.count < due and not camera.ended:
                camera.arrived.wait()
            if camera.count < due:
                break
            due = camera.count + hop
            frames = list(camera.held)
        clip = torch.stack([frames[index][1] for index in indices.tolist()])
        yield Window(clip[None], frames[0][0], frames[-1][0] + 1 / camera.fps)
    if camera.error is not None:
        raise VideoError(camera.source, camera.error)
