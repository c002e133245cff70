"""Reads frames by their timestamps, and decodes no others than those that they need.

The container says when each frame is shown and where decoding can begin. To read a frame, packets go to the decoder
from the last keyframe that is shown before it; frames in between that no other refers to (most B-frames) are dropped
before they are decoded. A frame is known by its timestamp, so that a wrong one cannot pass for another, whatever the
container's seeking does; only where timestamps cannot be relied on are frames counted, from the first.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Float, Int, UInt8

from farfield.data.listing import from_index, from_packets
from farfield.data.pictures import Pictures, ToRgb

DROP_ON_REQUEST = frozenset(["h264", "mpeg4", "mpeg1video", "mpeg2video"])
"""Decoders that look at `skip_frame` packet by packet. Others ignore it, or hold on to what it was in the beginning."""

NOT_VIDEOS = frozenset(
    ["tty", "image2", "ansi", "bin", "xbin", "idf", "adf", "hls", "applehttp", "dash", "concat", "sdp", "imf"]
)
"""Formats that FFmpeg plays as videos: texts, pictures, and lists that name other files."""


class NoVideo(ValueError):
    """There is nothing in the file that could be decoded."""


def open_container(source: Path | BinaryIO) -> InputContainer:
    """Opens a file, or its content, to be decoded with one thread.

    Raises:
        NoVideo: where there is no video stream in it.
        av.FFmpegError, ValueError: where it cannot be opened, or its codec is unknown.
    """
    # An absolute path: FFmpeg takes a relative one with a colon in it for a protocol.
    file: Any = str(source.absolute()) if isinstance(source, Path) else source
    container = av.open(file, metadata_errors="replace")
    formats = set(container.format.name.split(","))
    stream = video_stream(container)
    if stream is None or formats & NOT_VIDEOS or any(name.endswith("_pipe") for name in formats):
        container.close()
        raise NoVideo("it has no video stream")
    codec: Any = stream.codec_context
    if codec is None:
        container.close()
        raise ValueError("there is no decoder for its codec")
    codec.thread_count = 1
    return container


def video_stream(container: InputContainer) -> VideoStream | None:
    """The stream that a player would show: no cover of an album, and no still where there is a video beside it."""
    streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    moving = [each for each in streams if not (each.codec_context and each.codec_context.name in _STILL_CODECS)]
    best = container.streams.best("video")
    candidates = moving or streams
    return next((each for each in candidates if each is best), candidates[0] if candidates else None)


_STILL_CODECS = {"mjpeg", "png", "bmp", "webp", "jpegls"}


class PacketVideo:
    """An open video; `close` it after use.

    Args:
        source: the file, or its content.

    Raises:
        av.FFmpegError, ValueError, MemoryError: where it cannot be opened, or holds no frame.
    """

    def __init__(self, source: Path | BinaryIO) -> None:
        self._container = open_container(source)
        try:
            stream: Any = video_stream(self._container)
            self._stream: VideoStream = stream
            self._codec = self._stream.codec_context
            self._listing = from_index(self._container, self._stream) or from_packets(self._container, self._stream)
            self.times: Float[np.ndarray, " frames"] = self._listing.seconds
            self._has_decoded = False
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._container.close()

    def frames(self, indices: Int[np.ndarray, " t"], short_side_px: int | None = None) -> UInt8[np.ndarray, "t h w c"]:
        """Decodes the frames at `indices`, in that order; an index may come more than once. RGB, upright.

        Args:
            indices: places in `times`.
            short_side_px: frames at least twice as large come reduced, with their aspect ratio, to a short side of so
                many pixels: less to hold and to resize. None for frames as they are stored.

        Raises:
            av.FFmpegError, ValueError, MemoryError: where a frame is damaged or missing.
        """
        if indices.max() >= self._listing.num_held:
            raise ValueError(f"it ends before frame {indices.max()}")
        wanted, places = np.unique(self._listing.stamps[indices], return_inverse=True)
        pictures = Pictures(wanted, short_side_px)
        self._decode_needed(pictures)
        if pictures.missing and not self._listing.is_whole:
            self._list_anew()
            self._decode_needed(pictures)
        if pictures.missing:
            self._decode_from_start(pictures)
        return pictures.array if np.array_equal(places, np.arange(len(wanted))) else pictures.array[places]

    def pictures(
        self, places: Int[np.ndarray, " t"], short_side_px: int | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        """Decodes the frames at `places`, ascending, in one walk through the file that holds none of them.

        Yields:
            The place and its frame, as `frames` gives it.

        Raises:
            av.FFmpegError, ValueError, MemoryError: where a frame is damaged or missing.
        """
        convert = ToRgb(short_side_px)
        left = deque(places.tolist())
        for place, frame in chain(self._walk_needed(left), self._walk_exactly(left)):
            yield place, convert(frame)

    def _walk_needed(self, left: deque[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Takes from `left` what can be had without decoding frames that nobody needs, up to the first that cannot."""
        listing = self._listing
        if listing.by_number or not left:
            return
        stamps = {int(listing.stamps[place]) for place in left if place < listing.num_held}
        shown = -math.inf
        for frame in self._decode(self._needed(int(self._latest_keyframes(listing.stamps[[left[0]]])[0]), stamps)):
            if frame.pts is None or frame.pts <= shown:  # timestamps are not in the order in which frames are shown
                self._listing = listing._replace(by_number=True)
                return
            shown = frame.pts
            wanted = int(listing.stamps[left[0]])
            if shown > wanted:
                return
            if shown == wanted:
                yield left.popleft(), frame
                if not left:
                    return

    def _walk_exactly(self, left: deque[int]) -> Iterator[tuple[int, VideoFrame]]:
        if not left:
            return
        if not self._listing.is_whole:
            self._list_anew()
        if left[-1] >= self._listing.num_held:
            reached = [place for place in left if place < self._listing.num_held]
            for place, frame in self.walk(reached[0], reached[-1] + 1) if reached else ():
                if place == left[0]:
                    yield left.popleft(), frame
            raise ValueError(f"it ends before frame {left[0]}")
        for place, frame in self.walk(left[0], left[-1] + 1):
            if place == left[0]:
                yield left.popleft(), frame
                if not left:
                    return

    @property
    def comment(self) -> str:
        """What the file's metadata say of it."""
        return self._container.metadata.get("comment", "")

    @property
    def pixel_aspect_ratio(self) -> Fraction:
        """Width of a pixel over its height, before the picture is turned upright."""
        return self._stream.sample_aspect_ratio or Fraction(1)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, before the picture is turned upright."""
        return self._codec.width, self._codec.height

    def walk(self, start: int, stop: int) -> Iterator[tuple[int, VideoFrame]]:
        """Decodes the frames [start, stop) one after the other, each once; yields (place in `times`, frame).

        For a frame without a picture of its own, the one before comes again.

        Raises:
            av.FFmpegError, ValueError, MemoryError: where a frame is damaged or missing.
        """
        listing = self._listing
        self._codec.skip_frame = "DEFAULT"
        if listing.by_number:
            packets = self._all_packets()
        else:
            packets = self._packets_from(int(self._latest_keyframes(listing.stamps[start : start + 1])[0]))
        following, before = start, None
        for number, frame in enumerate(self._decode(packets)):
            if frame.is_corrupt or frame.pts is None:
                raise ValueError("a frame is damaged")
            place = number if listing.by_number else int(np.searchsorted(listing.stamps, frame.pts))
            while following < min(place, stop):
                if before is None:
                    raise ValueError("it cannot be decoded from its first frame on")
                yield following, before
                following += 1
            if following == place and place < stop:
                yield place, frame
                following += 1
            if following >= stop:
                return
            before = frame
        raise ValueError(f"it ends before frame {following}")

    def _list_anew(self) -> None:
        """After the index has turned out not to tell where each frame is."""
        self._container.seek(self._listing.keyframes[0].seek_stamp, stream=self._stream)
        listing = from_packets(self._container, self._stream)
        if listing.by_number or not np.array_equal(listing.stamps, self._listing.stamps):
            if listing.num_held < len(listing.stamps):
                raise ValueError(f"it is cut off after {listing.num_held} of {len(listing.stamps)} frames")
            raise ValueError("its index is of other frames than those in the file")
        self._listing = listing

    def _decode_needed(self, pictures: Pictures) -> None:
        """Finds what can be found when no other frames are decoded than must be."""
        if self._listing.by_number:
            return
        for keyframe, wanted in self._runs(sorted(pictures.missing)):
            shown = -math.inf
            for frame in self._decode(self._needed(keyframe, wanted)):
                if frame.pts is None or frame.pts <= shown:
                    # Timestamps are not in the order in which frames are shown.
                    self._listing = self._listing._replace(by_number=True)
                    pictures.forget()
                    return
                shown = frame.pts
                if shown in pictures.missing:
                    pictures.put(shown, frame)

    def _runs(self, wanted: list[int]) -> Iterator[tuple[int, set[int]]]:
        """The keyframes where decoding is to begin, by their places, and what is wanted from each on."""
        latest = self._latest_keyframes(wanted)
        for place in np.unique(latest).tolist():
            yield place, {stamp for stamp, of in zip(wanted, latest, strict=True) if of == place}

    def _latest_keyframes(self, stamps: Sequence[int] | np.ndarray) -> Int[np.ndarray, " stamps"]:
        """The keyframe from which on each frame can be decoded, by its place."""
        shown = [keyframe.stamp for keyframe in self._listing.keyframes]
        return np.maximum(np.searchsorted(shown, stamps, side="right") - 1, 0)

    def _needed(self, keyframe: int, wanted: set[int]) -> Iterator[av.Packet]:
        """Packets up to the last of the frames at `wanted`. The decoder is told to drop those that no other needs."""
        left: set[int | None] = set(wanted)
        drops = self._codec.name in DROP_ON_REQUEST
        for packet in self._packets_from(keyframe):
            self._codec.skip_frame = "NONREF" if drops and packet.pts not in left else "DEFAULT"
            yield packet
            left.discard(packet.pts)
            if not left:
                return

    def _packets_from(self, keyframe: int) -> Iterator[av.Packet]:
        first = self._listing.keyframes[keyframe]
        if self._listing.packets is not None:
            packets: Iterable[av.Packet] = self._listing.packets
        else:
            self._container.seek(first.seek_stamp, stream=self._stream)
            packets = (packet for packet in self._container.demux(self._stream) if packet.size)
        begun = False
        for packet in packets:
            begun = begun or packet.pts == first.stamp
            if begun:
                yield packet

    def _decode_from_start(self, pictures: Pictures) -> None:
        """Decodes everything up to the last frame that is missing.

        A timestamp that no frame has is that of a frame without a picture of its own: what is then shown is the one
        before.
        """
        stamps, by_number = self._listing.stamps, self._listing.by_number
        waiting = sorted(pictures.missing, reverse=True)
        self._codec.skip_frame = "DEFAULT"
        before: VideoFrame | None = None
        for number, frame in enumerate(self._decode(self._all_packets())):
            stamp = int(stamps[min(number, len(stamps) - 1)]) if by_number else frame.pts
            while waiting and stamp is not None and waiting[-1] <= stamp:
                if waiting[-1] < stamp and before is None:
                    raise ValueError("it cannot be decoded from its first frame on")
                shown = frame if before is None or waiting[-1] == stamp else before
                pictures.put(waiting.pop(), shown)
            if not waiting:
                return
            before = frame
        raise ValueError(f"it ends before frame {int(np.searchsorted(stamps, waiting[-1]))}")

    def _all_packets(self) -> Iterator[av.Packet]:
        if self._listing.packets is not None:
            return iter(self._listing.packets)
        self._container.seek(self._listing.keyframes[0].seek_stamp, stream=self._stream)
        return (packet for packet in self._container.demux(self._stream) if packet.size)

    def _decode(self, packets: Iterable[av.Packet]) -> Iterator[VideoFrame]:
        if self._has_decoded:
            self._codec.flush_buffers()
        self._has_decoded = True
        for packet in chain(packets, [None]):  # None: frames that the decoder still holds
            yield from self._codec.decode(packet)


def reason_of(error: BaseException) -> str:
    """What a decoder's error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    # decord puts times, source lines and the failed comparison before the reason; FFmpeg a number, and its log after.
    text = re.sub(r"^(.*\.cc:\d+: (Check failed: .*? \(.*? vs\. .*?\) )?|\[Errno \d+\] )", "", text)
    # Without the file's name, so that reasons can be counted.
    return re.sub(r": '[^']*'(?=;|$)", "", text).replace("; last error log: ", ": ")
