"""What is known of a file's packets before anything is decoded: when frames are shown, and where decoding can begin."""

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
from farfield.video.mp4_index import composition_offsets

_RAW = frozenset(
    ("h264", "hevc", "vvc", "evc", "mpegvideo", "m4v", "h263", "h261", "mjpeg", "dirac", "cavsvideo", "vc1", "obu")
)
"""FFmpeg's formats that are a codec's stream and nothing else."""

LONGEST_GAP_SECONDS = 10.0
"""A longer one in a transport or program stream is a clock that was set anew, as for FFmpeg's command line."""

HELD_BYTES = 64 * 2**20
"""Packets up to so many bytes stay in memory while a file is open. Of larger files they are read again, by seeking."""

FURTHEST_REORDERING = 16
"""Frames by which a frame may be shown later than it is decoded: the most that H.264 and HEVC allow."""

SHORTEST_STEP = 1 / 90_000
"""Seconds between a frame and the next where a container gives both the same time."""

_TOO_SHORT_SECONDS, _USUAL_DELAY_SECONDS = 0.015, 0.1
"""Browsers show a frame of an animated picture for 100 ms where the file says 10 ms or nothing."""


class Keyframe(NamedTuple):
    stamp: int
    """When it is shown, in units of the stream's time base."""
    seek_stamp: int
    """Where to look for it in the file."""


class _Seen(NamedTuple):
    """What is kept of a packet."""

    pts: int | None
    dts: int | None
    duration: int
    is_keyframe: bool
    is_shown: bool


class _Packets(NamedTuple):
    """All packets of a stream, as they were read."""

    seen: list[_Seen]
    held: list[av.Packet] | None
    """The packets themselves, where they fit into memory."""
    is_entry: list[bool]
    """Where decoding can begin."""
    carries_state: bool
    """See `PacketIndex`."""


class PacketIndex(NamedTuple):
    """What is known of a file's packets.

    Attributes:
        stamps: when each frame is shown, in units of the stream's time base, ascending; the frames' numbers where
            `by_number`.
        seconds: the same from the first, in seconds.
        keyframes: where decoding can begin, in the order of `stamps`.
        by_number: timestamps cannot be relied on: the n-th frame that the decoder shows is the n-th.
        is_reordered: the timestamps tell that frames are decoded in another order than they are shown.
        packets: all of them, in the order of decoding; None where they are to be read again.
        num_held: so many frames are in the file. One that was cut off announces more.
        is_whole: every packet was seen; else only the index was.
        carries_state: packets change what later ones are decoded with (see `packet_headers`): none may be skipped.
        leading: stamps of frames that are decoded after the first keyframe and shown before it. They are not among
            `stamps`: only decoding tells whether they need what is not in the file.
        is_counted: packets and frames may differ in number, so that only decoding tells how many frames there are.
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
    """From an MP4's index alone, without reading its packets; None where that does not tell enough."""
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
    shown += stream.start_time - shown.min()  # an edit list moves all of them
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
    """From a walk through all packets, without decoding."""
    packets, held, is_entry, carries_state = _read_all(container, stream)
    shown = [packet for packet in packets if packet.is_shown]
    known = [packet.pts for packet in shown if packet.pts is not None]
    decoded = [packet.dts for packet in packets if packet.dts is not None]
    is_reordered = any(later < earlier for earlier, later in pairwise(known))
    # AVI and raw streams store no timestamps. FFmpeg makes them up, and is right only where nothing is reordered.
    is_raw = container.format.name in _RAW
    is_invented = is_reordered and (is_raw or container.format.name == "avi")
    is_joined = _begins_anew(decoded)
    leading: list[int] = []
    by_number = len(set(known)) < len(shown) or is_invented or is_joined
    fps = _frame_rate(stream, shown, has_times=bool(known))
    if by_number:
        keyframes = [Keyframe(0, packets[0].dts or 0)]
        stamps = np.arange(len(shown))
        times = np.sort(known) if len(known) == len(shown) and not is_joined and not is_raw else stamps * 0
    else:
        begin = [packet for packet, may_begin in zip(packets, is_entry, strict=True) if may_begin] or packets[:1]
        following = packets[packets.index(begin[0]) :]
        stamped = [(p.pts or 0, p.dts if p.dts is not None else p.pts or 0) for p in begin]
        keyframes = sorted(Keyframe(stamp, min(stamp, decoded)) for stamp, decoded in stamped)
        # What is shown before the first keyframe cannot be decoded: the file begins in the middle of something.
        stamps = times = np.array(sorted(stamp for stamp in known if stamp >= keyframes[0].stamp))
        leading = sorted(p.pts for p in following if p.is_shown and p.pts is not None and p.pts < keyframes[0].stamp)
    if is_raw:
        times = np.zeros(len(stamps))
    if container.format.name in ("mpegts", "mpeg"):
        times = without_jumps(times, float(stream.time_base or 1))
    if container.format.name in ("gif", "apng"):
        times = _as_browsers_play(shown, float(stream.time_base or 1))
    num_held = len(stamps)
    num_listed = len(stream.index_entries)
    if (
        _is_mp4(container) and num_listed > len(packets) > 1 and not by_number
    ):  # cut off: the index tells what is missing
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


def _read_all(container: InputContainer, stream: VideoStream) -> _Packets:
    codec = stream.codec_context
    may_hide, has_palette = codec.name in packet_headers.HIDING, codec.name in packet_headers.PALETTES
    has_sets = codec.name in packet_headers.SETS
    packets: list[_Seen] = []
    held: list[av.Packet] | None = []
    own_sets: list[bool] = []
    has_state = False
    size = 0
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            is_keyframe = packet.is_keyframe
            is_shown = not packet.is_discard and not (may_hide and packet_headers.is_hidden(packet, codec.name))
            packets.append(_Seen(packet.pts, packet.dts, packet.duration or 0, is_keyframe, is_shown))
            if has_palette or is_keyframe:
                has_state = has_state or packet_headers.carries_state(packet, codec)
            own_sets.append(has_sets and is_keyframe and packet_headers.has_parameter_sets(packet, codec))
            size += packet.size
            if size > HELD_BYTES:
                held = None
            if held is not None:
                held.append(packet)
    except av.FFmpegError:
        if not packets:
            raise  # else the file is cut off, and what lies before can be read
    if not any(packet.is_shown for packet in packets):
        raise ValueError("no frames")
    if has_state:
        is_entry = [place == 0 for place in range(len(packets))]
    elif any(own_sets[1:]):  # where keyframes bring their parameter sets along, one without needs an earlier one's
        first = next((place for place, packet in enumerate(packets) if packet.is_keyframe), 0)
        is_entry = [place == first or own for place, own in enumerate(own_sets)]
    else:
        is_entry = [packet.is_keyframe for packet in packets]
    return _Packets(packets, held, is_entry, has_state)


def _begins_anew(decoded: list[int]) -> bool:
    """Tell streams one after the other by times that begin anew; smaller steps back are what a muxer got wrong."""
    steps = np.diff(decoded)
    if not np.any(steps < 0):
        return False
    ahead = steps[steps > 0]
    return bool(np.any(steps < -FURTHEST_REORDERING * (np.median(ahead) if len(ahead) else 0)))


def without_jumps(times: Float[np.ndarray, " frames"], time_base: float) -> Float[np.ndarray, " frames"]:
    """Times in units of the time base, with the usual distance between frames where the clock jumps ahead."""
    steps = np.diff(times)
    jumps = steps * time_base > LONGEST_GAP_SECONDS
    if not np.any(jumps) or np.all(jumps):
        return times
    return times[0] + np.concatenate([[0], np.cumsum(np.where(jumps, np.median(steps), steps))])


def _as_browsers_play(shown: list[_Seen], time_base: float) -> Int[np.ndarray, " frames"]:
    """When each frame of an animated picture is shown, in units of the time base."""
    delays = browser_delays(np.array([packet.duration for packet in shown]) * time_base)
    return np.round(np.concatenate([[0.0], np.cumsum(delays[:-1])]) / time_base).astype(np.int64)


def browser_delays(seconds: Float[np.ndarray, " frames"]) -> Float[np.ndarray, " frames"]:
    """How long browsers show each frame of an animated picture, given what the file says, in seconds."""
    return np.where(seconds < _TOO_SHORT_SECONDS, _USUAL_DELAY_SECONDS, seconds)


def _frame_rate(stream: VideoStream, shown: list[_Seen], *, has_times: bool) -> float:
    """Frames per second.

    Of a stream without times, FFmpeg says 25 on average whatever the stream says, and guesses twice the rate of slow
    H.264. What it says of the length of each packet is right.
    """
    duration = float(np.median([packet.duration for packet in shown])) * float(stream.time_base or 0)
    if not has_times and duration > 0:
        return 1 / duration
    return float(stream.average_rate or stream.guessed_rate or 25)


def _is_mp4(container: InputContainer) -> bool:
    return "mp4" in container.format.name.split(",")


def ascending(times: Float[np.ndarray, " frames"], fps: float) -> Float[np.ndarray, " frames"]:
    """Times from 0, each later than the one before; frames at a constant rate where the container's make no sense.

    Where frames share a time, each comes `SHORTEST_STEP` after the one before.
    """
    makes_sense = np.all(np.isfinite(times)) and np.all(np.diff(times) >= 0)
    if not makes_sense or (len(times) > 1 and times[-1] == times[0]):
        return np.arange(len(times)) / (fps if fps > 0 else 25.0)
    times = times - times[0]
    if np.all(np.diff(times) > 0):
        return times
    steps = np.arange(len(times)) * SHORTEST_STEP
    return np.maximum.accumulate(times - steps) + steps
