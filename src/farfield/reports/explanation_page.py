"""explanation.html: one page with every picture and video inside, that needs no other file and no network."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from farfield.interpretability.explanation import Explanation

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em; overflow-wrap: anywhere }
h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; font-size: 13px } td, th { padding: 2px 10px; text-align: left }
th { border-bottom: 1px solid #999 } td { border-bottom: 1px solid #eee }
img { max-width: 100%; height: auto } figure { display: inline-block; margin: 0 1em 1em 0 }
figcaption { font-size: 13px } video { width: 320px; image-rendering: pixelated }
.wide { overflow-x: auto }
"""


def make_page(
    found: Explanation,
    content: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    videos: Mapping[str, bytes],
    captions: Mapping[str, str],
) -> str:
    """The page as HTML.

    Args:
        found: what is explained.
        content: its numbers, as `as_json` gives them.
        pictures: PNGs by file name.
        videos: MP4s by file name.
        captions: of the pictures that are named part_ and a block, by file name.
    """
    view = content["view"]
    crop = f", crop {view['crop'] + 1} of {view['num_crops']}" if view["num_crops"] > 1 else ""
    parts = [
        f"<h1>{html.escape(found.path)}</h1>",
        _table(["class", "probability"], [[r["label"], f"{100 * r['probability']:.2f}%"] for r in content["ranking"]]),
        f"<p>Explained is <b>{html.escape(found.label)}</b>, in the {view['width_px']} x {view['height_px']} px that "
        f"the network saw of {view['start_seconds']:.2f} s to {view['end_seconds']:.2f} s (clip {view['clip'] + 1} of "
        f"{len(content['windows'])}{crop}), whose own probability of it is {100 * view['probability']:.2f}%.</p>",
        *(f"<p>{html.escape(note[:1].upper() + note[1:])}</p>" for note in found.notes),
    ]
    if "attention.png" in pictures:
        parts += [
            "<h2>What a position attends to</h2>",
            "<p>A row is an inserted block. The box is the position; arrows lead to its strongest connections, the "
            "thicker and redder, the stronger. Not every frame is shown.</p>",
            _picture("attention.png", pictures),
            "<p>The same as heat, the lighter a place the more of the attention it gets; the bars below say how much "
            "each frame gets, cyan for the position's own.</p>",
            *(_video(name, videos) for name in videos if name.startswith("attention_")),
            "<p>In numbers: of the position shown, of positions on average, and of the same ones if they attended to "
            "everything in reach alike.</p>",
            f'<div class="wide">{_table(SPREAD_COLUMNS, spread_rows(content))}</div>',
        ]
    for name in pictures:
        if name.startswith("part_"):
            parts += [f"<p>{html.escape(captions[name])}</p>", _picture(name, pictures)]
    if "grad_cam.png" in pictures:
        parts += [
            f"<h2>What speaks for {html.escape(found.label)}: Grad-CAM</h2>",
            _picture("grad_cam.png", pictures),
            *(_video(name, videos) for name in videos if name.startswith("grad_cam")),
        ]
    if "evidence.png" in pictures:
        parts += ["<h2>The evidence over time</h2>", _picture("evidence.png", pictures)]
    parts += ["<h2>The whole video</h2>", _picture("windows.png", pictures)]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(found.path)}</title>'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


SPREAD_COLUMNS = ["block", "of", "entropy, bits", "of the uniform's", "frames away", "seconds away", "px away"]


def spread_rows(content: Mapping[str, Any]) -> list[list[str]]:
    """The table of how widely each block's positions attend, from the numbers of `as_json`."""
    rows = []
    for block in content["blocks"]:
        for key, name in (("of_query", "the position"), ("mean", "mean"), ("uniform", "if uniform")):
            of = block[key]
            figures = [f"{of['entropy_bits']:.2f}", f"{100 * of['entropy_share']:.0f}%", f"{of['frames']:.2f}"]
            rows.append([block["block"], name, *figures, f"{of['seconds']:.2f}", f"{of['px']:.1f}"])
    return rows


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def row(cells: Iterable[Any], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{row(columns, 'th')}{''.join(row(cells, 'td') for cells in rows)}</table>"


def _picture(name: str, pictures: Mapping[str, bytes]) -> str:
    source = f"data:image/png;base64,{base64.b64encode(pictures[name]).decode()}"
    return f'<p><img alt="{html.escape(name)}" src="{source}"></p>'


def _video(name: str, videos: Mapping[str, bytes]) -> str:
    source = f"data:video/mp4;base64,{base64.b64encode(videos[name]).decode()}"
    return (
        f'<figure><video controls loop muted src="{source}"></video>'
        f"<figcaption>{html.escape(name.removesuffix('.mp4').replace('_', ' ', 1))}</figcaption></figure>"
    )
