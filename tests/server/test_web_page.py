"""The whole server: its page in a real browser (headless Chromium, driven by Playwright), Gradio's routes, bad uploads.

All in one file, so that one process starts the server for all of them.

Gradio's routes: only the page's own files are served or read, and no address is fetched. The guard is for requests that
name other files of the machine. Marker files stand for these: no answer may hold their text.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch

from farfield import predict
from farfield.checkpoints.checkpoint import save_model
from farfield.models.network import ActionNet
from farfield.server.gradio_compat import HIDDEN_STATUS, TRIM_BUTTON
from farfield.timelines.options import TimelineOptions
from farfield.untrusted_json import MAX_LEVELS
from multilabel import brightness_network, write_stripes
from server import bad_uploads
from server.conftest import LABELS, Served, run_command

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream=fps=10",
    "--use-fake-ui-for-media-stream",
    "--host-resolver-rules=MAP video.example.org 127.0.0.1",
]
SOON = 60_000
"""Milliseconds that a page may take on a busy machine."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install farfield[dev]"
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, server: Served) -> Iterator[Callable[..., Any]]:
    """Open pages; at the end, check that they loaded nothing from elsewhere and logged no error."""
    asked: list[str] = []
    complaints: list[str] = []
    contexts = []

    urls = [server.url]

    def open_it(url: str = server.url, **options: Any) -> Any:
        urls.append(url)
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SOON)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#video input[type=file]", state="attached")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert len(asked) > 10
    assert [url for url in asked if not url.removeprefix("blob:").startswith((*urls, "data:"))] == []
    assert complaints == []


def drop(page: Any, name: str, content: bytes) -> None:
    page.set_input_files("#video input[type=file]", {"name": name, "mimeType": "video/mp4", "buffer": content})


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_a_video_is_recognised_and_a_click_shows_attention(
    open_page: Callable[..., Any],
    make_video: Callable[..., Path],
    server: Served,
    tmp_path: Path,
    width: int,
    height: int,
) -> None:
    page = open_page(viewport={"width": width, "height": height})
    drop(page, "my <b>clip.mp4", make_video(60).read_bytes())
    page.wait_for_selector(".ff-ranking")
    ranking = page.locator(".ff-ranking th").all_inner_texts()
    assert len(ranking) == 5
    assert set(ranking) <= set(LABELS)  # shown as text, even where a label looks like HTML
    assert page.locator(".ff-ranking b, .ff-ranking script").count() == 0
    assert re.search(r"my .*clip.*mp4, 2\.4 s\.", page.inner_text("#status"))
    segments = page.locator(".ff-bar button")
    assert segments.count() >= 1
    assert segments.first.get_attribute("aria-label").startswith(segments.first.inner_text())

    with page.expect_download() as download:
        page.click("#download")
    found = json.loads(Path(download.value.path()).read_text())
    assert download.value.suggested_filename.endswith(".json")
    assert [each["label"] for each in found["ranking"]] == ranking
    assert [each["label"] for each in found["segments"]] == [
        segments.nth(i).inner_text() for i in range(segments.count())
    ]
    assert str(tmp_path.parent.parent) not in json.dumps(found)

    page.locator("#frame input[type=number]").fill("3")
    page.locator("#frame input[type=number]").press("Enter")
    page.wait_for_selector("#picture label:has-text('Frame 3 of 8')")
    page.wait_for_function("() => { const i = document.querySelector('#picture img'); return i && i.complete }")
    box = page.locator("#picture img").bounding_box()
    page.locator("#picture img").click(position={"x": 0.7 * box["width"], "y": 0.2 * box["height"]})
    page.wait_for_selector("#attention img")
    said = page.inner_text("#answer")
    across, down = map(int, re.findall(r"(\d+)%", said))
    assert said.startswith("Frame 3, ")
    assert across == pytest.approx(70, abs=2)
    assert down == pytest.approx(20, abs=2)
    assert page.locator("#attention img").evaluate("image => image.naturalWidth") > 500
    page.wait_for_timeout(500)
    page.screenshot(path=tmp_path / "attention.png", full_page=True)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, "the page is wider than its window"
    first = page.get_attribute("#attention img", "src")
    page.click("#choose")
    page.wait_for_selector("#answer :text('a point chosen')")
    page.wait_for_function("before => document.querySelector('#attention img')?.src !== before", arg=first)

    for kept in (server.folder / "kept").iterdir():  # as after keep_seconds
        shutil.rmtree(kept)
    if width > height:
        page.locator("#frame input[type=number]").fill("5")
        page.locator("#frame input[type=number]").press("Enter")
    else:
        page.click("#picture img")
    page.wait_for_selector("#answer :text('The video has been deleted. Upload it again.')")


def reluctant_network() -> ActionNet:
    """Return the brightness network, which finds no class in light grey, and picture only in what is brighter."""
    network = brightness_network(views_aggregation="max")
    with torch.no_grad():
        weight, bias = network.head.fc.weight, network.head.fc.bias
        bias -= 2
        weight[2], bias[2] = weight[0], bias[0] + 1
    return network


@pytest.fixture(scope="module")
def multilabel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of a multilabel network. SIGHUP ends it, which removes its folder and all uploads, see `run_command`."""
    folder = tmp_path_factory.mktemp("multilabel")
    save_model(reluctant_network(), folder / "a.ckpt")
    words = ["--checkpoint", str(folder / "a.ckpt"), "--port", "0", "--threads", "1", "--limits.num_workers", "1"]
    heeded = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN  # unless nohup runs the tests
    with run_command(words, folder, ended_by=signal.SIGHUP if heeded else signal.SIGTERM) as served:
        yield served
        sent = requests.post(f"{served.url}/gradio_api/upload", files={"files": ("a.mp4", b"12345")}, timeout=10)
        assert Path(sent.json()[0]).is_file()


@pytest.mark.slow
def test_several_labels_at_once_are_shown(multilabel: Served, open_page: Callable[..., Any], tmp_path: Path) -> None:
    """The answers are those of `predict`; the bars of labels that overlap lie below each other."""
    model = reluctant_network()
    stripes = write_stripes(tmp_path / "stripes.mp4")
    answer = multilabel.ask(stripes.read_bytes(), "a.mp4").json()
    line = predict(stripes, model, timeline=TimelineOptions(hop_seconds=model.clip.span / 20 / 2)).to_dict()
    for name, whole in (("ranking", predict(stripes, model).to_dict()), ("segments", line)):
        assert len(answer[name]) >= 3
        for found, other in zip(answer[name], whole[name], strict=True):
            assert found == pytest.approx(other, abs=1e-5)
    assert answer["task"] == "multilabel"

    page = open_page(multilabel.url, viewport={"width": 1280, "height": 900})
    drop(page, "stripes.mp4", stripes.read_bytes())
    page.wait_for_selector(".ff-ranking")
    above = [each["label"] for each in answer["ranking"] if each["above_threshold"]]
    assert page.locator(".ff-above th").all_inner_texts() == above
    assert sorted(above) == ["bright", "dark", "picture"]
    assert page.locator(".ff-below th").all_inner_texts() == ["Below their thresholds", "fire"]
    bars = page.locator(".ff-bar button")
    assert bars.all_inner_texts() == [each["label"] for each in answer["segments"]]
    boxes = [each.bounding_box() for each in bars.all()]
    assert len({each["y"] for each in boxes}) > 1
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            beside = one["x"] >= other["x"] + other["width"] - 1
            assert beside or abs(one["y"] - other["y"]) >= one["height"] - 1
    page.screenshot(path=tmp_path / "several.png", full_page=True)
    assert "one of the classes" not in page.inner_text("body")


@pytest.mark.slow
def test_a_video_of_none_of_the_classes_is_shown_as_such(
    multilabel: Served, open_page: Callable[..., Any], tmp_path: Path
) -> None:
    page = open_page(multilabel.url, viewport={"width": 390, "height": 844})
    drop(page, "grey.mp4", write_stripes(tmp_path / "grey.mp4", [180] * 30).read_bytes())
    page.wait_for_selector(".ff-ranking")
    assert page.inner_text(".ff-above").strip() == "None of the classes"
    assert "None of the classes at any time." in page.inner_text("#labels")
    assert page.locator(".ff-bar button").count() == 0
    page.screenshot(path=tmp_path / "none.png", full_page=True)


@pytest.mark.slow
def test_the_page_works_under_the_name_of_a_proxy(
    open_page: Callable[..., Any], make_video: Callable[..., Path], server: Served
) -> None:
    page = open_page(server.url.replace("127.0.0.1", "video.example.org"))
    drop(page, "a.mp4", make_video(60).read_bytes())
    page.wait_for_selector(".ff-ranking")


@pytest.mark.slow
def test_a_segment_moves_the_player(open_page: Callable[..., Any], make_video: Callable[..., Path]) -> None:
    page = open_page()
    drop(page, "a.mp4", make_video(60).read_bytes())
    page.wait_for_selector(".ff-bar button")
    page.wait_for_function("document.querySelector('#video video')?.readyState >= 1")
    trim = page.locator(f"#video {TRIM_BUTTON}")
    assert trim.count() == 1, "Gradio's trim button is gone; adapt server/gradio_compat.py"
    assert not trim.is_visible()
    page.evaluate("document.querySelector('#video video').currentTime = 1")
    page.wait_for_function("parseFloat(document.querySelector('.ff-playhead').style.left) > 30")
    page.locator(".ff-bar button").first.click(position={"x": 5, "y": 5})
    page.wait_for_function("parseFloat(document.querySelector('.ff-playhead').style.left) < 1")


@pytest.mark.slow
@pytest.mark.parametrize("last", ["player", "server"])
def test_a_file_that_is_not_a_video_is_reported_and_the_page_still_works(
    open_page: Callable[..., Any], make_video: Callable[..., Path], server: Served, last: str
) -> None:
    page = open_page()
    held: list[Any] = []  # requests of the player or of the recognition, whichever shall be answered last
    delayed = "**/gradio_api/file=**" if last == "player" else "**/gradio_api/queue/join**"
    page.route(delayed, lambda request: held.append(request))
    drop(page, "<img src=x onerror=marker()>.mp4", b"this is no video\n" * 9)
    answers = {"server": ".ff-failed", "player": ".toast-body:has-text('Video not playable')"}
    page.wait_for_selector(answers["server" if last == "player" else "player"])
    for request in held:
        request.continue_()
    page.unroute(delayed)
    page.wait_for_selector(answers[last])
    hidden = page.locator(f"#video {HIDDEN_STATUS} button").count()
    assert hidden == (last == "player"), "Gradio's hidden button is gone; adapt server/gradio_compat.py"
    said = page.inner_text("#status")
    assert said.startswith("That did not work. ")
    assert said.endswith("it is text, not a video")
    assert str(server.folder) not in said
    assert page.locator("#status img").count() == 0
    page.locator("#video").get_by_role("button", name="Clear").click()  # the only one that can be reached
    page.wait_for_selector("#status:has-text('Drop or record a video')")
    drop(page, "good.mp4", make_video(60).read_bytes())
    page.wait_for_selector(".ff-ranking")


@pytest.mark.slow
def test_a_video_can_be_recorded(open_page: Callable[..., Any]) -> None:
    page = open_page(color_scheme="dark")
    page.click("#video button[aria-label='Capture from camera']")
    page.click("#video button:has-text('Click to Access Webcam')")
    page.click("#video button[aria-label='start recording']")
    page.wait_for_selector("#video .capture-button:has-text('Stop')")
    page.wait_for_timeout(4000)  # on a busy machine, the first picture comes late
    page.click("#video .capture-button")
    page.wait_for_selector(".ff-ranking, .ff-failed")
    assert re.fullmatch(r"\S+\.webm, \d\.\d s\.", page.inner_text("#status"))
    colours = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.ff-note')).color]"
    )
    background, text = (np.mean([int(part) for part in re.findall(r"\d+", each)[:3]]) for each in colours)
    assert text - background > 120, "dark mode cannot be read"


# --- Gradio's routes -------------------------------------------------------------------------------------------------


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file outside of the server's folder."""
    path = tmp_path / "marker.mp4"
    path.write_text("text of the marker")
    return path


def test_only_the_pages_files_are_served(server: Served, marker: Path, checkpoint: Path) -> None:
    held = server.folder / "incoming" / "a.mp4"
    held.write_bytes(b"text of the marker")
    way = os.path.relpath(marker, server.folder)
    paths = [
        str(marker),
        str(checkpoint),
        way,
        way.replace("/", "%2f"),
        f"{server.folder}/{way}",
        f"{server.folder}/../log",
        f"{server.folder}/page/../../log",
        str(held),
        "pyproject.toml",
        "http://127.0.0.1:1/a",
        "https://example.com/a",
        f"file://{marker}",
    ]
    try:
        for path in paths:
            session = requests.Session()
            request = requests.Request("GET", server.url).prepare()
            request.url = f"{server.url}/gradio_api/file={path}"  # set here because requests would resolve the dots
            answer = session.send(request, timeout=10)
            assert answer.status_code == 404, path
            assert "text of the marker" not in answer.text
    finally:
        held.unlink()


def test_an_uploaded_file_is_served_back(server: Served) -> None:
    sent = requests.post(f"{server.url}/gradio_api/upload", files={"files": ("a.mp4", b"12345")}, timeout=10)
    (path,) = sent.json()
    assert Path(path).is_relative_to(server.folder / "page")
    assert requests.get(f"{server.url}/gradio_api/file={path}", timeout=10).content == b"12345"
    for name in ("../../../a.mp4", "/folder/a.mp4"):
        sent = requests.post(f"{server.url}/gradio_api/upload", files={"files": (name, b"1")}, timeout=10)
        assert all(Path(each).is_relative_to(server.folder / "page") for each in sent.json())
        assert not any(".." in each for each in sent.json())


def test_the_pages_uploads_are_limited(server: Served) -> None:
    answer = requests.post(
        f"{server.url}/gradio_api/upload", files={"files": ("a.mp4", b"1" * (4 * 2**20))}, timeout=20
    )
    assert (answer.status_code, answer.text) == (
        413,
        "The request is larger than the limit of 3 MiB. Send a smaller request.",
    )


def event(server: Served, value: Any) -> requests.Response:
    body = {"data": [value], "fn_index": 0, "session_hash": "abc"}
    return requests.post(f"{server.url}/gradio_api/queue/join", json=body, timeout=10)


def test_an_event_may_name_uploaded_files_only(server: Served, marker: Path) -> None:
    before = server.health()
    kind = {"_type": "gradio.FileData"}
    for path in (
        str(marker),
        os.path.relpath(marker),
        f"{server.folder}/{os.path.relpath(marker, server.folder)}",
        "http://127.0.0.1:1/a.mp4",
        f"{server.folder}/../log",
        7,
    ):
        for value in ({"path": path, "meta": kind}, {"video": {"path": path, "meta": kind, "is_stream": True}}):
            answer = event(server, value)
            assert answer.status_code == 403, path
            assert answer.text == "The event refers to a file that was not uploaded to this server."
    too_deep = "[" * (MAX_LEVELS + 1) + "]" * (MAX_LEVELS + 1)
    assert event(server, too_deep).status_code == 200  # as a text, it is allowed
    cases = ((too_deep, "it is nested more than 100 levels deep"), ("{", "it is not JSON (line 1, column 2)"))
    for body, reason in cases:
        answer = requests.post(f"{server.url}/gradio_api/queue/join", data=body, timeout=10)
        assert (answer.status_code, answer.text) == (400, f"The event is malformed: {reason}.")
    assert event(server, "x" * 300_000).status_code == 413
    assert [path for path in server.folder.rglob("*") if path.name.startswith("marker")] == []
    assert server.health()["status"] == before["status"]


@pytest.mark.parametrize(
    "path",
    [
        "proxy=https://example.com",
        "file/folder/marker.mp4",
        "custom_component/1/a/b/c",
        "deep_link",
        "runs",
        "vibe-code",
        "call/x",
    ],
)
def test_unused_routes_are_closed(server: Served, path: str) -> None:
    assert requests.get(f"{server.url}/gradio_api/{path}", timeout=10).status_code == 404
    assert requests.post(f"{server.url}/gradio_api/{path}", json={}, timeout=10).status_code == 404


@pytest.mark.parametrize(
    "path", ["process_recording", "component_server", "vibe-edit", "run/look", "api/look", "call/look"]
)
def test_unused_routes_accept_no_data(server: Served, path: str) -> None:
    answer = requests.post(f"{server.url}/gradio_api/{path}", json={"data": [None]}, timeout=10)
    assert answer.status_code == 404
    assert answer.text.startswith("Not found.")


# --- bad uploads -----------------------------------------------------------------------------------------------------


def memory_mib(pid: int) -> float:
    """Return the private memory of a process and its descendants."""
    total = 0.0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean", "Private_Dirty")):
            total += int(line.split()[1]) / 1024
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        children += path.read_text().split()
    return total + sum(memory_mib(int(child)) for child in set(children))


@pytest.mark.slow
def test_each_bad_upload_gets_a_message_and_leaves_nothing_behind(
    server: Served,
    make_video: Callable[..., Path],
    bad_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    video = make_video(40).read_bytes()
    files = 2 * bad_uploads.all_files(video, bad_files)
    assert len(files) >= 100
    for _ in range(4):  # both processes have worked before their memory is measured
        assert server.ask(video).status_code == 200
    before = memory_mib(server.pid)
    assert server.log is not None
    logged = len(server.log.read_text())

    def ask(file: tuple[str, bytes]) -> tuple[str, requests.Response]:
        return file[0], server.ask(file[1], file[0])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, files))
    after = memory_mib(server.pid)
    statuses = Counter(answer.status_code for _, answer in answers)
    print(f"{len(files)} files, {dict(statuses)}, {before:.0f} MiB before and {after:.0f} MiB after")
    assert set(statuses) == {200, 400}, statuses
    assert statuses[200] < 30, [name for name, answer in answers if answer.status_code == 200]
    for name, answer in answers:
        found = answer.json()
        assert set(found) >= ({"ranking", "segments"} if answer.ok else {"error", "reason"}), name
        assert str(server.folder) not in answer.text, name
        assert str(tmp_path) not in answer.text, name
        assert "Traceback" not in answer.text, name
        assert "\n" not in (found.get("error") or ""), name
    by_name = dict(answers)
    for name in bad_uploads.texts():
        assert by_name[f"{name}.mp4"].status_code == 400, name
        assert "it is text, not a video" in by_name[f"{name}.mp4"].json()["error"], name
    for name in ("picture.png", "picture.mp4", "clips.zip", "clip.mp4.gz"):
        assert by_name[name].status_code == 400, name
    assert server.health() == {**server.health(), "status": "ok", "busy": 0}
    assert server.ask(video).status_code == 200
    assert server.incoming() == []
    assert after < before + 250, f"{before:.0f} MiB before, {after:.0f} MiB after"
    assert "Traceback" not in server.log.read_text()[logged:]


@pytest.mark.slow
def test_a_video_beyond_a_limit_is_refused_with_the_limit(server: Served, make_video: Callable[..., Path]) -> None:
    answer = server.ask(make_video(60, fps=1).read_bytes(), "slow.mp4")  # a minute in a few kilobytes
    assert answer.status_code == 413, answer.text
    error = "slow.mp4: it is 60 s long; the limit is 20 s. Cut the video."
    assert answer.json() == {"error": error, "reason": "too_long"}
    answer = server.ask(bad_uploads.gif(2, height=600, width=800), "large.gif")
    assert answer.status_code == 413, answer.text
    assert answer.json() == {
        "error": "large.gif: its frames are 800 x 600; the limit is 0.4 million pixels. Scale the video down.",
        "reason": "too_large",
    }
