"""The undocumented parts of Gradio that the server depends on; no other file uses them.

tests/server/test_gradio_compat.py checks each one by name against the installed Gradio. Nothing here imports Gradio, so
that a server without a page does not need it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# The requests that the page sends. Gradio documents neither these routes nor a way to switch off the others, some of
# which fetch addresses for a client or edit its recordings. `middleware` closes all that are not listed here.
UPLOAD_ROUTE = "/gradio_api/upload"
EVENT_ROUTE = "/gradio_api/queue/join"
FILE_ROUTE = "/gradio_api/file="
POST_ROUTES = frozenset({UPLOAD_ROUTE, EVENT_ROUTE, "/gradio_api/cancel", "/gradio_api/reset"})
GET_ROUTES = frozenset(
    {
        "/",
        "/config",
        "/favicon.ico",
        "/manifest.json",
        "/robots.txt",
        "/theme.css",
        "/gradio_api/app_id",
        "/gradio_api/info",
        "/gradio_api/queue/data",
        "/gradio_api/startup-events",
        "/gradio_api/theme.css",
        "/gradio_api/upload_progress",
    }
)
GET_FOLDERS = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/")

TRIM_BUTTON = 'button[aria-label="Trim video to selection"]'
"""CSS selector of the video player's trim button, which no option removes. It downloads a decoder from a public CDN."""


def file_paths(event: Any) -> Iterator[Any]:
    """Yield each value in an event's JSON that Gradio may read as the path of a file.

    Gradio turns an object with a "path" and its own "meta" into a file at any depth (`gradio.FileData`). Here "path"
    alone counts, whatever is beside it.
    """
    if isinstance(event, dict):
        if "path" in event:
            yield event["path"]
        event = list(event.values())
    if isinstance(event, list):
        for value in event:
            yield from file_paths(value)


def enable_upload_check(page: Any) -> None:
    """Make Gradio check that files in events were uploaded to it.

    Gradio skips the check until `launch()` has set `has_launched`; an app that is mounted with `mount_gradio_app` is
    never launched, and neither `allowed_paths` nor `blocked_paths` changes that. `middleware` checks the paths first.

    Args:
        page: the `gradio.Blocks`, mounted.
    """
    page.has_launched = True
