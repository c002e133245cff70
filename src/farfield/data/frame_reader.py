"""Opens a file with the reader for what is in it."""

from __future__ import annotations

from farfield.data.animated_webp import AnimatedWebP, is_webp
from farfield.data.container import NoVideo, Source
from farfield.data.deinterlace import Deinterlace
from farfield.data.packets import PacketVideo
from farfield.data.tone_mapping import ToneMap

FrameReader = PacketVideo | AnimatedWebP


def open_reader(
    source: Source,
    *,
    name: str | None = None,
    deinterlace: Deinterlace = "auto",
    tone_map: ToneMap = "auto",
) -> FrameReader:
    """Open a file, or its content; `close` the reader after use.

    Args:
        source: the file, or its content.
        name: what to call it in the log; None for the file's path.
        deinterlace: "auto" deinterlaces frames that say that they are interlaced, "off" none.
        tone_map: "auto" converts HDR pictures to BT.709, "off" none.

    Raises:
        av.FFmpegError, OSError, ValueError, MemoryError: where it cannot be opened, or holds no video.
    """
    try:
        return PacketVideo(source, name=name, deinterlace=deinterlace, tone_map=tone_map)
    except NoVideo:
        if is_webp(source):
            return AnimatedWebP(source)
        raise
