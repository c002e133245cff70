"""Frames to H.264 that players, browsers and Weights & Biases show. A leaf: several rooms write videos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float, UInt8

from farfield.atomic_write import atomic_write

CLOCK = Fraction(1, 90_000)
"""Seconds to which moments are rounded: those of MPEG's own clock."""


def write_video(
    path: str | Path,
    frames: Iterable[UInt8[np.ndarray, "h w c"]],
    *,
    fps: float,
    seconds: Sequence[float] | Float[np.ndarray, " frames"] | None = None,
    crf: int = 18,
) -> None:
    """Writes RGB frames as an MP4, whole or not at all.

    Args:
        path: the file to write.
        frames: at least one, all of one size. An odd height or width loses its last row or column, as
            H.264's colour subsampling asks for even sizes.
        fps: frames per second.
        seconds: when each frame is shown, ascending; None where they come at a constant rate.
        crf: x264's constant rate factor: 0 is lossless, 18 looks like the original, 51 is worst.

    Raises:
        ValueError: for no frames.
    """
    path = Path(path).absolute()  # FFmpeg takes what stands before a colon for a protocol
    with atomic_write(path) as partial:
        _encode(partial, frames, fps=fps, seconds=seconds, crf=crf)


def _encode(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "h w c"]],
    *,
    fps: float,
    seconds: Sequence[float] | Float[np.ndarray, " frames"] | None,
    crf: int,
) -> None:
    # The same frames give the same bytes. x264 with several threads gives others on machines with other numbers of
    # cores, and its macroblock tree gives others from one call to the next where a side is no multiple of 16.
    options = {"crf": str(crf), "preset": "veryfast", "tune": "fastdecode", "threads": "1", "x264-params": "mbtree=0"}
    stream = None
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        for number, frame in enumerate(frames):
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
                stream.height, stream.width = (side - side % 2 for side in frame.shape[:2])
                stream.pix_fmt = "yuv420p"
                if seconds is not None:
                    stream.codec_context.time_base = CLOCK
            even = np.ascontiguousarray(frame[: stream.height, : stream.width])
            picture = av.VideoFrame.from_ndarray(even, format="rgb24")
            if seconds is not None:
                picture.pts, picture.time_base = round(seconds[number] / CLOCK), CLOCK
            container.mux(stream.encode(picture))
        if stream is None:
            raise ValueError("a video needs at least one frame.")
        container.mux(stream.encode(None))
