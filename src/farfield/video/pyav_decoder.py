"""Read exact frames of videos with PyAV, deinterlaced and converted to RGB."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from jaxtyping import Float, Int, UInt8

from farfield.video.container import Source
from farfield.video.deinterlacing import Deinterlace, deinterlaced
from farfield.video.exact_frames import ExactFrames
from farfield.video.frame_conversion import RgbConverter
from farfield.video.packet_reader import PacketReader
from farfield.video.tone_mapping import ToneMap


class PyAVVideo:
    """An open video; `close` it after use.

    Args:
        source: path of the video file, or an open binary file.
        name: name for the log; None for the file's path.
        deinterlace: "auto" deinterlaces frames that are marked as interlaced; "off" leaves them as they are.
        tone_map: "auto" converts HDR frames to BT.709; "off" leaves them as they are.

    Attributes:
        times: display time of each frame, in seconds after the first frame, ascending.

    Raises:
        av.FFmpegError, ValueError, MemoryError: if the source cannot be opened, or holds no frames.
    """

    def __init__(
        self,
        source: Source,
        *,
        name: str | None = None,
        deinterlace: Deinterlace = "auto",
        tone_map: ToneMap = "auto",
    ) -> None:
        self._name = name or (str(source) if isinstance(source, Path) else "a video")
        self._tone_map: ToneMap = tone_map
        self._may_deinterlace = deinterlace == "auto"
        self._is_interlaced = False
        self._is_size_confirmed = False
        self._reader = PacketReader(source)
        self._exact = ExactFrames(self._reader)
        self._size = self._reader.coded_size
        self.times: Float[np.ndarray, " frames"] = self._reader.index.seconds

    def close(self) -> None:
        self._reader.close()

    @property
    def comment(self) -> str:
        """The comment in the file's metadata."""
        return self._reader.comment

    @property
    def pixel_aspect_ratio(self) -> Fraction:
        """Width of a stored pixel over its height."""
        return self._reader.stream.sample_aspect_ratio or Fraction(1)

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height in pixels of the first frame as stored, before rotation."""
        return self._size

    def frames(self, indices: Int[np.ndarray, " t"], short_side_px: int | None = None) -> UInt8[np.ndarray, "t h w c"]:
        """Decode the frames at `indices`, in that order, as upright RGB. An index may occur more than once.

        If the file lacks a frame between others, the previous frame takes its place.

        Args:
            indices: indices into `times`.
            short_side_px: downscale frames to this short side in pixels, keeping their aspect ratio, if their short
                side is at least twice as long; this saves memory and time. None keeps the full size.

        Raises:
            av.FFmpegError, ValueError, MemoryError: if a frame is damaged, or missing at the start or the end of
                the video.
        """
        if indices.max() >= self._reader.index.num_held:
            raise ValueError(f"the video ends before frame {indices.max()}")
        wanted, places = np.unique(indices, return_inverse=True)
        array = np.empty(0, np.uint8)
        for number, picture in enumerate(self._to_rgb(self._decode(wanted, jump=True), short_side_px)):
            if number == 0:
                array = np.empty((len(wanted), *picture[1].shape), np.uint8)
            array[number] = picture[1]
        return array if np.array_equal(places, np.arange(len(wanted))) else array[places]

    def pictures(
        self, places: Int[np.ndarray, " t"], short_side_px: int | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        """Decode the frames at the ascending `places` one at a time, in one pass through the file.

        Args:
            places: indices into `times`.
            short_side_px: see `frames`.

        Yields:
            (place, frame), with the frame as in the result of `frames`.

        Raises:
            av.FFmpegError, ValueError, MemoryError: if a frame is damaged, or missing at the start or the end of
                the video.
        """
        return self._to_rgb(self._decode(places, jump=False), short_side_px)

    def walk(self, start: int, stop: int, *, both_fields: bool = False) -> Iterator[tuple[int, VideoFrame]]:
        """Decode the frames [start, stop) in order; yield (place, frame), where the place is an index into `times`.

        If the file lacks a frame between others, the previous frame is yielded again.

        Args:
            start: first place.
            stop: place after the last one.
            both_fields: yield two frames for each interlaced frame, one per field, both with the same place.

        Raises:
            av.FFmpegError, ValueError, MemoryError: if a frame is damaged, or missing at the start or the end of
                the video.
        """
        return self._decode(np.arange(start, stop), jump=False, both_fields=both_fields)

    def to_rgb(self, short_side_px: int | None = None) -> RgbConverter:
        """Return a converter to RGB for the frames that `walk` yields."""
        return RgbConverter(
            self._size, self.pixel_aspect_ratio, short_side_px, tone_map=self._tone_map, name=self._name
        )

    def _to_rgb(
        self, frames: Iterable[tuple[int, VideoFrame]], short_side_px: int | None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        convert: RgbConverter | None = None
        for place, frame in frames:
            convert = convert or self.to_rgb(short_side_px)  # the first frame has confirmed the size
            yield place, convert(frame)

    def _decode(
        self, places: Int[np.ndarray, " t"], *, jump: bool, both_fields: bool = False
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Decode the frames at the ascending `places`, and deinterlace those that are interlaced.

        Args:
            places: indices into `times`.
            jump: seek once for each group of requested frames that have the same latest keyframe. If False, seek only
                once, for the first requested frame.
            both_fields: see `walk`.
        """
        left = deque(places.tolist())
        if not self._is_interlaced:
            for place, frame in self._exact.decode(left, jump):
                if self._may_deinterlace and frame.interlaced_frame:
                    self._is_interlaced = True
                    left.appendleft(place)
                    break
                self._confirm_size(frame)
                yield place, frame
        if not left:
            return
        wanted, num_held = set(left), self._reader.index.num_held
        around = sorted({near for place in left for near in (place - 1, place, place + 1)})
        around = [place for place in around if place >= 0 and (place < num_held or place in wanted)]
        for place, frame in deinterlaced(self._exact.decode(deque(around), jump), both_fields=both_fields):
            if place in wanted:
                self._confirm_size(frame)
                yield place, frame

    def _confirm_size(self, frame: VideoFrame) -> None:
        """Set the video's size to that of its first frame, unless `frame` has the size that the container states."""
        if self._is_size_confirmed or (frame.width, frame.height) == self._size:
            return
        self._is_size_confirmed = True
        first = self._reader.first_frame() or frame
        self._size = first.width, first.height
