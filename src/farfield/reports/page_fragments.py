"""Render parts of the server's page as HTML: timeline, ranking, picture and note."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from farfield.reports.overlapping_labels import NO_CLASS, assign_lanes
from farfield.reports.page_content import png_uri
from farfield.reports.rendering import render

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a0508c", "#8a6d00", "#3f7fb5", "#7a4a2b", "#5b5ea6")
"""Okabe and Ito's palette for colour-blind readers; the light colours are darkened to make white text legible."""
OTHER_COLOUR = "#6b7280"
MAX_TICKS = 8
LANE_REM, BAR_REM, MIN_LANE_REM = 1.6, 20, 0.4
"""Heights in the CSS unit rem: usual height of a lane, maximum height of all lanes together, minimum height of a lane.

A lane is a row of segments in the timeline.
"""


def timeline_html(segments: Sequence[dict[str, Any]], duration: float) -> str:
    """Render a bar with a button for each segment, a scale in seconds, and a legend of the labels.

    Segments that overlap are in different lanes of the bar.

    Args:
        segments: segments with start_seconds, end_seconds, label and probability, in order of their starts.
        duration: length of the video in seconds.

    Returns:
        HTML. Each button's `data-seconds` is the start of its segment, to which the page's script moves the player.
    """
    length = max([duration, 1e-3, *(each["end_seconds"] for each in segments)])
    seconds: dict[str, float] = defaultdict(float)
    for each in segments:
        seconds[each["label"]] += each["end_seconds"] - each["start_seconds"]
    legend = sorted(seconds.items(), key=lambda item: -item[1])
    colours = {label: COLOURS[i] if i < len(COLOURS) else OTHER_COLOUR for i, (label, _) in enumerate(legend)}
    lanes = assign_lanes((each["start_seconds"], each["end_seconds"], each["label"]) for each in segments)
    num_lanes = max(lanes, default=0) + 1
    return render(
        "timeline.html.j2",
        segments=list(zip(segments, lanes, strict=True)),
        no_class=NO_CLASS,
        num_lanes=num_lanes,
        lane_rem=max(min(LANE_REM, BAR_REM / num_lanes), MIN_LANE_REM),
        length=length,
        legend=legend,
        colours=colours,
        ticks=scale_ticks(length),
    )


def scale_ticks(length: float) -> list[tuple[float, str]]:
    """Choose at most `MAX_TICKS` tick marks at round times, for a scale of `length` seconds.

    Returns:
        Position in seconds and text of each tick mark; the first text includes the unit.
    """
    steps = (base * 10**power for power in range(-2, 10) for base in (1, 2, 5))
    step = next(each for each in steps if length / each <= MAX_TICKS)
    digits = max(0, 2 if step < 0.1 else 1 if step < 1 else 0)
    marks = [i * step for i in range(int(length / step + 1e-6) + 1) if i * step <= 0.97 * length]
    return [(at, f"{at:.{digits}f}{'' if i else ' s'}") for i, at in enumerate(marks)]


def ranking_html(ranking: Sequence[dict[str, Any]], *, multilabel: bool = False) -> str:
    """Render a ranking as a table with bars.

    Args:
        ranking: entries with "label", "probability" and, if `multilabel`, "above_threshold".
        multilabel: False to show all entries in the given order. True to show two groups, each in the given order:
            first the labels that reach their thresholds, then the others. If the first group is empty, the table says
            so.
    """
    if not multilabel:
        return render("ranking.html.j2", ranking=ranking)
    above = [each for each in ranking if each["above_threshold"]]
    below = [each for each in ranking if not each["above_threshold"]]
    return render("labels.html.j2", above=above, below=below, no_class=NO_CLASS)


def picture_html(png: bytes, description: str) -> str:
    """Render a wide picture that scrolls sideways in a narrow browser window."""
    return render("wide_picture.html.j2", source=png_uri(png), description=description)


def note_html(text: str, *, failed: bool = False) -> str:
    """Render a line of text, or nothing for an empty text. A failure is marked in words, not only by colour."""
    return render("note.html.j2", text=text, failed=failed) if text else ""
