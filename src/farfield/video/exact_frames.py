"""Decode exactly the requested frames, identified by their timestamps, and as few other frames as possible.

Decoding begins at the latest keyframe that is shown no later than the requested frame. Of the frames between the two,
those on which no other frame depends (most B-frames) are dropped before they are decoded. Timestamps ensure that a
wrong frame is never returned, even if the container's seeking lands in the wrong place.

AVI and raw streams store no timestamps, and the demuxer generates them. Generated timestamps ascend in decoding order.
If there are B-frames, display order differs, and the generated timestamps are wrong. Therefore, if timestamps ascend in
decoding order although the codec may reorder frames, no frame is dropped, and the timestamps of the decoder's output
are checked. If the output's timestamps do not ascend, frames are identified by counting from the first frame instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import av
import numpy as np
from av.video.frame import VideoFrame

from farfield.video.packet_index import FURTHEST_REORDERING
from farfield.video.packet_reader import PacketReader

DROP_ON_REQUEST = frozenset(["h264", "mpeg4", "mpeg1video", "mpeg2video"])
"""Decoders that obey a new `skip_frame` at each packet. Others ignore `skip_frame`, or keep its first value."""


class ExactFrames:
    """Decoder for the frames at given places of a stream. A place is a frame's index in display order.

    Args:
        reader: reader of the stream. `reader.index` is replaced when decoding shows an error in it.
    """

    def __init__(self, reader: PacketReader) -> None:
        self._reader = reader

    def decode(self, left: deque[int], jump: bool) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (place, frame) for each place in `left`, and remove the place. A place is an index in display order.

        Args:
            left: places still to decode, ascending.
            jump: seek once for each group of requested frames that have the same latest keyframe. If False, seek only
                once, for the first requested frame.

        Raises:
            av.FFmpegError, ValueError, MemoryError: if a frame is damaged, or missing at the start or the end of
                the video.
        """
        try:
            yield from self._decode_needed(left, jump)
        except av.FFmpegError:
            if self._reader.index.is_whole:
                raise  # otherwise the index may lack changes of parameters between packets
        if not left:
            return
        if not self._reader.index.is_whole:
            self._reader.reindex()
        held = [place for place in left if place < self._reader.index.num_held]
        for place, frame in self._decode_all(held[0], held[-1] + 1) if held else ():
            if place == left[0]:
                yield left.popleft(), frame
        if left:
            raise ValueError(f"the video ends before frame {left[0]}")

    # --- only needed frames ---------------------------------------------------------------------------------------

    def _decode_needed(self, left: deque[int], jump: bool) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (place, frame) for places in `left`, and remove these places; decode as few other frames as possible.

        If a timestamp may be wrong, stop early, with the remaining places in `left`.

        Args:
            left: places still to decode, ascending.
            jump: see `decode`.
        """
        index = self._reader.index
        if index.by_number:
            return
        places = [place for place in left if place < index.num_held]
        keyframes = self._reader.latest_keyframes(places)
        begin = 0
        while begin < len(places):
            end = int(np.searchsorted(keyframes, keyframes[begin], side="right")) if jump else len(places)
            yield from self._decode_from_keyframe(int(keyframes[begin]), places[begin:end], left)
            if left and left[0] <= places[end - 1]:
                return
            begin = end

    def _decode_from_keyframe(
        self, keyframe: int, places: list[int], left: deque[int]
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Decode from a keyframe on, yield the frames at `places`, and remove their places from `left`."""
        reader, index = self._reader, self._reader.index
        waiting = deque(index.stamps[places].tolist())
        begin = reader.place_of(keyframe)
        following = begin
        has_begun = False
        first: VideoFrame | None = None  # held back until the next frame shows that none comes before it
        for frame in reader.decode(self._packets_for(keyframe, set(waiting))):
            if frame.pts is None:
                return
            if keyframe > 0 and not has_begun and frame.pts >= index.keyframes[keyframe].stamp:
                has_begun = True
                # If the keyframe is not shown, or not a keyframe, the container's keyframe flags are wrong.
                if frame.pts > index.keyframes[keyframe].stamp or not frame.key_frame:
                    reader.index = reader.index._replace(keyframes=index.keyframes[:1])
                    return
            if not reader.is_order_known:
                if following >= len(index.stamps) or frame.pts != index.stamps[following]:
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

    def _packets_for(self, keyframe: int, wanted: set[int]) -> Iterator[av.Packet]:
        """Yield packets from a keyframe on, and let the decoder drop frames that are neither wanted nor references.

        If the display order is known, stop after the last packet with a timestamp in `wanted`.
        """
        reader = self._reader
        left: set[int | None] = set(wanted)
        drops = reader.codec.name in DROP_ON_REQUEST
        is_known = reader.is_order_known
        latest = -(2**63)
        for packet in reader.packets_from(keyframe):
            stamp = packet.pts
            if not is_known and stamp is not None:
                if stamp < latest:
                    reader.index = reader.index._replace(is_reordered=True)
                    is_known = True
                latest = max(latest, stamp)
            reader.codec.skip_frame = "NONREF" if drops and is_known and stamp not in left else "DEFAULT"
            yield packet
            left.discard(stamp)
            if not left and is_known:
                return

    # --- every frame, one after the other -------------------------------------------------------------------------

    def _decode_all(self, start: int, stop: int) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (place, frame) for each place in [start, stop).

        If timestamps are unreliable, places are found by counting frames from the first frame of the stream.
        """
        reader = self._reader
        following = start
        while not reader.index.by_number:
            try:
                for place, frame in _without_gaps(self._decode_by_stamp(following), following, stop):
                    yield place, frame
                    following = place + 1
                return
            except _NoEntryPoint:
                reader.index = reader.index._replace(keyframes=reader.index.keyframes[:1])
            except _OutOfOrder:
                numbers = np.arange(len(reader.index.stamps))
                reader.index = reader.index._replace(by_number=True, stamps=numbers)
        reader.codec.skip_frame = "DEFAULT"
        yield from _without_gaps(enumerate(reader.decode(reader.all_packets())), following, stop)

    def _decode_by_stamp(self, start: int) -> Iterator[tuple[int, VideoFrame]]:
        """Decode from a keyframe at or before `start`; yield (place, frame) with ascending places.

        Raises:
            _NoEntryPoint: if the decoder does not output the keyframe itself, so that decoding cannot begin at it.
            _OutOfOrder: if the decoder's output is not in the order of timestamps. The frames yielded before this error
                have the right places.
        """
        reader, index = self._reader, self._reader.index
        # Where packets are read again, begin with the first, since seeking may be what failed.
        keyframe = 0 if index.packets is None else int(reader.latest_keyframes([start])[0])
        begin = reader.place_of(keyframe)
        packets = reader.all_packets() if keyframe == 0 else reader.packets_from(keyframe)
        reader.codec.skip_frame = "DEFAULT"
        held: deque[tuple[int, VideoFrame]] = deque()
        last, released = begin - 1, begin - 1
        for frame in reader.decode(packets):
            if frame.pts is None:
                raise ValueError("a frame is damaged")
            place = int(np.searchsorted(index.stamps, frame.pts))
            if place < begin:  # shown before the keyframe, decoded after it
                continue
            if place <= last:
                raise _OutOfOrder
            if last < begin < place and begin > 0:
                raise _NoEntryPoint
            last = place
            held.append((place, frame))
            while held and (len(held) > FURTHEST_REORDERING or self._is_certain(held, begin, released)):
                released = held[0][0]
                yield held.popleft()
        if last < begin and begin > 0:
            raise _NoEntryPoint
        yield from held

    def _is_certain(self, held: deque[tuple[int, VideoFrame]], begin: int, released: int) -> bool:
        """Return whether the first frame in `held` is certainly the next one in display order, and can be yielded.

        Args:
            held: (place, frame) of the decoded frames that are not yielded yet, with ascending places.
            begin: place at which decoding began.
            released: place of the last frame that was yielded; `begin` - 1 if there is none.
        """
        place = held[0][0]
        if place == begin and begin > 0 and not self._reader.is_order_known:
            return len(held) > 1 and held[1][0] == begin + 1  # an open group's frames would come before the keyframe
        return place == released + 1


def _without_gaps(frames: Iterable[tuple[int, VideoFrame]], start: int, stop: int) -> Iterator[tuple[int, VideoFrame]]:
    """Yield (place, frame) for each place in [start, stop). A gap between frames is filled with the frame before it.

    Raises:
        ValueError: if a frame is damaged, or missing at the start or the end.
    """
    following, before = start, None
    for place, frame in frames:
        if frame.is_corrupt:
            raise ValueError("a frame is damaged")
        while following < min(place, stop):
            if before is None:
                raise ValueError("the first frames cannot be decoded")
            yield following, before
            following += 1
        if following == place and place < stop:
            yield place, frame
            following += 1
        if following >= stop:
            return
        before = frame
    raise ValueError(f"the video ends before frame {following}")


class _NoEntryPoint(Exception):
    """A keyframe of the packet index is not a point at which decoding can begin."""


class _OutOfOrder(Exception):
    """The decoder's output is not in the order of the timestamps."""
