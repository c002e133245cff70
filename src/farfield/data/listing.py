"""What is known of a file's packets before anything is decoded: when frames are shown, and where decoding can begin."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import Float, Int

HELD_BYTES = 64 * 2**20
"""Packets up to so many bytes stay in memory while a file is open. Of larger files they are read again, by seeking."""


class Keyframe(NamedTuple):
    stamp: int
    """When it is shown, in units of the stream's time base."""
    seek_stamp: int
    """Where to look for it in the file."""


class _Seen(NamedTuple):
    """A packet's timestamps and flags."""

    pts: int | None
    dts: int | None
    is_keyframe: bool
    is_discard: bool


class Listing(NamedTuple):
    """What is known of a file's packets.

    Attributes:
        stamps: when each frame is shown, in units of the stream's time base, ascending; the frames' numbers where
            `by_number`.
        seconds: the same from the first, in seconds.
        keyframes: where decoding can begin, in the order of `stamps`.
        by_number: timestamps cannot be relied on: the n-th frame that the decoder shows is the n-th.
        packets: all of them, in the order of decoding; None where they are to be read again.
        num_held: so many frames are in the file. One that was cut off announces more.
        is_whole: every packet was seen; else only the index was.
    """

    stamps: Int[np.ndarray, " frames"]
    seconds: Float[np.ndarray, " frames"]
    keyframes: list[Keyframe]
    by_number: bool
    packets: list[av.Packet] | None
    num_held: int
    is_whole: bool


def from_index(container: InputContainer, stream: VideoStream) -> Listing | None:
    """From an MP4's index alone, without reading its packets; None where that does not tell enough.

    The index keeps when frames are decoded. At a constant rate they are shown at the same intervals, and a keyframe as
    long after it is decoded as the first one.
    """
    entries = stream.index_entries
    if not _is_mp4(container) or stream.name != "h264" or stream.start_time is None:
        return None
    if not 1 < len(entries) == stream.frames:
        return None
    listed = list(entries)
    stamps = np.array([entry.timestamp for entry in listed])
    steps = np.diff(stamps)
    if steps[0] <= 0 or np.any(steps != steps[0]) or not listed[0].is_keyframe or any(e.is_discard for e in listed):
        return None
    delay = stream.start_time - listed[0].timestamp
    keyframes = [Keyframe(entry.timestamp + delay, entry.timestamp) for entry in listed if entry.is_keyframe]
    stamps = stamps + delay
    seconds = (stamps - stamps[0]) * float(stream.time_base or 1)
    return Listing(stamps, seconds, keyframes, False, None, len(stamps), is_whole=False)


def from_packets(container: InputContainer, stream: VideoStream) -> Listing:
    """From a walk through all packets, without decoding."""
    packets: list[_Seen] = []
    held: list[av.Packet] | None = []
    size = 0
    try:
        for packet in container.demux(stream):
            if packet.size:
                packets.append(_Seen(packet.pts, packet.dts, packet.is_keyframe, packet.is_discard))
                size += packet.size
                if size > HELD_BYTES:
                    held = None
                if held is not None:
                    held.append(packet)
    except av.FFmpegError:
        if not packets:
            raise  # else the file is cut off, and what lies before can be read
    if not packets:
        raise ValueError("no frames")
    shown = [packet for packet in packets if not packet.is_discard]
    known = [packet.pts for packet in shown if packet.pts is not None]
    decoded = [packet.dts for packet in packets if packet.dts is not None]
    # AVI stores no timestamps. FFmpeg makes them up, and is right only where frames are stored in their order.
    in_order = "avi" not in container.format.name.split(",") or known == sorted(known)
    is_joined = any(later < earlier for earlier, later in pairwise(decoded))  # streams one after the other
    by_number = len(set(known)) < len(packets) or not in_order or is_joined
    if by_number:
        keyframes = [Keyframe(0, packets[0].dts or 0)]
        stamps = np.arange(len(shown))
        times = np.sort(known) if len(known) == len(shown) and not is_joined else stamps * 0
    else:
        begin = [packet for packet in packets if packet.is_keyframe] or packets[:1]
        stamped = [(p.pts or 0, p.dts if p.dts is not None else p.pts or 0) for p in begin]
        keyframes = sorted(Keyframe(stamp, min(stamp, decoded)) for stamp, decoded in stamped)
        # What is shown before the first keyframe cannot be decoded: the file begins in the middle of something.
        stamps = times = np.array(sorted(stamp for stamp in known if stamp >= keyframes[0].stamp))
    num_held = len(stamps)
    if _is_mp4(container) and stream.frames > len(packets) > 1 and not by_number:
        spacing = max(int(np.median(np.diff(stamps))), 1)
        missing = spacing * np.arange(
            1, stream.frames - len(packets) + 1
        )  # cut off: the index still means what it says
        stamps = times = np.concatenate([stamps, stamps[-1] + missing])
    fps = float(stream.average_rate or 25)
    seconds = ascending(times * float(stream.time_base or 1 / fps), fps)
    return Listing(stamps, seconds, keyframes, by_number, held, num_held, is_whole=True)


def _is_mp4(container: InputContainer) -> bool:
    return "mp4" in container.format.name.split(",")


def ascending(times: Float[np.ndarray, " frames"], fps: float) -> Float[np.ndarray, " frames"]:
    """Times from 0, or, where the container's make no sense, frames at a constant rate."""
    if not np.all(np.isfinite(times)) or np.any(np.diff(times) <= 0):
        return np.arange(len(times)) / (fps if fps > 0 else 25.0)
    return times - times[0]
