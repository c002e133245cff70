"""Tables, figures and clips for HTML pages. They are encoded as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import csv
import io
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from farfield.video.writer import write_video


@dataclass(frozen=True)
class Table:
    """A table: the names of its columns, and rows of cells."""

    columns: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True)
class ShownClip:
    """A clip to play: uint8 RGB frames (t h w c) and a caption."""

    frames: UInt8[np.ndarray, "t h w c"]
    caption: str


def read_table(path: Path) -> Table:
    """Read a CSV file, whose first row names the columns."""
    with path.open(newline="") as file:
        columns, *rows = list(csv.reader(file))
    return Table(columns, rows)


def png_uri(png: bytes) -> str:
    """Encode a PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def mp4_uri(mp4: bytes) -> str:
    """Encode an MP4 as a data URI."""
    return f"data:video/mp4;base64,{base64.b64encode(mp4).decode()}"


def figure_uri(figure: Figure) -> str:
    """Draw a figure and encode it as a data URI of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return png_uri(buffer.getvalue())


def clip_uri(clip: ShownClip) -> str:
    """Encode a clip as a data URI of an H.264 video, slowed to 4 frames per second so that each frame can be seen."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        write_video(path, clip.frames, fps=4)
        return mp4_uri(path.read_bytes())
