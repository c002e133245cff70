"""The web page.

Before this file is imported, `app.GRADIO_ENVIRONMENT` must be copied to `os.environ`, because this file imports Gradio,
which then reads these variables.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw

from farfield.reports.overlapping_labels import NO_CLASS
from farfield.reports.page_fragments import note_html, picture_html, ranking_html, timeline_html
from farfield.server.display_names import UNNAMED, display_name, file_stem
from farfield.server.limits import Limits, format_bytes
from farfield.server.private_folder import PrivateFolder
from farfield.server.refusals import VIDEO_DELETED, Refused
from farfield.server.web_page_style import CSS, FOLLOW_PLAYER
from farfield.server.worker_pool import WorkerPool

SHOWN_PX = 360
"""Approximate height in pixels to which smaller frames are enlarged, so that points in them can be clicked."""
CAMERA = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}}}
"""Resolution requested from a camera. A camera's default resolution may be far higher than a network needs."""
WAITING = note_html("Drop or record a video, and its labels appear here.")
NO_VIDEO = "Drop a video first."


def build_page(workers: WorkerPool, folder: PrivateFolder, description: dict[str, Any]) -> gr.Blocks:
    """Build the page as `gradio.Blocks`, which the application mounts.

    Args:
        workers: worker processes that run the network.
        folder: the server's private folder, which holds the files that the page shows.
        description: result of `WorkerPool.describe`.
    """
    handlers = _Handlers(workers, folder, description["attends"])
    with gr.Blocks(title="farfield: what happens in this video?", analytics_enabled=False) as page:
        state = gr.State(None)
        _html(_heading(description, workers.limits))
        with gr.Row():
            with gr.Column(scale=3):
                video = gr.Video(
                    label="Video",
                    sources=["upload", "webcam"],
                    webcam_options=gr.WebcamOptions(constraints=CAMERA),
                    elem_id="video",
                    buttons=[],
                )
                timeline = _html("", elem_id="labels", js_on_load=FOLLOW_PLAYER)
            with gr.Column(scale=2):
                status = _html(WAITING, elem_id="status")
                ranking = _html("", elem_id="ranking")
                download = gr.DownloadButton("Download as JSON", visible=False, elem_id="download", size="md")
        _html(f"<h2>What a point attends to</h2>{_attention_note(description['attends'])}")
        with gr.Column(visible=False) as attention_column:
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
                    frame = gr.Slider(
                        1, max(description["num_frames"], 2), value=1, step=1, label="Frame", elem_id="frame"
                    )
                    choose = gr.Button("Choose a point of this frame for me", size="md", elem_id="choose")
                    answer = _html("", elem_id="answer")
            attention = _html("", elem_id="attention")
        outputs = [state, status, timeline, ranking, download, attention_column, frame, picture, answer, attention]
        # The worker pool's queue refuses requests when it is full; Gradio's own would keep them waiting silently.
        options: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private"}
        video.change(
            handlers.recognise, video, outputs, show_progress_on=[ranking], trigger_mode="always_last", **options
        )
        if description["attends"]:
            frame.change(handlers.show_frame, [state, frame], [picture, answer], show_progress="hidden", **options)
            attended = [picture, answer, attention]
            picture.select(handlers.attend_to_click, [state, frame], attended, show_progress_on=[answer], **options)
            choose.click(handlers.attend_to_any, [state, frame], attended, show_progress_on=[answer], **options)
    return page


def _html(content: str, **options: Any) -> gr.HTML:
    return gr.HTML(content, apply_default_css=False, **options)  # the default CSS draws a grid in every table


PAGE_OPTIONS: dict[str, Any] = {
    "css": CSS,
    # System fonts: Gradio's own themes load theirs from a font service.
    "theme": gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    "footer_links": [],
    "ssr_mode": False,
    "mcp_server": False,
    "enable_monitoring": False,
    "pwa": False,
    "show_error": False,
}
"""Keyword arguments for `gradio.mount_gradio_app`."""


def _heading(description: dict[str, Any], limits: Limits) -> str:
    subtitle = f"Network {description['network']}, number of labels: {len(description['labels'])}."
    limit_note = (
        f"At most {format_bytes(limits.upload_bytes)} and {limits.clip_seconds:g} s. The server deletes a video "
        f"{max(limits.keep_seconds / 60, 0.1):.2g} minutes after its upload."
    )
    title = "<h1>What happens in this video?</h1>"
    return f"{title}{note_html(f'farfield recognises actions in video. {subtitle}')}{note_html(limit_note)}"


def _attention_note(attends: bool) -> str:
    if not attends:
        return note_html("This network has no non-local blocks, so there is no attention to show.")
    return note_html(
        "Choose one of the frames that the network saw, and click a point in it. Each row of the picture below shows "
        "one inserted block: the brighter a place in a frame, the more the point attends to it."
    )


class _Handlers:
    """Event handlers of the page.

    The argument `state` describes the video on the page: the folder of its frames, the times of the frames, and the
    predicted labels as text (see `_headline`). It is None if the page has no video.
    """

    def __init__(self, workers: WorkerPool, folder: PrivateFolder, attends: bool) -> None:
        self._workers = workers
        self._folder = folder
        self._attends = attends

    async def recognise(self, path: str | None) -> list[Any]:
        """Recognise the actions in an uploaded or recorded video; clear the page if the user has removed the video."""
        if path is None:
            return _cleared(WAITING)
        name = display_name(Path(path).name)
        try:
            with self._workers.queued():
                kept = self._folder.new_kept_folder()
                with self._folder.in_use(Path(path), kept):
                    found = await self._workers.run(name, "recognise", path, name, str(kept / "frames.npy"))
        except Refused as refused:
            return _cleared(note_html(str(refused), failed=True))
        times = found.pop("frame_seconds")
        file = kept / f"{file_stem(name)}.json"
        file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        state = {"folder": str(kept), "times": times, "label": _headline(found)}
        segments = found["segments"]
        bar = "" if segments is None else timeline_html(segments, found["duration_seconds"])
        note = found["note"] or found["error"]
        if segments is not None and note is not None:
            note = f"The video could not be read to its end: {note}"
        return [
            state,
            note_html(f"{name}, {found['duration_seconds']:.1f} s."),
            bar + note_html(note or ""),
            ranking_html(found["ranking"], multilabel=found["task"] == "multilabel"),
            gr.DownloadButton(value=str(file), visible=True),
            gr.Column(visible=self._attends),
            gr.Slider(value=len(times) // 2 + 1, maximum=max(len(times), 2)),
            _picture(state, len(times) // 2, None),
            "",
            "",
        ]

    def show_frame(self, state: dict[str, Any] | None, frame: float) -> list[Any]:
        """Show the frame that the user has selected with the slider."""
        try:
            return [_picture(_require_video(state), _frame_index(state, frame), None), gr.skip()]
        except Refused as refused:
            return [None, note_html(str(refused), failed=True)]

    async def attend_to_click(self, state: dict[str, Any] | None, frame: float, event: gr.SelectData) -> list[Any]:
        """Show the attention maps, one for each block, for the point that the user clicked."""
        try:
            sides = _picture_size(_require_video(state))
        except Refused as refused:
            return [gr.skip(), note_html(str(refused), failed=True), ""]
        try:
            x, y = (float(at) / side for at, side in zip(event.index, sides, strict=True))
            if not (0 <= x <= 1 and 0 <= y <= 1):
                raise ValueError("outside")
            x, y = min(x, 0.9999), min(y, 0.9999)
        except (TypeError, ValueError):
            return [
                gr.skip(),
                note_html("The click was outside of the frame. Click inside it.", failed=True),
                gr.skip(),
            ]
        return await self._attend(state, frame, (y, x))

    async def attend_to_any(self, state: dict[str, Any] | None, frame: float) -> list[Any]:
        """Show the attention map of each block for an automatically chosen point in the selected frame.

        For each block, the point with the lowest entropy of attention is chosen, so the points may differ.
        """
        return await self._attend(state, frame, None)

    async def _attend(self, state: dict[str, Any] | None, frame: float, point: tuple[float, float] | None) -> list[Any]:
        index = _frame_index(state, frame)
        if state is None:
            return [None, note_html(NO_VIDEO, failed=True), ""]
        position = ((index + 0.5) / len(state["times"]), *(point or (None, None)))
        title = f"{state['label']}: frame {index + 1} at {state['times'][index]:.2f} s"
        frames_file = str(Path(state["folder"], "frames.npy"))
        try:
            with self._workers.queued():
                png = await self._workers.run(UNNAMED, "draw_point_attention", frames_file, position, title)
            shown = _picture(state, index, point)
        except Refused as refused:
            return [gr.skip(), note_html(str(refused), failed=True), ""]
        where = "a point chosen" if point is None else f"{100 * point[1]:.0f}% across, {100 * point[0]:.0f}% down"
        caption = f"Frame {index + 1}, {where}."
        return [shown, note_html(caption), picture_html(png, f"Attention. {caption}")]


def _headline(found: dict[str, Any]) -> str:
    """Return the predicted labels as text.

    This is the most probable label or, for a multilabel network, the three most probable labels that reach their
    thresholds.
    """
    if found["task"] != "multilabel":
        return str(found["ranking"][0]["label"])
    labels = [each["label"] for each in found["ranking"] if each["above_threshold"]]
    return ", ".join([*labels[:3], *["..."] * (len(labels) > 3)]) or NO_CLASS


def _cleared(status: str) -> list[Any]:
    """Build the outputs of `recognise` for a page that shows only a status, and no video or result."""
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


def _frame_index(state: dict[str, Any] | None, frame: float) -> int:
    return min(max(int(frame) - 1, 0), len(state["times"]) - 1 if state else 0)


def _require_video(state: dict[str, Any] | None) -> dict[str, Any]:
    if state is None:
        raise Refused(NO_VIDEO, "not_found")
    return state


def _load_frames(state: dict[str, Any]) -> np.ndarray:
    try:
        return np.load(Path(state["folder"], "frames.npy"), mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise Refused(VIDEO_DELETED, "not_found") from error


def _picture_size(state: dict[str, Any]) -> tuple[int, int]:
    """Return the width and height of the picture in which the user clicks a point."""
    height, width = _load_frames(state).shape[1:3]
    factor = max(round(SHOWN_PX / height), 1)
    return width * factor, height * factor


def _picture(state: dict[str, Any], index: int, point: tuple[float, float] | None) -> Any:
    """Draw the frame in which the user clicks, with a ring around `point`.

    `point` is (y, x) as fractions of the frame's height and width, each in [0, 1), or None for no ring.
    """
    frame = Image.fromarray(np.array(_load_frames(state)[index]))
    frame = frame.resize(_picture_size(state), Image.Resampling.BICUBIC)
    if point is not None:
        y, x = (at * side for at, side in zip(point, (frame.height, frame.width), strict=True))
        draw = ImageDraw.Draw(frame)
        for radius, colour in ((11, "black"), (9, "white"), (7, "black")):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=2)
    label = f"Frame {index + 1} of {len(state['times'])}, at {state['times'][index]:.2f} s: click a point"
    return gr.Image(value=frame, label=label)
