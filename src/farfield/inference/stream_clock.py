"""Convert the times of a live stream's packets and frames to seconds that never decrease."""

from __future__ import annotations

from collections.abc import Iterator

from av.packet import Packet

from farfield.video.packet_buffer import StoredPacket

MAX_UNTIMED = 64
"""Maximum number of packets without times that are held back at the start of a stream. See `PacketClock.store`."""


class StreamClock:
    """Convert times on a source's clock to seconds that start at `base` and never decrease.

    If the source's clock jumps back, for example after a restart, the first result after the jump is the previous
    result plus `step`.

    Args:
        base: result of the first conversion, in seconds.
        step: seconds between the last result before a jump and the first result after it.
    """

    def __init__(self, base: float, step: float) -> None:
        self.seconds = base
        self._step = step
        self._first: float | None = None

    def at(self, time: float) -> float:
        """Convert a time on the source's clock to seconds that start at `base` and never decrease.

        Args:
            time: time on the source's clock in seconds; the clock's zero can be anywhere. Call with times in the order
                of the stream.
        """
        if self._first is None:
            self._first = time - self.seconds
        elif time - self._first < self.seconds:
            self._first = time - self.seconds - self._step
        self.seconds = time - self._first
        return self.seconds


class PacketClock:
    """Convert the times of a stream's demuxed packets to seconds, and fill in times that are missing.

    The results are on the same clock as the times of the decoded frames that `LiveStream.frames` yields.

    Args:
        base: time of the first packet's frame, in seconds.
        step: duration of a frame in seconds, for packets that do not state it.
    """

    def __init__(self, base: float, step: float) -> None:
        self._clock = StreamClock(base, step)
        self._step = step
        self._untimed: list[Packet] = []
        self._last: int | None = None
        self._lead: float | None = None

    def store(self, packet: Packet) -> Iterator[StoredPacket]:
        """Yield the given packet with its time, or hold it back until its time is known.

        Packets at the beginning of a stream may lack times (the first one of an RTSP stream, the first ones of a
        Matroska stream with B-frames). They are held back until the first packet with a time arrives. Then they are
        yielded before that packet, with times counted back from its time. At most `MAX_UNTIMED` packets are held back.
        If one more packet lacks a time, it and the held packets are yielded with assumed times, one frame duration
        apart.

        Later in the stream, a packet without a time gets the previous packet's time plus a frame duration.
        """
        duration = packet.duration or round(self._step / packet.time_base)
        if packet.dts is None and self._last is None and len(self._untimed) < MAX_UNTIMED:
            self._untimed.append(packet)
            return
        dts = packet.dts if packet.dts is not None else (self._last or 0) + duration
        held, self._untimed = self._untimed, []
        for place, each in enumerate(held):
            yield self._stored(each, dts - (len(held) - place) * duration, duration)
        yield self._stored(packet, dts, duration)

    def _stored(self, packet: Packet, dts: int, duration: int) -> StoredPacket:
        pts = dts if packet.pts is None else max(packet.pts, dts)
        unit = float(packet.time_base)
        self._last = dts
        if self._lead is None:
            self._lead = (pts - dts) * unit
        decode = self._clock.at(dts * unit) - self._lead
        return StoredPacket(
            bytes(packet),
            pts,
            dts,
            duration,
            packet.time_base,
            packet.is_keyframe,
            decode + (pts - dts) * unit,
            decode,
        )
