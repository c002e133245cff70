"""Gradio's undocumented parts, by name. Where one is gone, adapt server/gradio_compat.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Match, Mount

from farfield.server import gradio_compat
from farfield.server.limits import Limits, ServerSettings
from farfield.server.private_folder import PrivateFolder

ADAPT = "in the installed Gradio; adapt server/gradio_compat.py"


@pytest.fixture(scope="module")
def gradio() -> Any:
    """Gradio, imported only here: every process collects all tests, and the import takes a second."""
    return pytest.importorskip("gradio", reason="gradio is not installed: pip install farfield[demo]")


@pytest.fixture(scope="module")
def mounted(gradio: Any) -> Iterator[Any]:
    """Gradio's own application, with our page, as the server mounts it."""
    from fastapi import FastAPI

    from farfield.server.app import GRADIO_ENVIRONMENT, _mount_page
    from farfield.server.worker_pool import WorkerPool

    folder, app = PrivateFolder(), FastAPI()
    description = {"network": "tiny", "labels": ["a", "b"], "num_frames": 8, "attends": False}
    workers = WorkerPool(ServerSettings("none.ckpt", Limits()))
    with pytest.MonkeyPatch.context() as patch:
        for name in (*GRADIO_ENVIRONMENT, "GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE"):
            patch.setenv(name, "")  # restored at the end
        try:
            _mount_page(app, workers, folder, description)
            (mount,) = [route for route in app.routes if isinstance(route, Mount)]
            yield mount.app
        finally:
            workers.stop()
            folder.remove()


def has_route(app: Any, method: str, path: str) -> bool:
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] == Match.FULL for route in app.routes)


GETS = [
    *sorted(gradio_compat.GET_ROUTES),
    gradio_compat.FILE_ROUTE + "/a",
    *(f"{f}a" for f in gradio_compat.GET_FOLDERS),
]


@pytest.mark.parametrize("path", GETS)
def test_gradio_has_the_get_route(mounted: Any, path: str) -> None:
    assert has_route(mounted, "GET", path), f"there is no GET {path} {ADAPT}"


@pytest.mark.parametrize("path", sorted(gradio_compat.POST_ROUTES))
def test_gradio_has_the_post_route(mounted: Any, path: str) -> None:
    assert has_route(mounted, "POST", path), f"there is no POST {path} {ADAPT}"
    assert not has_route(mounted, "POST", f"{path}-that-does-not-exist")


def test_gradio_recognises_files_in_events_by_their_path(gradio: Any) -> None:
    content = gradio.FileData(path="/folder/a.mp4").model_dump()
    assert list(gradio_compat.file_paths({"data": [[content], 1, "a"]})) == ["/folder/a.mp4"], (
        f"FileData has no 'path' {ADAPT}"
    )


def test_has_launched_turns_the_upload_check_on(gradio: Any, mounted: Any, tmp_path: Path) -> None:
    from gradio import processing_utils
    from gradio.context import LocalContext
    from gradio.exceptions import InvalidPathError

    page = mounted.get_blocks()
    assert vars(gradio.Blocks()).get("has_launched") is False, f"Blocks has no has_launched {ADAPT}"
    assert page.has_launched is True, "_mount_page does not turn the upload check on"
    assert page.max_file_size == Limits().upload_bytes
    marker = tmp_path / "marker.mp4"
    marker.write_text("not uploaded")
    token = LocalContext.blocks.set(page)
    try:
        with pytest.raises(InvalidPathError, match="it was not uploaded by a user"):
            processing_utils._check_allowed(str(marker), check_in_upload_folder=True)
        page.has_launched = False
        processing_utils._check_allowed(str(marker), check_in_upload_folder=True)  # the reason for the attribute
    finally:
        page.has_launched = True
        LocalContext.blocks.reset(token)


def test_the_player_has_the_trim_button(gradio: Any) -> None:
    label = gradio_compat.TRIM_BUTTON.split('"')[1]
    scripts = (Path(gradio.__file__).parent / "templates" / "frontend" / "assets").glob("*.js")
    assert any(label in script.read_text(encoding="utf-8") for script in scripts), (
        f"no button is labelled {label!r} {ADAPT}"
    )


def test_components_have_a_status_overlay(gradio: Any) -> None:
    name = gradio_compat.HIDDEN_STATUS.split('"')[1]
    scripts = (Path(gradio.__file__).parent / "templates" / "frontend" / "assets").glob("statustracker-*.js")
    assert any(f'data-testid="{name}"' in script.read_text(encoding="utf-8") for script in scripts), (
        f"no status overlay has the data-testid {name!r} {ADAPT}"
    )


def test_the_queue_is_polled_less_often(gradio: Any, mounted: Any) -> None:
    with gradio.Blocks() as plain:
        pass
    names = ("sleep_when_free", "progress_update_sleep_when_free")
    assert all(hasattr(plain._queue, name) for name in names), f"the queue's {names} are not {ADAPT}"
    queue = mounted.get_blocks()._queue
    assert [getattr(queue, name) for name in names] == [gradio_compat.QUEUE_SECONDS, gradio_compat.PROGRESS_SECONDS]
