"""A copy of a video with its predicted labels written under the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from farfield.data.decode import open_video
from farfield.inference.predict import Prediction, RankedLabel
from farfield.video_file import write_video

MIN_WIDTH = 320
"""Smaller videos are enlarged by a whole factor to at least this many pixels, so that text can be read."""
_CHUNK = 64  # frames decoded at a time, which bounds memory


def write_labelled_video(prediction: Prediction, path: str | Path, *, num_labels: int = 3) -> None:
    """Writes the predicted video as an H.264 MP4 with the best labels and their probabilities below it.

    Raises:
        VideoError: where the video cannot be decoded.
    """
    with open_video(prediction.path) as video:
        times = video.times
        fps = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 1.0
        frames = (
            frame
            for start in range(0, len(times), _CHUNK)
            for frame in video.frames(np.arange(start, min(start + _CHUNK, len(times))))
        )
        write_video(path, labelled(frames, prediction.ranking[:num_labels]), fps=float(fps))


def labelled(
    frames: Iterator[UInt8[np.ndarray, "h w c"]], ranking: list[RankedLabel]
) -> Iterator[UInt8[np.ndarray, "h2 w2 c"]]:
    """Enlarges frames if need be and puts a panel under them: a bar and a line of text for each label."""
    panel = None
    for frame in frames:
        factor = -(-MIN_WIDTH // frame.shape[1])
        picture = frame.repeat(factor, axis=0).repeat(factor, axis=1)
        if panel is None:
            panel = _panel(picture.shape[1], ranking)
        yield np.concatenate([picture, panel])


def _panel(width: int, ranking: list[RankedLabel]) -> UInt8[np.ndarray, "h w c"]:
    size = max(width // 22, 12)
    line = round(size * 1.5)
    image = Image.new("RGB", (width, line * len(ranking) + size // 2), (16, 18, 24))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for i, ranked in enumerate(ranking):
        top = size // 4 + i * line
        draw.rectangle(
            (0, top, round(width * ranked.probability), top + line - 4), fill=(38, 84, 124) if i else (24, 128, 92)
        )
        draw.text((size // 2, top + line // 2 - 2), ranked.label, fill="white", font=font, anchor="lm")
        text = f"{100 * ranked.probability:.1f}%"
        draw.text((width - size // 2, top + line // 2 - 2), text, fill="white", font=font, anchor="rm")
    return np.asarray(image)
