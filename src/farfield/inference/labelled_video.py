"""Copies of videos with their predicted labels drawn below the frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from farfield.data.frame_sampling import stream_frames
from farfield.fonts import pillow_font
from farfield.inference.prediction_schema import Prediction, RankedLabel
from farfield.inference.segments import Segment
from farfield.video.decoders import open_video
from farfield.video.frame_rate import frame_rate
from farfield.video.writer import write_video

MIN_WIDTH = 320
"""Narrower videos are enlarged by an integer factor to at least this width in pixels, so that text is readable."""

BACKGROUND, BEST, OTHERS, CURSOR = (16, 18, 24), (24, 128, 92), (38, 84, 124), (255, 255, 255)


def write_labelled_video(
    prediction: Prediction, path: str | Path, *, num_labels: int = 3, fps: float | None = None
) -> None:
    """Write a copy of a video as H.264 MP4 without sound, with the predicted labels below the frames.

    Without a timeline, the panel below the frames shows the `num_labels` most probable classes of the whole video. With
    a timeline, it shows the label of the current segment, and a strip of all segments with a cursor. The copy holds the
    part of the video that was requested; if only some of it could be read, the copy ends there. `fps` is the frame rate
    of a folder of pictures.

    Raises:
        VideoError: if the video cannot be decoded.
    """
    with open_video(prediction.path, fps=fps) as video:
        times = video.times
        shown = stream_frames(
            times, start_seconds=prediction.requested_start_seconds, end_seconds=prediction.requested_end_seconds
        )
        if prediction.error is not None:
            count = int(np.searchsorted(times[shown], (prediction.end_seconds or 0.0) - 1e-6))
            shown = shown[: max(count, 1)]
        offset = float(times[shown[0]])
        frames = ((times[place] - offset, frame) for place, frame in video.pictures(shown))
        if prediction.segments is None:
            pictures = labelled((frame for _, frame in frames), prediction.ranking[:num_labels])
        else:
            segments = [
                replace(each, start_seconds=each.start_seconds - offset, end_seconds=each.end_seconds - offset)
                for each in prediction.segments
            ]
            pictures = with_timeline(frames, segments, max((prediction.end_seconds or 0.0) - offset, 1e-6))
        write_video(path, pictures, fps=frame_rate(times), seconds=times[shown] - offset)


def labelled(
    frames: Iterable[UInt8[np.ndarray, "h w c"]], ranking: list[RankedLabel]
) -> Iterator[UInt8[np.ndarray, "h2 w2 c"]]:
    """Enlarge small frames, and add a panel below each that shows a bar and a line of text for each label."""
    return _above((((), frame) for frame in frames), lambda width, _: _ranking_panel(width, ranking))


def with_timeline(
    frames: Iterable[tuple[float, UInt8[np.ndarray, "h w c"]]], segments: list[Segment], duration_seconds: float
) -> Iterator[UInt8[np.ndarray, "h2 w2 c"]]:
    """Add a panel below each frame: the current segment, and a strip of all segments with a cursor.

    Args:
        frames: (time in seconds, RGB picture) of each frame.
        segments: segments of the video, in order of time.
        duration_seconds: duration that the strip shows.
    """
    colours = segment_colours(segments)

    def panel(width: int, key: tuple[int, ...]) -> UInt8[np.ndarray, "h w c"]:
        number, cursor = key
        return _timeline_panel(width, segments, colours, number, cursor, duration_seconds)

    def keyed() -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        for seconds, frame in frames:
            at = (i for i, each in enumerate(segments) if each.start_seconds <= seconds < each.end_seconds)
            width = frame.shape[1] * _factor(frame.shape[1])
            yield (next(at, -1), round(seconds / duration_seconds * (width - 1))), frame

    return _above(keyed(), panel)


def segment_colours(segments: list[Segment]) -> dict[str, tuple[int, int, int]]:
    """Assign a colour to each label, in order of first appearance. The colours resemble matplotlib's tab10."""
    labels = list(dict.fromkeys(each.label for each in segments))
    return {label: _PALETTE[i % len(_PALETTE)] for i, label in enumerate(labels)}


_PALETTE = [
    (31, 119, 180),
    (214, 110, 14),
    (44, 140, 44),
    (200, 60, 60),
    (130, 95, 170),
    (130, 80, 70),
    (200, 100, 170),
    (110, 110, 110),
    (140, 140, 30),
    (20, 150, 165),
]


def _above(
    frames: Iterable[tuple[tuple[int, ...], np.ndarray]], draw: Callable[[int, tuple[int, ...]], np.ndarray]
) -> Iterator[UInt8[np.ndarray, "h w c"]]:
    """Enlarge each frame and add a panel below it. The panel is redrawn only when the frame's key changes."""
    last: tuple[int, ...] | None = None
    panel = np.empty(0)
    for key, frame in frames:
        factor = _factor(frame.shape[1])
        picture = frame.repeat(factor, axis=0).repeat(factor, axis=1)
        if key != last:
            panel, last = draw(picture.shape[1], key), key
        yield np.concatenate([picture, panel])


def _factor(width: int) -> int:
    return -(-MIN_WIDTH // width)


def _ranking_panel(width: int, ranking: list[RankedLabel]) -> UInt8[np.ndarray, "h w c"]:
    size = _text_size(width)
    line = round(size * 1.5)
    image = Image.new("RGB", (width, line * len(ranking) + size // 2), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for i, ranked in enumerate(ranking):
        top = size // 4 + i * line
        right = round(width * ranked.probability)
        draw.rectangle((0, top, right, top + line - 4), fill=OTHERS if i else BEST)
        _write(draw, size // 2, top + line // 2 - 2, width, ranked.label, ranked.probability)
    return np.asarray(image)


def _timeline_panel(
    width: int,
    segments: list[Segment],
    colours: dict[str, tuple[int, int, int]],
    number: int,
    cursor: int,
    duration_seconds: float,
) -> UInt8[np.ndarray, "h w c"]:
    size = _text_size(width)
    line = round(size * 1.5)
    image = Image.new("RGB", (width, 2 * line + size // 2), BACKGROUND)
    draw = ImageDraw.Draw(image)
    if number >= 0:
        current = segments[number]
        draw.rectangle((0, size // 4, size // 3, size // 4 + line - 4), fill=colours[current.label])
        _write(draw, size, size // 4 + line // 2 - 2, width, current.label, current.probability)
    top = size // 4 + line
    for each in segments:
        left, right = (round(at / duration_seconds * width) for at in (each.start_seconds, each.end_seconds))
        draw.rectangle((left, top, max(right - 1, left), top + line - 4), fill=colours[each.label])
    draw.rectangle((cursor - 1, top - 2, cursor + 1, top + line - 2), fill=CURSOR)
    return np.asarray(image)


def _write(draw: ImageDraw.ImageDraw, left: int, middle: int, width: int, label: str, probability: float) -> None:
    """Draw a label on one line, truncated if it is too long, and its probability at the right edge."""
    size = _text_size(width)
    font, whole = pillow_font(" ".join(label.split()), size)
    own, percent = pillow_font(f"{100 * probability:.1f}%", size)
    space = width - left - size - own.getlength(percent)
    text = whole
    while text and font.getlength(text) > space:
        whole = whole[:-1]
        text = whole and f"{whole.rstrip()}\N{HORIZONTAL ELLIPSIS}"
    draw.text((left, middle), text, fill="white", font=font, anchor="lm")
    draw.text((width - size // 2, middle), percent, fill="white", font=own, anchor="rm")


def _text_size(width: int) -> int:
    return max(width // 22, 12)
