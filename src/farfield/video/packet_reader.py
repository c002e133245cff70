"""Read and decode the packets of a video stream, from its first packet or from any keyframe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Int

from farfield.video.container import Source, independent_source, open_container, video_stream
from farfield.video.frame_times import ascending, continuous
from farfield.video.packet_index import Keyframe, PacketIndex, from_index, from_packets


class PacketReader:
    """An open video stream with its packet index; `close` it after use.

    Methods identify a frame by its place, which is its index in display order, and a keyframe by its position in
    `index.keyframes`.

    Args:
        source: path of the video file, or an open binary file.

    Attributes:
        codec: decoder of the stream.
        index: packet index; it is replaced when decoding shows that it is wrong.

    Raises:
        av.FFmpegError, ValueError, MemoryError: if the source cannot be opened, or holds no frames.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._open(source)
        try:
            self.coded_size = self.codec.width, self.codec.height
            self.index: PacketIndex = from_index(self._container, self.stream, source) or from_packets(
                self._container, self.stream
            )
            if self.index.is_counted:
                self._count_frames()
            elif self.index.leading:
                self._add_leading_frames()
        except BaseException:
            self.close()
            raise

    def _open(self, source: Source) -> None:
        self._container: InputContainer = open_container(source)
        stream: Any = video_stream(self._container)
        self.stream: VideoStream = stream
        self.codec = self.stream.codec_context
        self._has_decoded = False

    def close(self) -> None:
        self._container.close()

    @property
    def comment(self) -> str:
        """The comment in the file's metadata."""
        return self._container.metadata.get("comment", "")

    def first_frame(self) -> VideoFrame | None:
        """Reopen the file, and decode and return its first frame; None if no frame can be decoded."""
        with open_container(independent_source(self._source)) as container:
            frames: Any = container.decode(video_stream(container))
            return next(frames, None)

    @property
    def is_order_known(self) -> bool:
        """Whether the timestamps are certain to give the display order.

        They are not certain if they ascend in decoding order although the codec may reorder frames: the demuxer may
        then have generated them. In all other cases they count as certain.
        """
        return self.index.is_reordered or not self.codec.has_b_frames

    def place_of(self, keyframe: int) -> int:
        """Return the index, in display order, of the first frame that can be decoded from a keyframe on.

        `keyframe` is a position in `index.keyframes`.
        """
        return int(np.searchsorted(self.index.stamps, self.index.keyframes[keyframe].stamp)) if keyframe else 0

    def latest_keyframes(self, places: list[int]) -> Int[np.ndarray, " places"]:
        """Return, for each of some frames, the latest keyframe at or before it, as a position in `index.keyframes`.

        `places` are the indices of the frames in display order.
        """
        shown = [keyframe.stamp for keyframe in self.index.keyframes]
        return np.maximum(np.searchsorted(shown, self.index.stamps[places], side="right") - 1, 0)

    def packets_from(self, keyframe: int) -> Iterator[av.Packet]:
        """Yield the packets from a keyframe on, in decoding order."""
        first = self.index.keyframes[keyframe]
        found = False
        for packets in self._attempts_to_reach(first):
            for packet in packets:
                found = found or packet.pts == first.stamp
                if found:
                    yield packet
            if found:
                return

    def _attempts_to_reach(self, first: Keyframe) -> Iterator[Iterator[av.Packet]]:
        """Yield one or two sequences of packets, to be searched in turn for the keyframe `first`.

        The first sequence begins where seeking lands. It is left out if the stream is not seekable, if later packets
        need palettes or parameters from earlier ones (`index.carries_state`), or if the packets are in memory, so that
        there is no need to seek. The last sequence has all packets of the stream, in case seeking lands after the
        keyframe.
        """
        if self.index.packets is None and not self.index.carries_state:
            try:
                self._container.seek(first.seek_stamp, stream=self.stream)
            except av.FFmpegError:  # this format cannot seek
                pass
            else:
                yield (packet for packet in self._container.demux(self.stream) if packet.size)
        yield self.all_packets()

    def all_packets(self) -> Iterator[av.Packet]:
        """Yield all packets of the stream, in decoding order."""
        if self.index.packets is not None:
            yield from self.index.packets
            return
        self._container.close()
        # Opened again: raw streams cannot seek, and a palette is sent once per opening.
        self._open(independent_source(self._source))
        yield from (packet for packet in self._container.demux(self.stream) if packet.size)

    def decode(self, packets: Iterable[av.Packet]) -> Iterator[VideoFrame]:
        """Decode packets, and then flush the decoder."""
        if self._has_decoded:
            self.codec.flush_buffers()
        for packet in chain(packets, [None]):  # None: frames that the decoder still holds
            self._has_decoded = True
            yield from self.codec.decode(packet)

    def reindex(self) -> None:
        """Build the packet index again by reading all packets, and replace `index` with it.

        Call this if decoding has failed and `index` came from the container's own index. The new index has information
        that only the packets contain, such as whether later packets need palettes or parameters from earlier ones
        (`carries_state`).

        Raises:
            ValueError: if the old and the new index list different frames, because the file is cut off or the
                container's index is wrong.
        """
        self._container.seek(self.index.keyframes[0].seek_stamp, stream=self.stream)
        index = from_packets(self._container, self.stream)
        if index.by_number or not np.array_equal(index.stamps, self.index.stamps):
            if index.num_held < len(index.stamps):
                raise ValueError(f"the video is cut off after {index.num_held} of {len(index.stamps)} frames")
            raise ValueError(
                "the index inside the file does not match its frames. Rewrite the file: ffmpeg -i IN -c copy OUT"
            )
        self.index = index

    def _add_leading_frames(self) -> None:
        """Decode the frames that are shown before the first keyframe, and add them to the index."""
        index = self.index
        shown: list[int] = []
        for frame in self.decode(self.all_packets()):
            if frame.pts is None or frame.pts >= index.keyframes[0].stamp:
                break
            shown.append(frame.pts)
        if not shown:
            return
        time_base = float(self.stream.time_base or 1)
        stamps = np.concatenate([sorted(shown), index.stamps])
        before = (index.keyframes[0].stamp - np.array(sorted(shown))) * time_base
        seconds = np.concatenate([before[0] - before, index.seconds + before[0]])
        self.index = index._replace(stamps=stamps, seconds=seconds, num_held=index.num_held + len(shown))

    def _count_frames(self) -> None:
        """Decode the whole stream to find the number and the times of its frames, which its packets do not give."""
        shown = [frame.pts for frame in self.decode(self.all_packets())]
        if not shown:
            raise ValueError("the video has no frames")
        fps = float(self.stream.average_rate or 25)
        seconds = ascending(continuous(shown) * float(self.stream.time_base or 1 / fps), fps)
        self.index = self.index._replace(
            stamps=np.arange(len(shown)), seconds=seconds, by_number=True, num_held=len(shown)
        )
