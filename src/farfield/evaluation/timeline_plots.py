"""Picture of tested timelines: for each video, a bar of the labelled segments and a bar of the found segments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator

from farfield.evaluation.plots import fit_figure, wrap
from farfield.evaluation.video_timeline import VideoTimeline
from farfield.fonts import draw_text, drawable, shown_name
from farfield.reports.overlapping_labels import assign_lanes

SHOWN_VIDEOS = 20
"""Maximum number of videos in the picture."""
COLOURED_CLASSES = 38
"""Maximum number of classes with their own colour. If there are more classes, those with the least time are grey."""
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")
"""Okabe and Ito's palette for colour-blind readers, for up to 8 classes."""
OTHER_COLOUR = "#8a8f98"
_WIDTH = 9.0
_LANE, _MIN_LANE, _BAR, _GAP, _TITLE, _TICKS = 0.2, 0.05, 0.8, 0.06, 0.2, 0.3
"""Heights in inches of: lane, thinnest lane, highest bar of several lanes, gap between bars, title, tick labels."""
_LETTER = 0.07
"""Width of a letter of a class name in a bar, in inches."""
_TITLE_LETTERS = 90


def plot_timelines(videos: Sequence[VideoTimeline], labels: Sequence[str], path: str | Path | None = None) -> Figure:
    """Draw the labelled and the found segments of each video as two bars, with a colour for each class.

    Segments that overlap are in different lanes of a bar. A class's name is written into the segments that are wide
    enough for it. The figure grows with the number of videos.

    Args:
        videos: videos in the order to show, at most `SHOWN_VIDEOS`.
        labels: class names of the network.
        path: PNG file to save the figure to; None to save nothing.
    """
    colours = class_colours(videos, labels)
    names = {label: shown_name(label, number) for number, label in enumerate(labels)}
    figure, places, top = Figure(figsize=(_WIDTH, 4)), {}, 0.0
    for video in videos:
        bars = [_Bar.of(_truth(video)), _Bar.of(_answer(video))]
        height = sum(bar.height for bar in bars) + _GAP
        axes = figure.add_axes((0, 0, 1, 1))
        places[axes] = (0.0, top - _TITLE - height, _WIDTH, height)
        top -= _TITLE + height + _TICKS
        _draw(axes, video, bars, height, colours, names)
    legend = figure.add_axes((0, 0, 1, 1))
    legend.set_axis_off()
    places[legend] = (0.0, top - 0.3, _WIDTH, 0.2)
    _draw_legend(legend, colours, names, others=_occurring(videos) - set(colours))
    fit_figure(figure, places)
    if path is not None:
        with matplotlib.rc_context({"savefig.dpi": 120}):
            figure.savefig(path)
    return figure


def class_colours(videos: Sequence[VideoTimeline], labels: Sequence[str]) -> dict[str, Any]:
    """Assign colours to the classes that occur in the videos, labelled or found. Colours follow the order of `labels`.

    If more than `COLOURED_CLASSES` classes occur, those with the shortest total time are left out.

    Returns:
        Label to colour.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    for video in videos:
        for start, end, label in (*_truth(video), *_answer(video)):
            seconds[label] += end - start
    most = sorted(seconds, key=lambda label: -seconds[label])[:COLOURED_CLASSES]
    coloured = [label for label in labels if label in most]
    palette: Sequence[Any] = COLOURS
    if len(coloured) > len(palette):
        tab20, tab20b = (matplotlib.colormaps[name].colors for name in ("tab20", "tab20b"))  # type: ignore[attr-defined]
        palette = [*tab20[:14], *tab20[16:], *tab20b]  # without the two greys
    return dict(zip(coloured, palette, strict=False))


def _occurring(videos: Sequence[VideoTimeline]) -> set[str]:
    return {label for video in videos for _, _, label in (*_truth(video), *_answer(video))}


def _truth(video: VideoTimeline) -> list[tuple[float, float, str]]:
    return [(each.start_seconds, each.end_seconds, each.label) for each in video.truth]


def _answer(video: VideoTimeline) -> list[tuple[float, float, str]]:
    return [(each.start_seconds, each.end_seconds, each.label) for each in video.segments]


class _Bar(NamedTuple):
    """A bar of the picture, which shows segments over time. Segments that overlap are in different lanes (rows).

    Attributes:
        spans: (start in seconds, end in seconds, label) of each segment, in order of time.
        lanes: lane of each segment, from 0 (top).
        height: height of the bar in inches.
        lane: height of a lane in inches.
    """

    spans: list[tuple[float, float, str]]
    lanes: list[int]
    height: float
    lane: float

    @classmethod
    def of(cls, spans: list[tuple[float, float, str]]) -> _Bar:
        spans = sorted(spans)
        lanes = assign_lanes(spans)
        count = max(lanes, default=0) + 1
        lane = max(min(_LANE, _BAR / count), _MIN_LANE)
        return cls(spans, lanes, lane * count, lane)


def _draw(
    axes: Axes,
    video: VideoTimeline,
    bars: Sequence[_Bar],
    height: float,
    colours: dict[str, Any],
    names: dict[str, str],
) -> None:
    """Draw the bars of one video from the top down.

    Args:
        axes: axes for the video. Their y limits are set to 0 and `height`, so that y is in inches.
        video: the video.
        bars: bars of the video, from the top.
        height: height of the axes in inches.
        colours: label to colour. Classes that are not in it are grey.
        names: label to the text that is written into the segments of the class.
    """
    top, ticks = height, []
    scale = _WIDTH / max(video.duration_seconds, 1e-3)  # inches per second
    for bar in bars:
        axes.axhspan(top - bar.height, top, color="0.94", zorder=0)
        by_label: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for (start, end, label), lane in zip(bar.spans, bar.lanes, strict=True):
            by_label.setdefault((label, lane), []).append((start, end - start))
        for (label, lane), spans in by_label.items():
            low = top - (lane + 1) * bar.lane
            colour = colours.get(label, OTHER_COLOUR)
            axes.broken_barh(spans, (low, bar.lane), facecolor=colour, edgecolor="white", linewidth=0.4)
            _write_names(axes, spans, low, bar.lane, names[label], colour, scale)
        ticks.append(top - bar.height / 2)
        top -= bar.height + _GAP
    axes.set_xlim(video.start_seconds, max(video.end_seconds, video.start_seconds + 1e-3))
    axes.set_ylim(0, height)
    axes.set_yticks(ticks, ["truth", "answer"], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7, length=2, pad=2)
    axes.xaxis.set_major_locator(MultipleLocator(_tick_seconds(video.duration_seconds)))
    form = _seconds if video.end_seconds < 120 else _clock
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: form(seconds)))
    for spine in axes.spines.values():
        spine.set_visible(False)
    title = f"{_short(video.path)}   agreement {100 * video.agreement():.0f}%"
    axes.set_title(title, loc="left", fontsize=8.5, pad=3, **draw_text(title))


def _write_names(
    axes: Axes,
    spans: Sequence[tuple[float, float]],
    low: float,
    lane: float,
    name: str,
    colour: Any,
    scale: float,
) -> None:
    """Write a class's name into each segment of the class that is wide enough. Nothing is written into thin lanes.

    Args:
        axes: axes of the video, with x in seconds and y in inches.
        spans: (start, length) of each segment of the class in one lane, in seconds.
        low: lower edge of the lane, in inches.
        lane: height of the lane, in inches.
        name: text to write.
        colour: colour of the segments.
        scale: inches on the x axis per second of video.
    """
    if lane < 0.14:
        return
    red, green, blue = to_rgb(colour)
    shade = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.6 else "white"
    for start, length in spans:
        if length * scale > _LETTER * (len(name) + 1):
            axes.text(
                start + length / 2,
                low + lane / 2,
                name,
                ha="center",
                va="center_baseline",
                fontsize=7,
                color=shade,
                clip_on=True,
                **draw_text(name),
            )


def _draw_legend(axes: Axes, colours: dict[str, Any], names: dict[str, str], *, others: set[str]) -> None:
    patches = [Patch(color=colour, label=wrap(names[label])) for label, colour in colours.items()]
    if others:
        patches.append(Patch(color=OTHER_COLOUR, label=f"{len(others)} other classes"))
    if not patches:
        return
    widest = max(len(line) for patch in patches for line in str(patch.get_label()).split("\n"))
    columns = max(min(int(_WIDTH / (0.5 + _LETTER * widest)), len(patches)), 1)
    legend = axes.legend(
        handles=patches,
        ncols=columns,
        loc="upper left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0,
        frameon=False,
        fontsize=8,
        handlelength=1,
        handleheight=1,
    )
    for text in legend.get_texts():
        text.set(**draw_text(text.get_text()))


def _tick_seconds(duration: float) -> float:
    """Return the distance between tick marks: a round number of seconds that gives at most 12 marks."""
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
    return next((step for step in steps if duration / step <= 12), duration / 12)


def _seconds(seconds: float) -> str:
    return f"{seconds:.6g} s"


def _clock(seconds: float) -> str:
    """Format a time as 3:05 or 1:03:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _short(path: str) -> str:
    """Shorten a path to one line: keep its end, and replace characters missing from every installed font with "?"."""
    one_line = " ".join(path.encode(errors="replace").decode().split())
    return drawable(one_line if len(one_line) <= _TITLE_LETTERS else f"…{one_line[1 - _TITLE_LETTERS :]}")
