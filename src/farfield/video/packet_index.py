"""Packet index of a video, read without decoding: display times of frames, and where decoding can begin."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import Float, Int

from farfield.video import packet_headers
from farfield.video.container import Source
from farfield.video.frame_times import ascending, browser_times, without_clock_jumps
from farfield.video.mp4_index import composition_offsets

_RAW = frozenset(
    ("h264", "hevc", "vvc", "evc", "mpegvideo", "m4v", "h263", "h261", "mjpeg", "dirac", "cavsvideo", "vc1", "obu")
)
"""FFmpeg's formats for raw codec streams without a container."""

HELD_BYTES = 64 * 2**20
"""Maximum total size in bytes of packets that stay in memory while a file is open; larger files are read again."""

FURTHEST_REORDERING = 16
"""Largest reordering delay in frames that H.264 and HEVC allow."""


class Keyframe(NamedTuple):
    """A packet at which decoding can begin.

    Attributes:
        stamp: display time, in units of the stream's time base; frame number if `PacketIndex.by_number`.
        seek_stamp: timestamp for FFmpeg's seek, in units of the stream's time base. It can be the decoding time, and so
            differ from `stamp`.
    """

    stamp: int
    seek_stamp: int


class _PacketInfo(NamedTuple):
    """Header fields of a packet."""

    pts: int | None
    dts: int | None
    duration: int
    is_keyframe: bool
    is_shown: bool


class _PacketScan(NamedTuple):
    """All packets of a stream, in decoding order.

    Attributes:
        infos: header fields of each packet.
        held: all packets; None if they take more than `HELD_BYTES`.
        is_entry_point: for each packet, whether decoding can begin at it.
        carries_state: see `PacketIndex`.
    """

    infos: list[_PacketInfo]
    held: list[av.Packet] | None
    is_entry_point: list[bool]
    carries_state: bool


class PacketIndex(NamedTuple):
    """Display times and entry points of a stream.

    Attributes:
        stamps: display time of each frame, in units of the stream's time base, ascending; frame numbers if `by_number`.
        seconds: display time of each frame, in seconds after the first frame.
        keyframes: packets at which decoding can begin, in the order of `stamps`.
        by_number: whether frames are identified by counting the decoder's output, because timestamps are unreliable.
        is_reordered: whether the timestamps show that decoding order and display order differ.
        packets: all packets in decoding order; None if they have to be read from the file.
        num_held: number of frames that the file contains. If the file was cut off, `stamps` may list more.
        is_whole: whether the index was built by reading every packet, not only the container's own index.
        carries_state: whether packets carry palettes or parameters that later packets need (see `packet_headers`), so
            that no packet may be skipped.
        leading: stamps of frames that are decoded after the first keyframe but shown before it. They are not in
            `stamps`, since only decoding shows whether they refer to frames that are missing from the file.
        is_counted: whether the stream has to be decoded to count its frames, since their number may differ from the
            number of packets.
    """

    stamps: Int[np.ndarray, " frames"]
    seconds: Float[np.ndarray, " frames"]
    keyframes: list[Keyframe]
    by_number: bool
    is_reordered: bool
    packets: list[av.Packet] | None
    num_held: int
    is_whole: bool
    carries_state: bool = False
    is_counted: bool = False
    leading: list[int] | tuple[()] = ()


def from_index(container: InputContainer, stream: VideoStream, source: Source) -> PacketIndex | None:
    """Build the index of an H.264 MP4 from the file's tables, without reading packets; None if this is impossible."""
    entries = stream.index_entries
    if not _is_mp4(container) or stream.name != "h264" or stream.start_time is None:
        return None
    if not 1 < len(entries) == stream.frames:
        return None
    listed = list(entries)
    if not listed[0].is_keyframe or any(entry.is_discard for entry in listed):
        return None
    offsets = composition_offsets(source, stream.id, len(listed))
    if offsets is None:
        return None
    shown = np.array([entry.timestamp for entry in listed]) + offsets
    shown += stream.start_time - shown.min()  # an edit list shifts all of them
    stamps = np.sort(shown)
    if np.any(np.diff(stamps) <= 0) or shown[0] != stamps[0]:
        return None
    keyframes = [
        Keyframe(int(stamp), entry.timestamp) for stamp, entry in zip(shown, listed, strict=True) if entry.is_keyframe
    ]
    seconds = ascending(stamps * float(stream.time_base or 1), float(stream.average_rate or 25))
    is_reordered = bool(np.any(np.diff(shown) < 0))
    return PacketIndex(stamps, seconds, sorted(keyframes), False, is_reordered, None, len(stamps), is_whole=False)


def from_packets(container: InputContainer, stream: VideoStream) -> PacketIndex:
    """Build the index by reading all packets, without decoding.

    Raises:
        av.FFmpegError, ValueError: if no frame can be read.
    """
    packets, held, is_entry_point, carries_state = _read_all(container, stream)
    shown = [packet for packet in packets if packet.is_shown]
    known = [packet.pts for packet in shown if packet.pts is not None]
    decoded = [packet.dts for packet in packets if packet.dts is not None]
    is_reordered = any(later < earlier for earlier, later in pairwise(known))
    # AVI and raw streams store no timestamps. FFmpeg generates them, correctly only if nothing is reordered.
    is_raw = container.format.name in _RAW
    is_generated = is_reordered and (is_raw or container.format.name == "avi")
    is_joined = _has_clock_reset(decoded)
    leading: list[int] = []
    by_number = len(set(known)) < len(shown) or is_generated or is_joined
    fps = _frame_rate(stream, shown, has_times=bool(known))
    if by_number:
        keyframes = [Keyframe(0, packets[0].dts or 0)]
        stamps = np.arange(len(shown))
        times = np.sort(known) if len(known) == len(shown) and not is_joined and not is_raw else stamps * 0
    else:
        begin = [packet for packet, may_begin in zip(packets, is_entry_point, strict=True) if may_begin] or packets[:1]
        following = packets[packets.index(begin[0]) :]
        stamped = [(p.pts or 0, p.dts if p.dts is not None else p.pts or 0) for p in begin]
        keyframes = sorted(Keyframe(stamp, min(stamp, decoded)) for stamp, decoded in stamped)
        # Frames shown before the first keyframe cannot be decoded: the file begins inside a group of pictures.
        stamps = times = np.array(sorted(stamp for stamp in known if stamp >= keyframes[0].stamp))
        leading = sorted(p.pts for p in following if p.is_shown and p.pts is not None and p.pts < keyframes[0].stamp)
    if is_raw:
        times = np.zeros(len(stamps))
    if container.format.name in ("mpegts", "mpeg"):
        times = without_clock_jumps(times, float(stream.time_base or 1))
    if container.format.name in ("gif", "apng"):
        times = browser_times(np.array([packet.duration for packet in shown]), float(stream.time_base or 1))
    num_held = len(stamps)
    num_listed = len(stream.index_entries)
    if _is_mp4(container) and num_listed > len(packets) > 1 and not by_number:  # cut off: the index lists more
        spacing = max(int(np.median(np.diff(stamps))), 1)
        missing = spacing * np.arange(1, num_listed - len(packets) + 1)
        stamps = times = np.concatenate([stamps, stamps[-1] + missing])
    seconds = ascending(times * float(stream.time_base or 1 / fps), fps)
    is_counted = is_joined or 0 < len(known) < len(shown)
    return PacketIndex(
        stamps,
        seconds,
        keyframes,
        by_number,
        is_reordered,
        held,
        num_held,
        is_whole=True,
        carries_state=carries_state,
        is_counted=is_counted,
        leading=leading,
    )


def _read_all(container: InputContainer, stream: VideoStream) -> _PacketScan:
    codec = stream.codec_context
    name = codec.name
    may_hide = name in packet_headers.CODECS_WITH_HIDDEN_PICTURES
    has_palette = name in packet_headers.CODECS_WITH_PALETTES
    has_sets = name in packet_headers.CODECS_WITH_PARAMETER_SETS
    infos: list[_PacketInfo] = []
    held: list[av.Packet] | None = []
    own_sets: list[bool] = []
    has_state = False
    size = 0
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            is_keyframe = packet.is_keyframe
            is_shown = not packet.is_discard and not (may_hide and packet_headers.is_hidden(packet, name))
            infos.append(_PacketInfo(packet.pts, packet.dts, packet.duration or 0, is_keyframe, is_shown))
            if has_palette or is_keyframe:
                has_state = has_state or packet_headers.carries_state(packet, codec)
            own_sets.append(has_sets and is_keyframe and packet_headers.has_parameter_sets(packet, codec))
            size += packet.size
            if size > HELD_BYTES:
                held = None
            if held is not None:
                held.append(packet)
    except av.FFmpegError:
        if not infos:
            raise  # otherwise the file is cut off, and the packets before can be used
    if not any(packet.is_shown for packet in infos):
        raise ValueError("the video has no frames")
    if has_state:
        is_entry_point = [place == 0 for place in range(len(infos))]
    elif any(own_sets[1:]):  # a keyframe without its own parameter sets needs an earlier one's
        first = next((place for place, packet in enumerate(infos) if packet.is_keyframe), 0)
        is_entry_point = [place == first or own for place, own in enumerate(own_sets)]
    else:
        is_entry_point = [packet.is_keyframe for packet in infos]
    return _PacketScan(infos, held, is_entry_point, has_state)


def _has_clock_reset(decoded: list[int]) -> bool:
    """Return whether decoding times jump far back, as they do in concatenated streams. Small steps are ignored."""
    steps = np.diff(decoded)
    if not np.any(steps < 0):
        return False
    ahead = steps[steps > 0]
    return bool(np.any(steps < -FURTHEST_REORDERING * (np.median(ahead) if len(ahead) else 0)))


def _frame_rate(stream: VideoStream, shown: list[_PacketInfo], *, has_times: bool) -> float:
    """Return the average frames per second of a stream.

    For a stream without timestamps, the rate comes from the packets' durations, which FFmpeg reports correctly.
    FFmpeg's average rate is always 25 for such streams, and its guessed rate is twice the true rate for H.264 with few
    frames per second.
    """
    duration = float(np.median([packet.duration for packet in shown])) * float(stream.time_base or 0)
    if not has_times and duration > 0:
        return 1 / duration
    return float(stream.average_rate or stream.guessed_rate or 25)


def _is_mp4(container: InputContainer) -> bool:
    return "mp4" in container.format.name.split(",")
