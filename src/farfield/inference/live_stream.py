"""One connection to a camera or stream: its frames, cropped to the network's input size, and its packets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import torch
from av.packet import Packet
from av.video.frame import VideoFrame
from jaxtyping import UInt8
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.data.crops import resize_short_side, spread_crops
from farfield.errors import VideoError
from farfield.inference.camera_name import without_passwords
from farfield.inference.stream_clock import StreamClock
from farfield.video.container import video_stream
from farfield.video.deinterlacing import deinterlaced
from farfield.video.error_reason import reason_of
from farfield.video.frame_conversion import RgbConverter

log = logging.getLogger("farfield")

DEFAULT_FPS = 25.0
"""Frame rate assumed for a stream that does not state one."""


class LiveStream:
    """An open connection to a camera or stream.

    Attributes:
        fps: frame rate at which frames are yielded: the network's `target_fps` or, without one, the stream's.
        is_recording: whether the source states its length, as a file does. A live stream has no length, and the
            end of its data means that the connection was lost.
        opening: `time.monotonic()` just before the connection was opened.

    Args:
        source: a URL that FFmpeg opens (rtsp, http, udp, tcp, ...), a file, or a camera's device such as /dev/video0.
        spec: the network's clip settings.
        timeout_seconds: timeout for opening the source and for each read.
        name: name for messages; None for the source without its passwords.

    Raises:
        VideoError: if the source cannot be opened, or has no video stream.
    """

    def __init__(self, source: str, spec: ClipSpec, timeout_seconds: float, *, name: str | None = None) -> None:
        self.name = name or without_passwords(source)
        self._spec = spec
        self._timeout_seconds = timeout_seconds
        self._damaged = 0
        self.opening = time.monotonic()
        # Over UDP, which FFmpeg tries first, lost packets damage frames until the next keyframe.
        options = {"rtsp_flags": "prefer_tcp"} if source.startswith(("rtsp:", "rtsps:")) else {}
        form = "v4l2" if source.startswith("/dev/video") else None
        try:
            self._container = av.open(source, format=form, options=options, timeout=timeout_seconds)
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoError(self.name, without_passwords(reason_of(error))) from None  # its text may have the password
        stream: Any = video_stream(self._container)
        if stream is None or stream.codec_context is None:
            self._container.close()
            raise VideoError(self.name, "it has no video stream" if stream is None else "its codec has no decoder")
        self.stream = stream
        self.stream_fps = float(stream.average_rate or DEFAULT_FPS)
        self.fps = spec.target_fps or self.stream_fps
        self.is_recording = self._container.duration is not None or self._container.size > 0

    def close(self) -> None:
        """Close the connection."""
        self._container.close()

    def frames(
        self, span: int, base: float = 0.0, on_packet: Callable[[Packet], object] | None = None
    ) -> Iterator[tuple[float, UInt8[Tensor, "h w c"]]]:
        """Yield (time in seconds, frame) at the network's frame rate, as `stream_frames` does.

        If the network has no `target_fps`, every frame is yielded once. If the source's clock jumps back, for example
        after a restart, time continues from the previous frame. Damaged frames are left out.

        Args:
            span: number of frames in a window. If the network has a `target_fps`, the last frame before a gap in the
                stream is repeated to fill the gap, at most this many times.
            base: time of the first frame, in seconds.
            on_packet: called with each packet of the stream.

        Raises:
            av.FFmpegError, OSError, ValueError: if the stream ends with an error, or no frame can be decoded.
        """
        convert: RgbConverter | None = None
        clock = StreamClock(base, 1 / self.fps)
        moment = 0
        before: Tensor | None = None
        for seconds_of_frame, frame in self._decoded(on_packet):
            seconds = clock.at(seconds_of_frame)
            convert = convert or self._to_rgb(frame)
            try:
                picture = torch.from_numpy(convert(frame).copy())
            except ValueError as error:
                self._leave_out(error)
                continue
            resized = resize_short_side(picture[None], self._spec.test_short_side_px, self._spec.resize)
            crop = spread_crops(resized, self._spec.test_side_px, 1, self._spec.resize)[0][0]
            if self._spec.target_fps is None:
                yield seconds, crop
                continue
            moment = max(moment, int((seconds - base) * self.fps) - span)
            while before is not None and base + moment / self.fps < seconds:
                yield base + moment / self.fps, before
                moment += 1
            before = crop

    def _decoded(self, on_packet: Callable[[Packet], object] | None) -> Iterator[tuple[float, VideoFrame]]:
        """Yield (time in seconds, frame). If the first frame is marked as interlaced, all frames are deinterlaced."""
        frames = self._decode_packets(on_packet)
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

    def _decode_packets(self, on_packet: Callable[[Packet], object] | None) -> Iterator[VideoFrame]:
        """Decode the packets, and leave out damaged ones.

        Raises:
            ValueError: if no packet can be decoded for the duration of the timeout.
        """
        last = time.monotonic()
        for packet in self._container.demux(self.stream):
            if on_packet is not None and packet.size:  # the last one, which empties the decoder, has no data
                on_packet(packet)
            try:
                decoded = packet.decode()
            except av.InvalidDataError as error:
                self._leave_out(error)
                decoded = []
            if decoded:
                last = time.monotonic()
            elif time.monotonic() - last > self._timeout_seconds:
                raise ValueError(f"no frame could be decoded for {self._timeout_seconds:g} seconds")
            yield from decoded

    def _leave_out(self, error: Exception) -> None:
        self._damaged += 1
        if self._damaged == 1:
            log.warning("%s: damaged frames are left out (%s).", self.name, reason_of(error))

    def _to_rgb(self, frame: VideoFrame) -> RgbConverter:
        aspect = self.stream.sample_aspect_ratio or Fraction(1)
        return RgbConverter(
            (frame.width, frame.height),
            aspect,
            self._spec.decoded_short_side_px,
            tone_map=self._spec.tone_map,
            name=self.name,
        )
