"""Draw plot legends of class names, and shorten long names.

Names may be in any script. They are drawn literally, without mathematical notation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from farfield.fonts import drawable, font_families


def draw_legend(axes: Axes, handles: Sequence[Artist], names: Sequence[str], *, title: str) -> None:
    """Put a legend to the right of the axes. A dollar sign in a name does not start a formula."""
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "frameon": False}
    shown = [drawable(name) for name in names]
    legend = axes.legend(list(handles), shown, title=title, fontsize=9, title_fontsize=9, **place)
    for text in legend.get_texts():
        text.set_parse_math(False)
        text.set_fontfamily(font_families(text.get_text()))


def short_label(label: str, most: int = 36) -> str:
    """Shorten a label to at most `most` characters. An ellipsis replaces the rest."""
    return label if len(label) <= most else label[: most - 1] + "…"
