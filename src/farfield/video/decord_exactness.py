"""Check, from a file's packet index and first frame, whether decord returns exactly the requested frames.

decord opens many files that it does not read correctly. It seeks to wrong frames in the containers AVI, MPEG program
stream, MPEG transport stream and WMV; with the codecs HEVC, MPEG-4 part 2 and MPEG-2; in open groups of pictures; and
where timestamps are missing or wrong. It also counts frames that are never shown or that an edit list leaves out, so
that its frame numbers do not match. It stretches frames if the frame size changes within the video. It does not mirror
frames as the display matrix demands, deinterlace them, convert HDR to BT.709, or make pixels square. It fails on a few
small widths. This module refuses all such files.
"""

from __future__ import annotations

from pathlib import Path

import av

from farfield.video.container import NotAVideo, open_container, video_stream
from farfield.video.frame_conversion import plausible_pixel_aspect
from farfield.video.orientation import orientation_of
from farfield.video.packet_headers import has_parameter_sets, is_recovery_point, size_header
from farfield.video.packet_index import PacketIndex, from_packets
from farfield.video.tone_mapping import is_hdr

_FORMATS = {"mov", "mp4", "matroska", "webm", "flv", "gif"}
_CODECS = {"h264", "av1", "libdav1d", "libaom-av1", "vp8", "vp9", "libvpx", "libvpx-vp9", "mjpeg", "gif"}


class DecordInexact(Exception):
    """decord cannot open a file, or would not return exactly the requested frames. The message is the reason."""


def check_decord_is_exact(path: Path) -> PacketIndex:
    """Check that decord returns exactly the requested frames of a file, and return the file's packet index.

    Raises:
        DecordInexact: if decord would not return exactly the requested frames; the message is the reason.
        av.FFmpegError, ValueError: if FFmpeg cannot open the file.
    """
    try:
        container = open_container(path)
    except NotAVideo as error:
        raise DecordInexact("not readable by FFmpeg") from error  # animated WebP, or not a video
    with container:
        stream = video_stream(container)
        assert stream is not None  # `open_container` raises otherwise
        codec = stream.codec_context
        if not set(container.format.name.split(",")) & _FORMATS:
            raise DecordInexact(f"container {container.format.name}")
        if codec.name not in _CODECS:
            raise DecordInexact(f"codec {codec.name}")
        if plausible_pixel_aspect(stream.sample_aspect_ratio or 1) != 1:
            raise DecordInexact("pixels that are not square")
        index = from_packets(container, stream)
        if index.by_number or (codec.has_b_frames and not index.is_reordered):
            raise DecordInexact("missing, repeated or generated timestamps")
        if index.packets is None:
            raise DecordInexact("more than 64 MiB of packets")
        if len(index.packets) != len(index.stamps):
            raise DecordInexact("pictures that are never shown, or frames left out by an edit list")
        keyframes = [packet for packet in index.packets if packet.is_keyframe]
        if any(is_recovery_point(packet, codec) for packet in keyframes):
            raise DecordInexact("recovery points instead of IDR pictures")
        may_change_size = any(has_parameter_sets(packet, codec) for packet in keyframes[1:])
        if may_change_size or len({size_header(packet, codec.name) for packet in keyframes}) > 1:
            raise DecordInexact("frame size or parameter sets that may change")
        if index.carries_state:
            raise DecordInexact("palettes or changed parameters in packets")
        if _has_open_groups(index.packets):
            raise DecordInexact("open groups of pictures")
        frame = next(iter([*codec.decode(index.packets[0]), *codec.decode(None)]), None)
        if frame is None:
            raise DecordInexact("no frame in the first packet")
        if frame.interlaced_frame:
            raise DecordInexact("interlaced frames")
        if is_hdr(frame.color_trc):
            raise DecordInexact("HDR")
        orientation = orientation_of(frame)
        if orientation.mirror:
            raise DecordInexact("mirrored picture")
        width = frame.height if orientation.quarter_turns % 2 else frame.width
        if _is_misread_width(width):
            raise DecordInexact(f"width of {width} pixels")
        return index


def _is_misread_width(width: int) -> bool:
    """Return whether decord fails on pictures of this width (pixels) on at least one kind of processor.

    FFmpeg pads rows to a multiple of 16, 32 or 64 pixels, depending on the processor. If the width divides the bytes of
    a padded row without a remainder, decord takes the quotient, which is more than 3, for the number of channels. This
    happens for a few small widths, such as 48, 96 and 144.
    """
    padded_widths = {-(-width // alignment) * alignment for alignment in (16, 32, 64)}
    return any(padded != width and 3 * padded % width == 0 for padded in padded_widths)


def _has_open_groups(packets: list[av.Packet]) -> bool:
    """Return whether any frame is decoded after a keyframe but shown before that keyframe, or has no display time."""
    latest = -(2**63)
    for packet in packets:
        if packet.pts is None or packet.pts < latest:
            return True
        if packet.is_keyframe:
            latest = packet.pts
    return False
