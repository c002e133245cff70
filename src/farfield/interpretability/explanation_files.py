"""Write an explanation to a folder: images, videos, a page, and explanation.json."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from farfield.errors import FarfieldError
from farfield.interpretability.attention_components import draw_component
from farfield.interpretability.attention_spread import seconds_at
from farfield.interpretability.block_activations import Middles
from farfield.interpretability.class_evidence import Evidence, draw_evidence
from farfield.interpretability.explanation import Explanation
from farfield.interpretability.explanation_json import to_json
from farfield.interpretability.grad_cam import GradCam
from farfield.interpretability.heatmap import heat_video, overlay_heat, resample
from farfield.interpretability.strongest_connections import draw_connections
from farfield.interpretability.window_contributions import draw_windows
from farfield.progress import ProgressBar
from farfield.reports.explanation_page import explanation_html
from farfield.video.writer import write_video

NUMBERS = "explanation.json"
OURS = re.compile(r"(attention|part|grad_cam|evidence|windows|explanation)[\w.-]*\.(png|mp4|html|json)")
"""Names of an explanation's files. Writing another explanation to a folder deletes only files with such names."""


def check_folder(out: str | Path) -> Path:
    """Check that a path is a folder or can be created as one, and return it. Call this before a long computation.

    Raises:
        FarfieldError: if the path or one of its parents is a file.
    """
    folder = Path(out)
    for part in (folder, *folder.parents):
        if part.exists() and not part.is_dir():
            raise FarfieldError(f"out is {out}, but {part} is a file. Give a folder.")
    return folder


def write_explanation(
    explanation: Explanation, out: str | Path, *, connections: int = 20, top_k: int = 5
) -> dict[str, Any]:
    """Write an explanation's images, videos, page and numbers to a folder.

    If one of the files cannot be created, none is written. The files of an earlier explanation in the folder are
    replaced; other files are kept.

    Args:
        explanation: explanation to write.
        out: output folder; created if it does not exist.
        connections: maximum number of arrows for each block in attention.png. Arrows point from the chosen position to
            the positions that it attends to most.
        top_k: number of classes in plots and tables.

    Returns:
        The content of explanation.json.

    Raises:
        FarfieldError: if `out` is a file or cannot be written.
    """
    folder = check_folder(out)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
            content = _write_all(explanation, Path(made), connections, top_k)
            folder.mkdir(exist_ok=True)
            for left in _left_behind(folder):
                left.unlink(missing_ok=True)
            for name in content["files"]:  # explanation.json last: its presence shows that all files are there
                shutil.move(Path(made, name), folder / name)
    except OSError as error:
        raise FarfieldError(
            f"out is {out}, which cannot be written: {error.strerror or error}. Give another folder."
        ) from error
    return content


def read_numbers(out: str | Path) -> dict[str, Any]:
    """Read the explanation.json that `write_explanation` wrote to a folder."""
    return json.loads((Path(out) / NUMBERS).read_text())


def _left_behind(folder: Path) -> list[Path]:
    """Return the files of an earlier explanation in the folder, as listed in its explanation.json."""
    try:
        names = json.loads((folder / NUMBERS).read_text())["files"]
        return [folder / name for name in names if OURS.fullmatch(name)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write_all(explanation: Explanation, folder: Path, connections: int, top_k: int) -> dict[str, Any]:
    frames, seconds = explanation.frames, explanation.seconds
    pictures, captions = {}, {}
    if explanation.maps:
        pictures["attention.png"] = _png(
            draw_connections(
                frames,
                explanation.maps,
                count=connections,
                seconds=seconds.tolist(),
                unchanged=[each.name for each in explanation.activations if each.is_identity],
            )
        )
    for activation in explanation.activations:
        part = draw_component(activation, frames, explanation.query, explanation.labels)
        if part is not None:
            name = f"part_{_file_name(activation.name)}.png"
            captions[name], pictures[name] = part[0], _png(part[1])
    if explanation.cams:
        pictures["grad_cam.png"] = _png(draw_cams(explanation.cams, frames, seconds))
    if isinstance(explanation.evidence, Evidence):
        moments = seconds_at(explanation.evidence.middles, seconds)
        pictures["evidence.png"] = _png(draw_evidence(explanation.evidence, moments, explanation.labels, top_k=top_k))
    starts, ends = explanation.views.window_seconds
    explained = explanation.explained // explanation.views.num_crops
    windows = explanation.views.windows
    pictures["windows.png"] = _png(
        draw_windows(
            starts,
            ends,
            windows,
            explanation.labels,
            top_k=top_k,
            aggregation=explanation.views.aggregation,
            contributions_to=explanation.labels.index(explanation.windows_label),
            explained=explained if len(windows) > 1 else None,
        )
    )
    heats: dict[str, tuple[np.ndarray, Middles, Any]] = {
        f"attention_{_file_name(each.block)}.mp4": (each.weights.numpy(), each.middles, each.query)
        for each in explanation.maps
    }
    for number, cam in enumerate(explanation.cams):
        name = f"grad_cam{f'_{cam.stage}' if number else ''}.mp4"
        heats[name] = (cam.values.numpy(), cam.middles, None)
    videos = {}
    fps = _fps(seconds)
    for name, (values, middles, query) in ProgressBar(heats.items(), desc="videos", disable=None, leave=False):
        heat = resample(values, middles, frames.shape[:3])
        heat = heat / max(float(heat.max()), 1e-12)
        write_video(folder / name, heat_video(frames, heat, seconds.tolist(), query=query), fps=fps)
        videos[name] = (folder / name).read_bytes()
    for name, png in pictures.items():
        (folder / name).write_bytes(png)
    content = to_json(explanation, top_k=top_k, files=[*pictures, *videos, "explanation.html", NUMBERS])
    page = explanation_html(content, pictures, videos, captions)
    (folder / "explanation.html").write_text(page, encoding="utf-8", errors="replace")
    (folder / NUMBERS).write_text(json.dumps(content, indent=1) + "\n")
    return content


def draw_cams(
    cams: list[GradCam], frames: UInt8[np.ndarray, "t h w c"], seconds: Float[np.ndarray, " t"], *, columns: int = 8
) -> Figure:
    """Draw a row of frames and, for each Grad-CAM map, a row of the same frames with the map as an overlay.

    Args:
        cams: Grad-CAM maps of the clip.
        frames: RGB frames of the clip.
        seconds: time of each frame in seconds.
        columns: number of frames in a row, evenly spaced.
    """
    count, height, width = frames.shape[:3]
    shown = np.unique(np.linspace(0, count - 1, min(columns, count)).round().astype(int))
    rows: list[tuple[str, np.ndarray]] = [("the clip", frames[shown])]
    for cam in cams:
        heat = resample(cam.values.numpy(), cam.middles, (count, height, width))[shown]
        heat = heat / max(float(cam.values.max()), 1e-12)
        rows.append((f"Grad-CAM\n{cam.stage}", overlay_heat(frames[shown], heat).clip(0, 255).astype(np.uint8)))
    inches = 1.45 * height / width
    size = (1.0 + 1.48 * len(shown), 0.3 + len(rows) * (inches + 0.05))
    figure = Figure(figsize=size)
    for row, (name, pictures) in enumerate(rows):
        for column, picture in enumerate(pictures):
            left, bottom = 0.97 + 1.48 * column, size[1] - 0.27 - (row + 1) * (inches + 0.05)
            axes = figure.add_axes((left / size[0], bottom / size[1], 1.45 / size[0], inches / size[1]))
            axes.imshow(picture, interpolation="nearest", aspect="auto")
            axes.axis("off")
            if not row:
                axes.set_title(f"{seconds[shown[column]]:.2f} s", fontsize=9, pad=3)
            if not column:
                axes.text(-0.06, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=9)
    return figure


def _fps(seconds: np.ndarray) -> float:
    """Return the frame rate at which a clip plays at its original speed; at least 1 and at most 30 fps."""
    duration = float(seconds[-1] - seconds[0])
    return float(np.clip((len(seconds) - 1) / duration, 1, 30)) if duration > 0 else 1.0


def _file_name(block: str) -> str:
    """Convert a block's name to a part of a file name: "res4[1], 3 passes" to "res4-1-3-passes"."""
    return re.sub(r"[^\w]+", "-", block).strip("-")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
