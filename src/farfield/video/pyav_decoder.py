"""Read frames by timestamp, decoding only what they need.

The container says when each frame is shown and where decoding can begin. To read a frame, packets go to the decoder
from the last keyframe that is shown before it; frames in between that no other refers to (most B-frames) are dropped
before they are decoded. A frame is known by its timestamp, so that a wrong one cannot pass for another, whatever the
container's seeking does.

Some timestamps are not the container's, but made up by a demuxer: AVI and raw streams hold none. They ascend in the
order of decoding, which is not that of showing where there are B-frames. So where timestamps are in the order of
decoding and the decoder may show frames in another one, nothing is dropped, and the decoder's order is compared with
theirs. As soon as they differ, frames are counted, from the first.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Float, Int, UInt8

from farfield.video.container import Source, afresh, open_container, video_stream
from farfield.video.deinterlacing import Deinterlace, deinterlaced
from farfield.video.frame_conversion import RgbConverter
from farfield.video.packet_index import FURTHEST_REORDERING, Keyframe, ascending, from_index, from_packets
from farfield.video.tone_mapping import ToneMap

DROP_ON_REQUEST = frozenset(["h264", "mpeg4", "mpeg1video", "mpeg2video"])
"""Decoders that look at `skip_frame` packet by packet. Others ignore it, or hold on to what it was in the beginning."""


class PyAVVideo:
    """An open video; `close` it after use.

    Args:
        source: the file, or its content.
        name: what to call it in the log; None for the file's path.
        deinterlace: see `farfield.video.deinterlacing`.
        tone_map: see `farfield.video.frame_conversion`.

    Raises:
        av.FFmpegError, ValueError, MemoryError: where it cannot be opened, or holds no frame.
    """

    def __init__(
        self,
        source: Source,
        *,
        name: str | None = None,
        deinterlace: Deinterlace = "auto",
        tone_map: ToneMap = "auto",
    ) -> None:
        self._source = source
        self._name = name or (str(source) if isinstance(source, Path) else "a video")
        self._tone_map: ToneMap = tone_map
        self._may_deinterlace = deinterlace == "auto"
        self._is_interlaced = False
        self._size_is_certain = False
        self._open(source)
        try:
            self._size = self._codec.width, self._codec.height
            self._listing = from_index(self._container, self._stream, source) or from_packets(
                self._container, self._stream
            )
            if self._listing.is_counted:
                self._count()
            elif self._listing.leading:
                self._add_leading()
            self.times: Float[np.ndarray, " frames"] = self._listing.seconds
        except BaseException:
            self.close()
            raise

    def _open(self, source: Source) -> None:
        self._container: InputContainer = open_container(source)
        stream: Any = video_stream(self._container)
        self._stream: VideoStream = stream
        self._codec = self._stream.codec_context
        self._has_decoded = False

    def close(self) -> None:
        self._container.close()

    @property
    def comment(self) -> str:
        """What the file's metadata say of it."""
        return self._container.metadata.get("comment", "")

    @property
    def pixel_aspect_ratio(self) -> Fraction:
        """Width of a stored pixel over its height."""
        return self._stream.sample_aspect_ratio or Fraction(1)

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height in pixels of the first frame, as it is stored: before it is turned upright."""
        return self._size

    def frames(self, indices: Int[np.ndarray, " t"], short_side_px: int | None = None) -> UInt8[np.ndarray, "t h w c"]:
        """Decodes the frames at `indices`, in that order; an index may come more than once. RGB, upright.

        Args:
            indices: places in `times`.
            short_side_px: frames at least twice as large come reduced, with their aspect ratio, to a short side of so
                many pixels: less to hold and to resize. None for their full size.

        Raises:
            av.FFmpegError, ValueError, MemoryError: where a frame is damaged or missing.
        """
        if indices.max() >= self._listing.num_held:
            raise ValueError(f"it ends before frame {indices.max()}")
        wanted, places = np.unique(indices, return_inverse=True)
        array = np.empty(0, np.uint8)
        for number, picture in enumerate(self._converted(self._chosen(wanted, jump=True), short_side_px)):
            if number == 0:
                array = np.empty((len(wanted), *picture[1].shape), np.uint8)
            array[number] = picture[1]
        return array if np.array_equal(places, np.arange(len(wanted))) else array[places]

    def pictures(
        self, places: Int[np.ndarray, " t"], short_side_px: int | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        """Decodes the frames at `places`, ascending, in one walk through the file that holds none of them.

        Yields:
            The place and its frame, as `frames` gives it.

        Raises:
            av.FFmpegError, ValueError, MemoryError: where a frame is damaged or missing.
        """
        return self._converted(self._chosen(places, jump=False), short_side_px)

    def walk(self, start: int, stop: int, *, both_fields: bool = False) -> Iterator[tuple[int, VideoFrame]]:
        """Decodes the frames [start, stop) one after the other, each once; yields (place in `times`, frame).

        For a frame without a picture of its own, the one before comes again.

        Args:
            start: the first place.
            stop: the place after the last one.
            both_fields: of an interlaced frame, give a picture of each field, both with the frame's place.

        Raises:
            av.FFmpegError, ValueError, MemoryError: where a frame is damaged or missing.
        """
        return self._chosen(np.arange(start, stop), jump=False, both_fields=both_fields)

    def to_rgb(self, short_side_px: int | None = None) -> RgbConverter:
        """Returns what converts this video's frames, as `walk` gives them, to RGB."""
        return RgbConverter(
            self._size, self.pixel_aspect_ratio, short_side_px, tone_map=self._tone_map, name=self._name
        )

    def _converted(
        self, frames: Iterable[tuple[int, VideoFrame]], short_side_px: int | None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        convert: RgbConverter | None = None
        for place, frame in frames:
            convert = convert or self.to_rgb(short_side_px)  # the size is certain when the first frame is there
            yield place, convert(frame)

    def _chosen(
        self, places: Int[np.ndarray, " t"], *, jump: bool, both_fields: bool = False
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Decodes the frames at `places`, ascending, and deinterlaces those that are interlaced.

        Args:
            places: of the frames.
            jump: begin anew at each keyframe behind which frames are wanted, in place of going on to there.
            both_fields: see `walk`.
        """
        left = deque(places.tolist())
        if not self._is_interlaced:
            for place, frame in self._exact(left, jump):
                if self._may_deinterlace and frame.interlaced_frame:
                    self._is_interlaced = True
                    left.appendleft(place)
                    break
                self._make_size_certain(frame)
                yield place, frame
        if not left:
            return
        wanted = set(left)
        around = sorted({near for place in left for near in (place - 1, place, place + 1)})
        around = [place for place in around if place >= 0 and (place < self._listing.num_held or place in wanted)]
        for place, frame in deinterlaced(self._exact(deque(around), jump), both_fields=both_fields):
            if place in wanted:
                self._make_size_certain(frame)
                yield place, frame

    def _make_size_certain(self, frame: VideoFrame) -> None:
        """Take the first frame's size where the container announces another."""
        if self._size_is_certain or (frame.width, frame.height) == self._size:
            return
        self._size_is_certain = True
        with open_container(afresh(self._source)) as container:
            first: Any = next(container.decode(video_stream(container)), frame)
            self._size = first.width, first.height

    def _exact(self, left: deque[int], jump: bool) -> Iterator[tuple[int, VideoFrame]]:
        """Takes places from `left` and yields them with their frames, as little as possible being decoded."""
        try:
            yield from self._needed_only(left, jump)
        except av.FFmpegError:
            if self._listing.is_whole:
                raise  # else the index may not tell of changes in what packets are decoded with
        if not left:
            return
        if not self._listing.is_whole:
            self._list_anew()
        held = [place for place in left if place < self._listing.num_held]
        for place, frame in self._one_by_one(held[0], held[-1] + 1) if held else ():
            if place == left[0]:
                yield left.popleft(), frame
        if left:
            raise ValueError(f"it ends before frame {left[0]}")

    # --- no other frames than must be -----------------------------------------------------------------------------

    def _needed_only(self, left: deque[int], jump: bool) -> Iterator[tuple[int, VideoFrame]]:
        """Yields what can be had without decoding frames that nobody needs, up to the first that is in doubt."""
        listing = self._listing
        if listing.by_number:
            return
        places = [place for place in left if place < listing.num_held]
        keyframes = self._latest_keyframes(places)
        begin = 0
        while begin < len(places):
            end = int(np.searchsorted(keyframes, keyframes[begin], side="right")) if jump else len(places)
            yield from self._run(int(keyframes[begin]), places[begin:end], left)
            if left and left[0] <= places[end - 1]:
                return
            begin = end

    def _run(self, keyframe: int, places: list[int], left: deque[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decodes from one keyframe on; takes what it has found from `left`."""
        listing = self._listing
        waiting = deque(listing.stamps[places].tolist())
        begin = self._place_of(keyframe)
        following = begin
        has_begun = False
        first: VideoFrame | None = None  # held back until the next frame shows that none comes before it
        for frame in self._decode(self._packets_for(keyframe, set(waiting))):
            if frame.pts is None:
                return
            if keyframe > 0 and not has_begun and frame.pts >= listing.keyframes[keyframe].stamp:
                has_begun = True
                # Where the keyframe is not shown, or is none, the container is wrong on where decoding can begin.
                if frame.pts > listing.keyframes[keyframe].stamp or not frame.key_frame:
                    self._listing = self._listing._replace(keyframes=listing.keyframes[:1])
                    return
            if not self._order_is_known():
                if following >= len(listing.stamps) or frame.pts != listing.stamps[following]:
                    return
                following += 1
                if following == begin + 1 and begin > 0:
                    first = frame
                    continue
            if first is not None and first.pts == waiting[0]:
                waiting.popleft()
                yield left.popleft(), first
                if not waiting:
                    return
            first = None
            if frame.pts > waiting[0]:
                return
            if frame.pts == waiting[0]:
                waiting.popleft()
                yield left.popleft(), frame
                if not waiting:
                    return

    def _order_is_known(self) -> bool:
        """Whether timestamps tell the order of showing: frames are reordered, or the decoder cannot do it."""
        return self._listing.is_reordered or not self._codec.has_b_frames

    def _packets_for(self, keyframe: int, wanted: set[int]) -> Iterator[av.Packet]:
        """Packets up to the last of the frames at `wanted`. The decoder is told to drop those that no other needs."""
        left: set[int | None] = set(wanted)
        drops = self._codec.name in DROP_ON_REQUEST
        is_known = self._order_is_known()
        latest = -(2**63)
        for packet in self._packets_from(keyframe):
            stamp = packet.pts
            if not is_known and stamp is not None:
                if stamp < latest:
                    self._listing = self._listing._replace(is_reordered=True)
                    is_known = True
                latest = max(latest, stamp)
            self._codec.skip_frame = "NONREF" if drops and is_known and stamp not in left else "DEFAULT"
            yield packet
            left.discard(stamp)
            if not left and is_known:
                return

    # --- every frame, one after the other -------------------------------------------------------------------------

    def _one_by_one(self, start: int, stop: int) -> Iterator[tuple[int, VideoFrame]]:
        """Decodes every frame of [start, stop), and counts them from the first where timestamps cannot be relied on."""
        following = start
        while not self._listing.by_number:
            try:
                for place, frame in self._without_gaps(self._placed(following), following, stop):
                    yield place, frame
                    following = place + 1
                return
            except _NoEntry:
                self._listing = self._listing._replace(keyframes=self._listing.keyframes[:1])
            except _OutOfOrder:
                numbers = np.arange(len(self._listing.stamps))
                self._listing = self._listing._replace(by_number=True, stamps=numbers)
        self._codec.skip_frame = "DEFAULT"
        yield from self._without_gaps(enumerate(self._decode(self._all_packets())), following, stop)

    def _without_gaps(
        self, frames: Iterable[tuple[int, VideoFrame]], start: int, stop: int
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Yields a frame for each place of [start, stop): where there is none, the one before comes again."""
        following, before = start, None
        for place, frame in frames:
            if frame.is_corrupt:
                raise ValueError("a frame is damaged")
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

    def _placed(self, start: int) -> Iterator[tuple[int, VideoFrame]]:
        """Decodes from the last keyframe before `start`; yields frames with their places, ascending.

        Raises:
            _NoEntry: where the keyframe itself is not shown: decoding can recover there, but not begin.
            _OutOfOrder: before the first frame whose place is in doubt.
        """
        listing = self._listing
        # Where packets are read again, from the first, since seeking may be what failed.
        keyframe = 0 if listing.packets is None else int(self._latest_keyframes([start])[0])
        begin = self._place_of(keyframe)
        packets = self._all_packets() if keyframe == 0 else self._packets_from(keyframe)
        self._codec.skip_frame = "DEFAULT"
        held: deque[tuple[int, VideoFrame]] = deque()
        last, released = begin - 1, begin - 1
        for frame in self._decode(packets):
            if frame.pts is None:
                raise ValueError("a frame is damaged")
            place = int(np.searchsorted(listing.stamps, frame.pts))
            if place < begin:  # shown before the keyframe, decoded after it
                continue
            if place <= last:
                raise _OutOfOrder
            if last < begin < place and begin > 0:
                raise _NoEntry
            last = place
            held.append((place, frame))
            while held and (len(held) > FURTHEST_REORDERING or self._is_certain(held, begin, released)):
                released = held[0][0]
                yield held.popleft()
        if last < begin and begin > 0:
            raise _NoEntry
        yield from held

    def _is_certain(self, held: deque[tuple[int, VideoFrame]], begin: int, released: int) -> bool:
        """Whether no frame can come any more that is shown before the first of those that are held."""
        place = held[0][0]
        if place == begin and begin > 0 and not self._order_is_known():
            return len(held) > 1 and held[1][0] == begin + 1  # an open group's frames would come before the keyframe
        return place == released + 1

    def _place_of(self, keyframe: int) -> int:
        """The place of the first frame that can be decoded from a keyframe on."""
        return int(np.searchsorted(self._listing.stamps, self._listing.keyframes[keyframe].stamp)) if keyframe else 0

    def _latest_keyframes(self, places: list[int]) -> Int[np.ndarray, " places"]:
        """The keyframe from which on each frame can be decoded, by its own place among the keyframes."""
        shown = [keyframe.stamp for keyframe in self._listing.keyframes]
        return np.maximum(np.searchsorted(shown, self._listing.stamps[places], side="right") - 1, 0)

    # --- packets --------------------------------------------------------------------------------------------------

    def _packets_from(self, keyframe: int) -> Iterator[av.Packet]:
        first = self._listing.keyframes[keyframe]
        begun = False
        for packets in self._ways_to(first):
            for packet in packets:
                begun = begun or packet.pts == first.stamp
                if begun:
                    yield packet
            if begun:
                return

    def _ways_to(self, first: Keyframe) -> Iterator[Iterator[av.Packet]]:
        """Packets that may hold a keyframe: from where seeking lands, and, should it land behind it, from the first."""
        if self._listing.packets is None and not self._listing.carries_state:
            try:
                self._container.seek(first.seek_stamp, stream=self._stream)
            except av.FFmpegError:  # this format cannot
                pass
            else:
                yield (packet for packet in self._container.demux(self._stream) if packet.size)
        yield self._all_packets()

    def _all_packets(self) -> Iterator[av.Packet]:
        if self._listing.packets is not None:
            yield from self._listing.packets
            return
        self._container.close()
        self._open(afresh(self._source))  # a raw stream cannot be sought in, nor does a palette come twice
        yield from (packet for packet in self._container.demux(self._stream) if packet.size)

    def _decode(self, packets: Iterable[av.Packet]) -> Iterator[VideoFrame]:
        if self._has_decoded:
            self._codec.flush_buffers()
        for packet in chain(packets, [None]):  # None: frames that the decoder still holds
            self._has_decoded = True
            yield from self._codec.decode(packet)

    def _list_anew(self) -> None:
        """After the index has turned out not to tell where each frame is."""
        self._container.seek(self._listing.keyframes[0].seek_stamp, stream=self._stream)
        listing = from_packets(self._container, self._stream)
        if listing.by_number or not np.array_equal(listing.stamps, self._listing.stamps):
            if listing.num_held < len(listing.stamps):
                raise ValueError(f"it is cut off after {listing.num_held} of {len(listing.stamps)} frames")
            raise ValueError("its index is of other frames than those in the file")
        self._listing = listing

    def _add_leading(self) -> None:
        """Finds which frames the decoder shows before the first keyframe."""
        listing = self._listing
        shown: list[int] = []
        for frame in self._decode(self._all_packets()):
            if frame.pts is None or frame.pts >= listing.keyframes[0].stamp:
                break
            shown.append(frame.pts)
        if not shown:
            return
        time_base = float(self._stream.time_base or 1)
        stamps = np.concatenate([sorted(shown), listing.stamps])
        before = (listing.keyframes[0].stamp - np.array(sorted(shown))) * time_base
        seconds = np.concatenate([before[0] - before, listing.seconds + before[0]])
        self._listing = listing._replace(stamps=stamps, seconds=seconds, num_held=listing.num_held + len(shown))

    def _count(self) -> None:
        """Decodes everything, where packets do not tell how many frames there are, and when each is shown."""
        shown = [frame.pts for frame in self._decode(self._all_packets())]
        if not shown:
            raise ValueError("no frames")
        listing = self._listing
        fps = float(self._stream.average_rate or 25)
        seconds = ascending(continuous(shown) * float(self._stream.time_base or 1 / fps), fps)
        self._listing = listing._replace(
            stamps=np.arange(len(shown)), seconds=seconds, by_number=True, num_held=len(shown)
        )


class _NoEntry(Exception):
    """Decoding cannot begin at a keyframe of the index."""


class _OutOfOrder(Exception):
    """The decoder shows frames in another order than that of their timestamps."""


def continuous(stamps: list[int | None]) -> Float[np.ndarray, " frames"]:
    """Times of frames in the order of showing, without gaps where none is known, and without jumps back to a new start.

    What is not known lies evenly between what is. After a jump back, time goes on from the frame before.
    """
    places = np.array([place for place, stamp in enumerate(stamps) if stamp is not None])
    known = np.array([stamp for stamp in stamps if stamp is not None], np.float64)
    if len(known) < 2:
        return np.zeros(len(stamps))
    steps, distances = np.diff(known), np.diff(places)
    usual = float(np.median((steps / distances)[steps > 0])) if np.any(steps > 0) else 0.0
    steps = np.where(steps < 0, usual * distances, steps)
    times = known[0] + np.concatenate([[0.0], np.cumsum(steps)])
    every = np.arange(len(stamps))
    found = np.interp(every, places, times)
    outside = np.minimum(every - places[0], 0) + np.maximum(every - places[-1], 0)
    return found + outside * usual


def reason_of(error: BaseException) -> str:
    """What a decoder's error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    # decord puts times, source lines and the failed comparison before the reason; FFmpeg a number, and its log after.
    text = re.sub(r"^(.*\.cc:\d+: (Check failed: .*? \(.*? vs\. .*?\) )?|\[Errno \d+\] )", "", text)
    # Without the file's name, so that reasons can be counted.
    return re.sub(r": '[^']*'(?=;|$)", "", text).replace("; last error log: ", ": ")
