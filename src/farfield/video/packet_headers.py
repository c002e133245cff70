"""Read from a packet's bytes whether its picture is shown, the picture's size, and which parameters it carries.

FFmpeg's demuxers do not report this. Sources: RFC 6386, section 9.1 (VP8); the VP9 bitstream specification,
section 6.2 and annex B; ITU-T H.264, table 7-1; ITU-T H.265, table 7-1; ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import av

CODECS_WITH_HIDDEN_PICTURES = frozenset(["vp8", "libvpx", "vp9", "libvpx-vp9"])
"""Codecs with packets that are decoded but never shown."""
CODECS_WITH_PARAMETER_SETS = frozenset(["h264", "hevc"])
"""Codecs whose packets may contain parameter sets."""
CODECS_WITH_PALETTES = frozenset(
    ("rawvideo", "qtrle", "msrle", "msvideo1", "smc", "8bps", "cinepak", "png", "tscc", "tscc2", "zmbv", "idcinvideo")
)
"""Codecs whose packets may carry a palette as side data."""

_START_CODE = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)


def is_hidden(packet: av.Packet, codec: str) -> bool:
    """Return whether a packet holds only a picture that is never shown.

    The codec must be one of `CODECS_WITH_HIDDEN_PICTURES`. Encoders that look ahead write such pictures ("alternate
    reference frames") as separate packets with their own timestamps.
    """
    data = memoryview(packet)
    if codec in ("vp8", "libvpx"):
        return not data[0] >> 4 & 1
    if data[-1] >> 5 == 0b110:  # a superframe: hidden pictures together with a shown one
        return False
    bits = int.from_bytes(data[:2].tobytes().ljust(2, b"\0"), "big")
    place = 10 if bits >> 12 & 0b11 == 0b11 else 11  # after frame_marker and profile; profile 3 has a reserved bit
    shows_existing, shown = bits >> place & 1, bits >> place - 2 & 1
    return not (shows_existing or shown)


def size_header(packet: av.Packet, codec: str) -> bytes:
    """Return the bytes of a keyframe that include its width and height; b"" if they are not found.

    Use the bytes only to compare two keyframes: if they differ, the size may have changed.
    """
    data = bytes(packet)
    if codec in ("vp8", "libvpx"):
        return data[6:10]
    if codec in ("vp9", "libvpx-vp9"):
        return data[4:9]
    if "av1" in codec or codec == "libdav1d":
        return data[:20]  # the sequence header comes first
    if codec == "mjpeg":
        found = _FRAME_HEADER.search(data)
        return found[1] if found else b""
    return b""


_FRAME_HEADER = re.compile(rb"\xff[\xc0-\xc2]..\x08(....)", re.DOTALL)
"""JPEG's start of frame: precision, height, width (ITU-T T.81, annex B.2.2)."""


def carries_state(packet: av.Packet, codec: av.VideoCodecContext) -> bool:
    """Return whether a packet carries a palette or changed extradata, which the decoder needs for later packets."""
    if packet.has_sidedata("palette"):
        return True
    return packet.has_sidedata("new_extradata") and bytes(packet.get_sidedata("new_extradata")) != codec.extradata


def has_parameter_sets(packet: av.Packet, codec: av.VideoCodecContext) -> bool:
    """Return whether an H.264 or HEVC packet has parameter sets before its first slice."""
    if codec.name not in CODECS_WITH_PARAMETER_SETS:
        return False
    is_hevc = codec.name == "hevc"
    for header in _unit_headers(memoryview(packet), codec.extradata, is_hevc):
        kind = header >> 1 & 0x3F if is_hevc else header & 0x1F
        if kind in ((32, 33, 34) if is_hevc else (7, 8)):
            return True
        if kind < 32 if is_hevc else 1 <= kind <= 5:
            return False
    return False


def is_recovery_point(packet: av.Packet, codec: av.VideoCodecContext) -> bool:
    """Return whether a keyframe is an H.264 recovery point: a keyframe that is not an IDR picture.

    A decoder that starts there may give wrong pictures at first.
    """
    if codec.name != "h264":
        return False
    return all(header & 0x1F != 5 for header in _unit_headers(memoryview(packet), codec.extradata, False))


def _unit_headers(data: memoryview, extradata: bytes | None, is_hevc: bool) -> Iterator[int]:
    """Yield the first byte of each NAL unit. Units have start codes (Annex B) or length prefixes (avcC, hvcC)."""
    if not extradata or extradata[0] != 1:  # Annex B: start codes
        for found in _START_CODE.finditer(data):
            yield found[1][0]
        return
    length_bytes = (extradata[21 if is_hevc else 4] & 3) + 1  # lengthSizeMinusOne
    place = 0
    while place + length_bytes < len(data):
        yield data[place + length_bytes]
        place += length_bytes + int.from_bytes(data[place : place + length_bytes], "big")
