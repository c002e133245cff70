"""Render explanation.html, a page that explains a prediction. The page embeds all of its pictures and videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farfield.reports.page_content import Table, mp4_uri, png_uri
from farfield.reports.rendering import percent, render

SPREAD_COLUMNS = ["block", "attention", "entropy, bits", "% of uniform", "frames away", "seconds away", "px away"]


def explanation_html(
    content: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    videos: Mapping[str, bytes],
    captions: Mapping[str, str],
) -> str:
    """Render the explanation page as HTML.

    Args:
        content: content of explanation.json.
        pictures: content of each PNG, by file name.
        videos: content of each MP4, by file name.
        captions: captions of the pictures part_BLOCK.png, by file name. Each of these pictures shows the gates, the
            channel attention or the object regions of one inserted block.
    """
    sources = {name: png_uri(png) for name, png in pictures.items()}
    clips = [(name, (mp4_uri(mp4), name.removesuffix(".mp4").replace("_", " ", 1))) for name, mp4 in videos.items()]
    return render(
        "explanation_page.html.j2",
        title=content["path"],
        label=content["label"],
        notes=content["notes"],
        view=content["view"],
        num_clips=len(content["windows"]),
        ranking=ranking_table(content["ranking"]),
        spread=Table(SPREAD_COLUMNS, spread_rows(content)),
        pictures=sources,
        parts=[(source, name, captions[name]) for name, source in sources.items() if name.startswith("part_")],
        attention_videos=[clip for name, clip in clips if name.startswith("attention_")],
        grad_cam_videos=[clip for name, clip in clips if name.startswith("grad_cam")],
    )


def ranking_table(ranking: Sequence[Mapping[str, Any]]) -> Table:
    """Tabulate each class with its probability.

    For a multilabel network, the table also has each class's threshold, and whether the probability reaches it.
    """
    columns = ["class", "probability"]
    rows = [[each["label"], percent(each["probability"])] for each in ranking]
    if any("threshold" in each for each in ranking):
        columns += ["threshold", ""]
        for row, each in zip(rows, ranking, strict=True):
            row += [percent(each["threshold"]), "reached" if each["above_threshold"] else ""]
    return Table(columns, rows)


def spread_rows(content: Mapping[str, Any]) -> list[list[str]]:
    """Tabulate how far attention reaches in each block, from the content of explanation.json.

    Returns:
        Rows with the columns `SPREAD_COLUMNS`. Each block has three rows: the spread of the explained position's
        attention, the mean spread over a grid of positions, and, for comparison, the mean spread over the same grid if
        the attention had equal weights.
    """
    rows = []
    for block in content["blocks"]:
        for key, name in (("of_query", "the position"), ("mean", "mean"), ("uniform", "if uniform")):
            of = block[key]
            figures = [f"{of['entropy_bits']:.2f}", percent(of["entropy_share"], 0), f"{of['frames']:.2f}"]
            rows.append([block["block"], name, *figures, f"{of['seconds']:.2f}", f"{of['px']:.1f}"])
    return rows
