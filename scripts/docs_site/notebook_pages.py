"""The notebooks as pages, with the output that they are stored with."""

from __future__ import annotations

import base64
import re
from inspect import cleandoc
from pathlib import Path
from typing import Any

import nbformat

FOLDER = "notebooks"
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def notebook_pages() -> dict[str, str | bytes]:
    """Write the page of each notebook, its pictures, and a page that lists them. Return them by path below docs/."""
    pages: dict[str, str | bytes] = {}
    rows: list[str] = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        page, pictures = _page(path.stem, cells)
        pages[f"{FOLDER}/{path.stem}.md"] = page
        pages.update(pictures)
        rows.append(f"- [{_title(cells)}]({path.stem}.md)")
    introduction = cleandoc("""
        # Notebooks

        Each notebook explains one idea with formulas, code and pictures. They are files of `notebooks/` in the
        repository, run on a CPU, and need nothing but farfield: `pip install "farfield[notebooks]"`.
        """)
    return {f"{FOLDER}/index.md": "\n".join([introduction, "", *rows, ""])} | pages


def _page(name: str, cells: list[Any]) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by path below docs/."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    heading = _title(cells)
    for cell in cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            heading = (re.findall(r"^#+ (.*)", cell.source, re.M) or [heading])[-1]
        elif cell.cell_type == "code":
            parts.append(f"```python\n{cell.source}\n```")
            for output in cell.outputs:
                if output.output_type == "stream":
                    parts.append(f"```text\n{output.text.rstrip()}\n```")
                elif "image/png" in output.get("data", {}):
                    file = f"{name}_{len(pictures) + 1}.png"
                    pictures[f"{FOLDER}/{file}"] = base64.b64decode(output.data["image/png"])
                    parts.append(f"![{_alternative(heading, len(pictures))}]({file})")
    return "\n\n".join([*parts, ""]), pictures


def _title(cells: list[Any]) -> str:
    return cells[0].source.partition("\n")[0].removeprefix("#").strip()


def _alternative(heading: str, number: int) -> str:
    """Return the alternative text of a plot: the heading that it is under, without formulas."""
    plain = re.sub(r"[$\[\]`*]|\\\w+", "", heading)
    return f"Plot {number} of the notebook: {plain}"
