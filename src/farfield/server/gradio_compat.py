"""The undocumented parts of Gradio that the server depends on; no other file uses them.

tests/server/test_gradio_compat.py checks that the installed Gradio still has each of these parts. This file does not
import Gradio, so that a server without a page does not need Gradio.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Routes of the requests that the page sends. Gradio has other routes, some of which fetch URLs for a client or edit its
# recordings, and documents no way to switch them off. `middleware` refuses every route that is not listed here.
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
"""CSS selector of the video player's trim button, which downloads a decoder from a public CDN. No option removes it."""
HIDDEN_STATUS = '[data-testid="status-tracker"].hide'
"""CSS selector of a component's status overlay while it is hidden. Gradio only makes the overlay transparent.

If a browser reports, after the server's answer, that it cannot play a video, the overlay has a button "Clear". This
button is invisible and lies behind the video player's own button "Clear", but keyboards and screen readers reach it.
"""

QUEUE_SECONDS = 0.05
"""Time in seconds between two looks at the queue of events: Gradio's own value on Windows."""
PROGRESS_SECONDS = 0.1
"""Time in seconds between two updates of a progress bar: Gradio's own value on Windows."""


def file_paths(event: Any) -> Iterator[Any]:
    """Yield each value in an event's JSON that Gradio may read as the path of a file.

    At any depth of the JSON, Gradio reads an object as a file if it has a "path" and the "meta" of `gradio.FileData`.
    To be safe, this function yields every "path", even if its object has no such "meta".
    """
    if isinstance(event, dict):
        if "path" in event:
            yield event["path"]
        event = list(event.values())
    if isinstance(event, list):
        for value in event:
            yield from file_paths(value)


def enable_upload_check(page: Any) -> None:
    """Make Gradio check that the files in a client's events were uploaded to Gradio.

    Gradio skips this check until `launch()` has set `has_launched`. An app that is mounted with `mount_gradio_app` is
    never launched, so Gradio would never check, even if `allowed_paths` or `blocked_paths` is set. `middleware` checks
    the same paths before Gradio does.

    Args:
        page: the mounted `gradio.Blocks`.
    """
    page.has_launched = True


def poll_less_often(page: Any) -> None:
    """Make Gradio poll its queue 20 times a second and its progress bars 10 times, in place of 1,000 and 100.

    With Gradio 6.31's own values, the server takes 7% of a core while nobody uses its page
    (findings/gradio-idle-queue-wakes-a-thousand-times.sh prints it). An event may now begin up to `QUEUE_SECONDS`
    later.

    Args:
        page: the mounted `gradio.Blocks`.
    """
    page._queue.sleep_when_free = QUEUE_SECONDS
    page._queue.progress_update_sleep_when_free = PROGRESS_SECONDS
