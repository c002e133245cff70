"""Copies of videos with their predicted labels drawn below the frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from farfield.data.frame_sampling import stream_frames
from farfield.fonts import pillow_font
from farfield.inference.prediction_schema import Prediction, RankedLabel
from farfield.reports.overlapping_labels import NO_CLASS, assign_lanes
from farfield.timelines.segments import Segment
from farfield.video.decoders import open_video
from farfield.video.frame_rate import frame_rate
from farfield.video.writer import write_video

Item = TypeVar("Item")

MIN_WIDTH = 320
"""Narrower videos are enlarged by an integer factor to at least this width in pixels, so that text is readable."""

MAX_LINES = 10
"""Maximum number of lines of labels below a frame. If there are more labels, the last line says how many more."""

STRIP_PX = 120
"""Maximum height, in pixels, of the strip of segments. It is exceeded if lanes would be too thin to see."""

BACKGROUND, BEST, OTHERS, CURSOR = (16, 18, 24), (24, 128, 92), (38, 84, 124), (255, 255, 255)


def write_labelled_video(
    prediction: Prediction, path: str | Path, *, num_labels: int = 3, fps: float | None = None
) -> None:
    """Write a copy of a video as H.264 MP4 without sound, with a panel of predicted labels below the frames.

    The panel shows:
    - without a timeline, for a multilabel network: the classes that reach their thresholds in the whole video, in at
      most `MAX_LINES` lines, or "none of the classes"
    - without a timeline, for other networks: the first `num_labels` labels in the ranking of the whole video
    - with a timeline: the labels of the segments at the time of the frame, in at most `MAX_LINES` lines, and a strip of
      all segments with a cursor. For a multilabel network, "none of the classes" is shown at times without a segment.

    If only a part of the video was predicted, the copy and the labels are of this part only. If `prediction.error` is
    set, because a frame could not be read, the copy ends at `prediction.end_seconds`.

    Args:
        prediction: prediction for the video.
        path: the file to write.
        num_labels: maximum number of labels to show; ignored with a timeline, and for a multilabel network.
        fps: frame rate of a folder of pictures; ignored for a file.

    Raises:
        VideoError: if the video, or a frame of the copy, cannot be decoded.
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
        multilabel = prediction.task == "multilabel"
        if prediction.segments is None:
            ranking = prediction.above_threshold if multilabel else prediction.ranking[:num_labels]
            pictures = labelled((frame for _, frame in frames), ranking, multilabel=multilabel)
        else:
            segments = [
                replace(each, start_seconds=each.start_seconds - offset, end_seconds=each.end_seconds - offset)
                for each in prediction.segments
            ]
            duration = max((prediction.end_seconds or 0.0) - offset, 1e-6)
            pictures = with_timeline(frames, segments, duration, multilabel=multilabel)
        write_video(path, pictures, fps=frame_rate(times), seconds=times[shown] - offset)


def labelled(
    frames: Iterable[UInt8[np.ndarray, "h w c"]], ranking: list[RankedLabel], *, multilabel: bool = False
) -> Iterator[UInt8[np.ndarray, "h2 w2 c"]]:
    """Enlarge small frames, and add a panel below each frame. The panel shows a bar and a line of text for each label.

    With `multilabel`, all bars have the same colour, and an empty ranking is shown as "none of the classes".
    """
    return _above((((), frame) for frame in frames), lambda width, _: _ranking_panel(width, ranking, multilabel))


def with_timeline(
    frames: Iterable[tuple[float, UInt8[np.ndarray, "h w c"]]],
    segments: list[Segment],
    duration_seconds: float,
    *,
    multilabel: bool = False,
) -> Iterator[UInt8[np.ndarray, "h2 w2 c"]]:
    """Add a panel below each frame: the current segments, and a strip of all segments with a cursor.

    Segments that overlap are in different lanes (rows) of the strip, and each has its own line of text.

    Args:
        frames: (time in seconds, RGB picture) of each frame.
        segments: segments of the video, in order of time.
        duration_seconds: duration that the strip shows.
        multilabel: whether a frame without a segment is shown as "none of the classes".
    """
    strip = _Strip(segments, duration_seconds)
    starts, ends = (np.array([getattr(each, name) for each in segments]) for name in ("start_seconds", "end_seconds"))

    def panel(width: int, key: tuple[int, ...]) -> UInt8[np.ndarray, "h w c"]:
        cursor, *current = key
        return _timeline_panel(width, strip, current, cursor, multilabel)

    def keyed() -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        for seconds, frame in frames:
            at = np.flatnonzero((starts <= seconds) & (seconds < ends)).tolist()
            width = frame.shape[1] * _factor(frame.shape[1])
            yield (round(seconds / duration_seconds * (width - 1)), *at), frame

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
    """Place each frame above a panel, and enlarge narrow frames.

    Args:
        frames: (key, frame) of each frame. Frames with equal keys have the same panel, so the panel is drawn again only
            when the key changes.
        draw: function that draws the panel, from a width in pixels and a key.
    """
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


def _ranking_panel(width: int, ranking: list[RankedLabel], multilabel: bool) -> UInt8[np.ndarray, "h w c"]:
    size = _text_size(width)
    line = round(size * 1.5)
    shown, more = _shortened(ranking) if multilabel else (ranking, "")
    note = more or ("" if ranking or not multilabel else NO_CLASS)
    image = Image.new("RGB", (width, line * (len(shown) + bool(note)) + size // 2), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for i, ranked in enumerate(shown):
        top = size // 4 + i * line
        right = round(width * ranked.probability)
        draw.rectangle((0, top, right, top + line - 4), fill=OTHERS if i and not multilabel else BEST)
        _write(draw, size // 2, top + line // 2 - 2, width, ranked.label, ranked.probability)
    _write(draw, size // 2, size // 4 + len(shown) * line + line // 2 - 2, width, note)
    return np.asarray(image)


def _shortened(items: list[Item]) -> tuple[list[Item], str]:
    """Return the items that fit into `MAX_LINES` lines, and the text of the last line, such as "and 3 more".

    If all items fit, the text is empty.
    """
    if len(items) <= MAX_LINES:
        return items, ""
    return items[: MAX_LINES - 1], f"and {len(items) - MAX_LINES + 1} more"


class _Strip:
    """Strip of segments over time, with a colour for each label. Overlapping segments are in different lanes (rows)."""

    def __init__(self, segments: list[Segment], duration_seconds: float) -> None:
        self.segments = segments
        self.duration_seconds = duration_seconds
        self.colours = segment_colours(segments)
        self.lanes = assign_lanes((each.start_seconds, each.end_seconds, each.label) for each in segments)
        self.num_lanes = max(self.lanes, default=0) + 1

    def pitch(self, line: int) -> int:
        """Return the height of a row of segments in pixels, including the gap below it.

        Args:
            line: height of a line of text, in pixels.
        """
        return line if self.num_lanes == 1 else max(min(line // 2, STRIP_PX // self.num_lanes), 2)

    def draw(self, draw: ImageDraw.ImageDraw, width: int, top: int, line: int) -> None:
        pitch = self.pitch(line)
        gap = 4 if self.num_lanes == 1 else 2 if pitch > 4 else 1
        for each, lane in zip(self.segments, self.lanes, strict=True):
            left, right = (round(at / self.duration_seconds * width) for at in (each.start_seconds, each.end_seconds))
            upper = top + lane * pitch
            draw.rectangle((left, upper, max(right - 1, left), upper + pitch - gap), fill=self.colours[each.label])


def _timeline_panel(
    width: int, strip: _Strip, current: list[int], cursor: int, multilabel: bool
) -> UInt8[np.ndarray, "h w c"]:
    size = _text_size(width)
    line = round(size * 1.5)
    num_lines = min(strip.num_lanes, MAX_LINES)
    height = strip.num_lanes * strip.pitch(line)
    image = Image.new("RGB", (width, num_lines * line + height + size // 2), BACKGROUND)
    draw = ImageDraw.Draw(image)
    shown, more = _shortened(current)
    for place, number in enumerate(shown):
        segment = strip.segments[number]
        # A label stays in the line of its lane, unless there are too many lanes.
        top = size // 4 + line * (strip.lanes[number] if strip.num_lanes <= MAX_LINES else place)
        draw.rectangle((0, top, size // 3, top + line - 4), fill=strip.colours[segment.label])
        _write(draw, size, top + line // 2 - 2, width, segment.label, segment.probability)
    note = more or (NO_CLASS if multilabel and not current else "")
    _write(draw, size, size // 4 + (num_lines - 1 if more else 0) * line + line // 2 - 2, width, note)
    top = size // 4 + num_lines * line
    strip.draw(draw, width, top, line)
    draw.rectangle((cursor - 1, top - 2, cursor + 1, top + height - 2), fill=CURSOR)
    return np.asarray(image)


def _write(
    draw: ImageDraw.ImageDraw, left: int, middle: int, width: int, label: str, probability: float | None = None
) -> None:
    """Draw a label on one line, truncated if it is too long. If given, the probability is drawn at the right edge."""
    size = _text_size(width)
    font, whole = pillow_font(" ".join(label.split()), size)
    own, percent = pillow_font("" if probability is None else f"{100 * probability:.1f}%", size)
    space = width - left - size - own.getlength(percent)
    text = whole
    while text and font.getlength(text) > space:
        whole = whole[:-1]
        text = whole and f"{whole.rstrip()}\N{HORIZONTAL ELLIPSIS}"
    draw.text((left, middle), text, fill="white", font=font, anchor="lm")
    draw.text((width - size // 2, middle), percent, fill="white", font=own, anchor="rm")


def _text_size(width: int) -> int:
    return max(width // 22, 12)
