"""Open a file with the reader for its format: PyAV, or Pillow for animated WebP."""

from __future__ import annotations

from farfield.video.animated_webp import AnimatedWebP, is_webp
from farfield.video.container import NotAVideo, Source
from farfield.video.deinterlacing import Deinterlace
from farfield.video.pyav_decoder import PyAVVideo
from farfield.video.tone_mapping import ToneMap

FrameReader = PyAVVideo | AnimatedWebP


def open_reader(
    source: Source,
    *,
    name: str | None = None,
    deinterlace: Deinterlace = "auto",
    tone_map: ToneMap = "auto",
) -> FrameReader:
    """Open a file, or its content; `close` the reader after use.

    Args:
        source: path of a file, or its content.
        name: name for the log; None for the file's path.
        deinterlace: "auto" deinterlaces frames that are marked as interlaced; "off" leaves them as they are.
        tone_map: "auto" converts HDR frames to BT.709; "off" leaves them as they are.

    Raises:
        av.FFmpegError, OSError, ValueError, MemoryError: if the source cannot be opened, or holds no video.
    """
    try:
        return PyAVVideo(source, name=name, deinterlace=deinterlace, tone_map=tone_map)
    except NotAVideo:
        if is_webp(source):
            return AnimatedWebP(source)
        raise
