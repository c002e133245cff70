"""Ring buffer of a stream's newest packets: it starts with a keyframe, and is bounded in seconds and bytes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class StoredPacket:
    """A demuxed packet, independent of the container that it came from.

    Attributes:
        data: the packet's bytes, as demuxed.
        pts: presentation time, in units of `time_base`.
        dts: decoding time, in units of `time_base`.
        duration: duration of the frame, in units of `time_base`; 0 if unknown.
        time_base: unit of the times, in seconds.
        is_keyframe: whether decoding can start here.
        seconds: display time of the frame in seconds, on the same clock as the times of the frames that
            `LiveStream.frames` yields. Unlike `pts`, it does not jump back when the source's clock does.
        decode_seconds: time at which the packet is decoded, on the same clock; at most `seconds`.
    """

    data: bytes
    pts: int
    dts: int
    duration: int
    time_base: Fraction
    is_keyframe: bool
    seconds: float
    decode_seconds: float


@dataclass
class _Group:
    """A keyframe and the packets up to the next keyframe."""

    packets: list[StoredPacket] = field(default_factory=list)
    bytes: int = 0


class PacketBuffer:
    """Ring buffer of packets. Whole groups of pictures are dropped, so that the buffer always starts with a keyframe.

    Args:
        max_seconds: maximum age of packets, relative to the newest packet. The oldest group of pictures is dropped only
            when all of its packets are older.
        max_bytes: maximum total size of the packets in bytes. If it is exceeded, the oldest groups are dropped. A group
            that exceeds it by itself is dropped, too.
    """

    def __init__(self, max_seconds: float, max_bytes: int) -> None:
        self.max_seconds = max_seconds
        self.max_bytes = max_bytes
        self.bytes = 0
        self._groups: deque[_Group] = deque()

    def __len__(self) -> int:
        return sum(len(group.packets) for group in self._groups)

    def add(self, packet: StoredPacket) -> None:
        """Add the next packet of the stream. Packets before the first keyframe are ignored."""
        if packet.is_keyframe:
            self._groups.append(_Group())
        elif not self._groups:
            return
        newest = self._groups[-1]
        newest.packets.append(packet)
        newest.bytes += len(packet.data)
        self.bytes += len(packet.data)
        oldest_needed = packet.seconds - self.max_seconds
        while len(self._groups) > 1 and self._groups[1].packets[0].seconds <= oldest_needed:
            self._drop()
        while self.bytes > self.max_bytes:
            self._drop()

    def since(self, seconds: float) -> list[StoredPacket]:
        """Return the packets from the last keyframe at or before `seconds`; all packets if every keyframe is later."""
        start = 0
        for place, group in enumerate(self._groups):
            if group.packets[0].seconds <= seconds:
                start = place
        return [packet for group in list(self._groups)[start:] for packet in group.packets]

    def clear(self) -> None:
        """Drop all packets."""
        self._groups.clear()
        self.bytes = 0

    def _drop(self) -> None:
        self.bytes -= self._groups.popleft().bytes
