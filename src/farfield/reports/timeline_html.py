"""Results as HTML: a bar of coloured segments over seconds, and a ranking. All text in it is escaped."""

from __future__ import annotations

import base64
import html
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a0508c", "#8a6d00", "#3f7fb5", "#7a4a2b", "#5b5ea6")
"""Okabe and Ito's, which people who see colours differently tell apart; the lighter ones darkened under white text."""
OTHER_COLOUR = "#6b7280"
_MAX_TICKS = 8


def timeline_html(segments: Sequence[dict[str, Any]], duration: float) -> str:
    """A bar with a button for each segment, seconds under it, and a list of the labels.

    Args:
        segments: each with start_seconds, end_seconds, label and probability.
        duration: length of the video in seconds.

    Returns:
        HTML. The buttons carry `data-seconds`, where the player is to go.
    """
    length = max([duration, 1e-3, *(each["end_seconds"] for each in segments)])
    seconds: dict[str, float] = defaultdict(float)
    for each in segments:
        seconds[each["label"]] += each["end_seconds"] - each["start_seconds"]
    labels = sorted(seconds, key=lambda label: -seconds[label])
    colours = {label: COLOURS[i] if i < len(COLOURS) else OTHER_COLOUR for i, label in enumerate(labels)}
    bar = "".join(_segment(each, length, colours[each["label"]]) for each in segments)
    legend = "".join(
        f'<li><span class="ff-swatch" style="background:{colours[label]}"></span>{html.escape(label)} '
        f'<span class="ff-quiet">{seconds[label]:.1f} s</span></li>'
        for label in labels
    )
    return (
        f'<div class="ff-timeline"><div class="ff-bar" role="group" aria-label="Timeline of labels">{bar}'
        f'<span class="ff-playhead" data-duration="{length:.3f}"></span></div>'
        f'<div class="ff-ticks" aria-hidden="true">{_ticks(length)}</div><ul class="ff-legend">{legend}</ul></div>'
    )


def _segment(segment: dict[str, Any], length: float, colour: str) -> str:
    start, end = segment["start_seconds"], segment["end_seconds"]
    label = html.escape(segment["label"])
    says = f"{label}, {start:.1f} s to {end:.1f} s, {100 * segment['probability']:.0f}%"
    return (
        f'<button type="button" data-seconds="{start:.3f}" title="{says}" aria-label="{says}" '
        f'style="left:{100 * start / length:.3f}%;width:{100 * (end - start) / length:.3f}%;background:{colour}">'
        f"<span>{label}</span></button>"
    )


def _ticks(length: float) -> str:
    steps = [base * 10**power for power in range(-2, 5) for base in (1, 2, 5)]
    step = next((each for each in steps if length / each <= _MAX_TICKS), steps[-1])
    digits = max(0, 2 if step < 0.1 else 1 if step < 1 else 0)
    marks = [i * step for i in range(int(length / step + 1e-6) + 1) if i * step <= 0.97 * length]
    return "".join(
        f'<span style="left:{100 * at / length:.3f}%">{at:.{digits}f}{" s" if not i else ""}</span>'
        for i, at in enumerate(marks)
    )


def ranking_html(ranking: Sequence[dict[str, Any]]) -> str:
    """A table of labels with bars, best first; each entry has label and probability."""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(each["label"])}</th>'
        f'<td class="ff-probability"><span style="width:{100 * each["probability"]:.2f}%"></span></td>'
        f'<td class="ff-number">{100 * each["probability"]:.1f}%</td></tr>'
        for each in ranking
    )
    return f'<table class="ff-ranking"><caption>The whole clip</caption><tbody>{rows}</tbody></table>'


def picture_html(png: bytes, description: str) -> str:
    """A wide picture, to be scrolled where the window is narrow."""
    content = base64.b64encode(png).decode()
    image = f'<img alt="{html.escape(description)}" src="data:image/png;base64,{content}">'
    return f'<div class="ff-scroll" tabindex="0">{image}</div>'


def note_html(text: str, *, failed: bool = False) -> str:
    """A line of text; one that reports a failure says so by more than its colour."""
    if not text:
        return ""
    kind = "ff-note ff-failed" if failed else "ff-note"
    lead = "<strong>That did not work.</strong> " if failed else ""
    return f'<p class="{kind}" role="status">{lead}{html.escape(text)}</p>'
