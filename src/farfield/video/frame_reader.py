"""Open a video with the reader for its type: Pillow for animated WebP and folders of pictures, PyAV for all others."""

from __future__ import annotations

from pathlib import Path

from farfield.video.animated_webp import AnimatedWebP, is_webp
from farfield.video.container import NotAVideo, Source
from farfield.video.deinterlacing import Deinterlace
from farfield.video.frame_folder import FrameFolder
from farfield.video.pyav_decoder import PyAVVideo
from farfield.video.tone_mapping import ToneMap

FrameReader = PyAVVideo | AnimatedWebP | FrameFolder


def open_reader(
    source: Source,
    *,
    name: str | None = None,
    deinterlace: Deinterlace = "auto",
    tone_map: ToneMap = "auto",
    fps: float | None = None,
) -> FrameReader:
    """Open a video; `close` the reader after use.

    Args:
        source: path of a video file or of a folder of numbered pictures, or an open binary file.
        name: name for the log; None for the file's path.
        deinterlace: "auto" deinterlaces frames that are marked as interlaced; "off" leaves them as they are.
        tone_map: "auto" converts HDR frames to BT.709; "off" leaves them as they are.
        fps: frame rate of a folder of pictures; ignored for a file, which has its own times.

    Raises:
        av.FFmpegError, OSError, ValueError, MemoryError: if the source cannot be opened, or holds no video.
    """
    if isinstance(source, Path) and source.is_dir():
        return FrameFolder(source, fps)
    try:
        return PyAVVideo(source, name=name, deinterlace=deinterlace, tone_map=tone_map)
    except NotAVideo:
        if is_webp(source):
            return AnimatedWebP(source)
        raise
