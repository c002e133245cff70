"""The web page. Whoever imports this has set Gradio's environment first, see `app.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw

from farfield.reports.timeline_html import note_html, picture_html, ranking_html, timeline_html
from farfield.server.display_names import display_name, file_stem
from farfield.server.limits import NO_LONGER_KEPT, Limits, Refused, as_size
from farfield.server.private_folder import PrivateFolder
from farfield.server.web_page_style import CSS, FOLLOW_PLAYER
from farfield.server.worker_pool import Workers

SHOWN_PX = 360
"""Smaller frames are enlarged to about this side to be clicked on."""
CAMERA = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}}}
"""What a camera is asked for: its own largest would be many times what a network looks at."""
WAITING = note_html("Drop a clip, or record one, and its labels appear here.")


def build_page(workers: Workers, folder: PrivateFolder, about: dict[str, Any]) -> gr.Blocks:
    """Makes the page, to be mounted.

    Args:
        workers: what recognises.
        folder: the server's own; what the page shows of a clip stays there for `keep_seconds`.
        about: what `Workers.describe` returned.
    """
    handlers = _Handlers(workers, folder, about["attends"])
    with gr.Blocks(title="farfield: what happens in this clip?", analytics_enabled=False) as page:
        kept = gr.State(None)
        _html(_heading(about, workers.limits))
        with gr.Row():
            with gr.Column(scale=3):
                clip = gr.Video(
                    label="Clip",
                    sources=["upload", "webcam"],
                    webcam_options=gr.WebcamOptions(constraints=CAMERA),
                    elem_id="clip",
                    buttons=[],
                )
                timeline = _html("", elem_id="labels", js_on_load=FOLLOW_PLAYER)
            with gr.Column(scale=2):
                status = _html(WAITING, elem_id="status")
                ranking = _html("", elem_id="ranking")
                download = gr.DownloadButton("Download as JSON", visible=False, elem_id="download", size="md")
        _html(f"<h2>What a point attends to</h2>{_about_attention(about['attends'])}")
        with gr.Column(visible=False) as looking:
            with gr.Row():
                with gr.Column():
                    picture = gr.Image(
                        label="Click a point",
                        type="pil",
                        format="png",
                        interactive=False,
                        buttons=[],
                        elem_id="picture",
                    )
                with gr.Column():
                    frame = gr.Slider(1, max(about["num_frames"], 2), value=1, step=1, label="Frame", elem_id="frame")
                    choose = gr.Button("Choose a point of this frame for me", size="md", elem_id="choose")
                    answer = _html("", elem_id="answer")
            attention = _html("", elem_id="attention")
        shown = [kept, status, timeline, ranking, download, looking, frame, picture, answer, attention]
        # Our own queue says who waits; Gradio's would hide it.
        open_to_all: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private"}
        clip.change(handlers.look, clip, shown, show_progress_on=[ranking], trigger_mode="always_last", **open_to_all)
        if about["attends"]:
            frame.change(handlers.show_frame, [kept, frame], [picture, answer], show_progress="hidden", **open_to_all)
            attended = [picture, answer, attention]
            picture.select(handlers.attend, [kept, frame], attended, show_progress_on=[answer], **open_to_all)
            choose.click(handlers.attend_anywhere, [kept, frame], attended, show_progress_on=[answer], **open_to_all)
    return page


def _html(content: str, **options: Any) -> gr.HTML:
    return gr.HTML(content, apply_default_css=False, **options)  # its own gives every table a grid


PAGE_OPTIONS: dict[str, Any] = {
    "css": CSS,
    # Fonts of the system: Gradio's own themes fetch theirs from Google.
    "theme": gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    "footer_links": [],
    "run_history": False,
    "ssr_mode": False,
    "mcp_server": False,
    "enable_monitoring": False,
    "pwa": False,
    "show_error": False,
}
"""For `mount_gradio_app`."""


def _heading(about: dict[str, Any], limits: Limits) -> str:
    bounds = (
        f"At most {as_size(limits.upload_bytes)} and {limits.clip_seconds:g} s. The server deletes a clip "
        f"{max(limits.keep_seconds / 60, 0.1):.2g} minutes after it came."
    )
    return f"<h1>What happens in this clip?</h1>{note_html(_subtitle(about))}{note_html(bounds)}"


def _subtitle(about: dict[str, Any]) -> str:
    return f"farfield recognises actions in video. Network {about['network']}, {len(about['labels'])} labels."


def _about_attention(attends: bool) -> str:
    if not attends:
        return note_html("This network has no non-local blocks, so that there is no attention to look at.")
    return note_html(
        "Choose a frame of the clip as the network saw it, and click a point in it. Each row below is an inserted "
        "block: the brighter a place in a frame, the more the point attends to it."
    )


class _Handlers:
    """What the page does when it is used. Its state is where a clip's frames are kept, their times and its label."""

    def __init__(self, workers: Workers, folder: PrivateFolder, attends: bool) -> None:
        self._workers = workers
        self._folder = folder
        self._attends = attends

    async def look(self, path: str | None) -> list[Any]:
        """Recognises a clip that was dropped or recorded; None where it was taken away."""
        if path is None:
            return _nothing(WAITING)
        name = display_name(Path(path).name)
        try:
            with self._workers.admitted():
                kept = self._folder.keep()
                with self._folder.held(Path(path), kept):
                    found = await self._workers.run(name, "recognise", path, name, str(kept / "frames.npy"))
        except Refused as refused:
            return _nothing(note_html(str(refused), failed=True))
        times = found.pop("frame_seconds")
        file = kept / f"{file_stem(name)}.json"
        file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        best = found["ranking"][0]
        state = {"folder": str(kept), "times": times, "label": best["label"]}
        segments = found["segments"]
        bar = "" if segments is None else timeline_html(segments, found["duration_seconds"])
        note = found["note"] or found["error"]
        if segments is not None and note is not None:
            note = f"The clip could not be read to its end: {note}"
        return [
            state,
            note_html(f"{name}, {found['duration_seconds']:.1f} s."),
            bar + note_html(note or ""),
            ranking_html(found["ranking"]),
            gr.DownloadButton(value=str(file), visible=True),
            gr.Column(visible=self._attends),
            gr.Slider(value=len(times) // 2 + 1, maximum=max(len(times), 2)),
            _picture(state, len(times) // 2, None),
            "",
            "",
        ]

    def show_frame(self, state: dict[str, Any] | None, frame: float) -> list[Any]:
        """The frame that the slider points to."""
        try:
            return [_picture(_dropped(state), _index(state, frame), None), gr.skip()]
        except Refused as refused:
            return [None, note_html(str(refused), failed=True)]

    async def attend(self, state: dict[str, Any] | None, frame: float, event: gr.SelectData) -> list[Any]:
        """What the point attends to that was clicked on."""
        try:
            sides = _size(_dropped(state))
        except Refused as refused:
            return [gr.skip(), note_html(str(refused), failed=True), ""]
        try:
            x, y = (float(at) / side for at, side in zip(event.index, sides, strict=True))
            if not (0 <= x <= 1 and 0 <= y <= 1):
                raise ValueError("outside")
            x, y = min(x, 0.9999), min(y, 0.9999)
        except (TypeError, ValueError):
            return [gr.skip(), note_html("That was no point of the frame. Click in it.", failed=True), gr.skip()]
        return await self._attend(state, frame, (y, x))

    async def attend_anywhere(self, state: dict[str, Any] | None, frame: float) -> list[Any]:
        """What the point of a frame attends to whose attention is the least spread out."""
        return await self._attend(state, frame, None)

    async def _attend(self, state: dict[str, Any] | None, frame: float, point: tuple[float, float] | None) -> list[Any]:
        index = _index(state, frame)
        if state is None:
            return [None, note_html("Drop a clip first.", failed=True), ""]
        position = ((index + 0.5) / len(state["times"]), *(point or (None, None)))
        title = f"{state['label']}: frame {index + 1} at {state['times'][index]:.2f} s"
        try:
            with self._workers.admitted():
                png = await self._workers.run(
                    "the clip", "attend", str(Path(state["folder"], "frames.npy")), position, title
                )
            shown = _picture(state, index, point)
        except Refused as refused:
            return [gr.skip(), note_html(str(refused), failed=True), ""]
        where = "a point chosen" if point is None else f"{100 * point[1]:.0f}% across, {100 * point[0]:.0f}% down"
        said = f"Frame {index + 1}, {where}."
        return [shown, note_html(said), picture_html(png, f"Attention. {said}")]


def _nothing(status: str) -> list[Any]:
    """Every output of `look`, emptied."""
    return [
        None,
        status,
        "",
        "",
        gr.DownloadButton(value=None, visible=False),
        gr.Column(visible=False),
        gr.skip(),
        None,
        "",
        "",
    ]


def _index(state: dict[str, Any] | None, frame: float) -> int:
    return min(max(int(frame) - 1, 0), len(state["times"]) - 1 if state else 0)


def _dropped(state: dict[str, Any] | None) -> dict[str, Any]:
    if state is None:
        raise Refused("Drop a clip first.", "not_found")
    return state


def _frames(state: dict[str, Any]) -> np.ndarray:
    try:
        return np.load(Path(state["folder"], "frames.npy"), mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise Refused(NO_LONGER_KEPT, "not_found") from error


def _size(state: dict[str, Any]) -> tuple[int, int]:
    """Width and height of the picture that is shown to be clicked on."""
    height, width = _frames(state).shape[1:3]
    factor = max(round(SHOWN_PX / height), 1)
    return width * factor, height * factor


def _picture(state: dict[str, Any], index: int, point: tuple[float, float] | None) -> Any:
    """A frame to be clicked on, with a ring around the point (down, across) that was."""
    frame = Image.fromarray(np.array(_frames(state)[index]))
    frame = frame.resize(_size(state), Image.Resampling.BICUBIC)
    if point is not None:
        y, x = (at * side for at, side in zip(point, (frame.height, frame.width), strict=True))
        draw = ImageDraw.Draw(frame)
        for radius, colour in ((11, "black"), (9, "white"), (7, "black")):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=2)
    label = f"Frame {index + 1} of {len(state['times'])}, at {state['times'][index]:.2f} s: click a point"
    return gr.Image(value=frame, label=label)
