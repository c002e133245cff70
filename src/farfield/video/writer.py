"""Write RGB frames as H.264 in MP4, which players, browsers and Weights & Biases can play."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float, UInt8

from farfield.atomic_write import atomic_write

CLOCK = Fraction(1, 90_000)
"""Time base, in seconds, for frames whose display times are given: MPEG's 90 kHz clock."""


def write_video(
    path: str | Path,
    frames: Iterable[UInt8[np.ndarray, "h w c"]],
    *,
    fps: float,
    seconds: Sequence[float] | Float[np.ndarray, " frames"] | None = None,
    crf: int = 18,
    keyframe_every: int = 250,
) -> None:
    """Write RGB frames as an MP4, atomically.

    Args:
        path: file to write.
        frames: at least one frame, all of one size. If the height or width is odd, the last row or column is left out,
            since H.264's colour subsampling needs even sizes.
        fps: frames per second. If `seconds` is given, `fps` is only stored in the file as the nominal rate.
        seconds: display times of the frames in seconds, ascending; None for the constant rate `fps`.
        crf: x264's constant rate factor: 0 is lossless, 18 looks like the original, 51 is worst.
        keyframe_every: maximum number of frames from one keyframe to the next. A smaller number makes it faster to
            decode clips of a long video, but makes the file larger.

    Raises:
        ValueError: if there are no frames.
    """
    path = Path(path).absolute()  # FFmpeg parses the part before a colon as a protocol
    with atomic_write(path) as partial:
        _encode(partial, frames, fps=fps, seconds=seconds, crf=crf, keyframe_every=keyframe_every)


def _encode(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "h w c"]],
    *,
    fps: float,
    seconds: Sequence[float] | Float[np.ndarray, " frames"] | None,
    crf: int,
    keyframe_every: int,
) -> None:
    # Deterministic output: with several threads, x264 depends on the number of cores, and its macroblock tree differs
    # between calls if a side is not a multiple of 16.
    options = {"crf": str(crf), "preset": "veryfast", "tune": "fastdecode", "threads": "1", "x264-params": "mbtree=0"}
    options["g"] = str(keyframe_every)
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
            raise ValueError("`frames` is empty; a video needs at least one frame.")
        container.mux(stream.encode(None))
