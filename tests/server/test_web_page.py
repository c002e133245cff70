"""The page in a real browser: headless Chromium, driven by Playwright."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farfield import predict
from farfield.checkpoints.checkpoint import save_model
from farfield.server.gradio_compat import HIDDEN_STATUS, TRIM_BUTTON
from farfield.timelines.options import TimelineOptions
from multilabel import brightness_network, write_stripes
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
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--host-resolver-rules=MAP video.example.org 127.0.0.1",
]
SOON = 60_000
"""Milliseconds that a page may take on a busy machine."""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
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


@pytest.fixture(scope="module")
def multilabel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    """Servers of a multilabel network, and of one that never finds a class."""
    with ExitStack() as servers:
        served = []
        for name, shift in (("several", 0), ("none", 30)):
            model = brightness_network(views_aggregation="max")
            with torch.no_grad():
                model.head.fc.bias -= shift
            folder = tmp_path_factory.mktemp(name)
            save_model(model, folder / "a.ckpt")
            words = ["--checkpoint", str(folder / "a.ckpt"), "--port", "0", "--threads", "1"]
            served.append(servers.enter_context(run_command(words, folder)))
        yield served[0], served[1]


def test_several_labels_at_once_are_shown(
    multilabel: tuple[Served, Served], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    """The answers are those of `predict`; the bars of labels that overlap lie below each other."""
    model, served = brightness_network(views_aggregation="max"), multilabel[0]
    stripes = write_stripes(tmp_path / "stripes.mp4")
    answer = served.ask(stripes.read_bytes(), "a.mp4").json()
    line = predict(stripes, model, timeline=TimelineOptions(hop_seconds=model.clip.span / 20 / 2)).to_dict()
    for name, whole in (("ranking", predict(stripes, model).to_dict()), ("segments", line)):
        assert len(answer[name]) >= 3
        for found, other in zip(answer[name], whole[name], strict=True):
            assert found == pytest.approx(other, abs=1e-5)
    assert answer["task"] == "multilabel"

    page = open_page(served.url, viewport={"width": 1280, "height": 900})
    drop(page, "stripes.mp4", stripes.read_bytes())
    page.wait_for_selector(".ff-ranking")
    above = [each["label"] for each in answer["ranking"] if each["above_threshold"]]
    assert page.locator(".ff-above th").all_inner_texts() == above
    assert sorted(above) == ["bright", "dark", "picture"]
    assert page.locator(".ff-below th").all_inner_texts() == ["Below their thresholds", "fire"]
    bars = page.locator(".ff-bar button")
    assert bars.all_inner_texts() == [each["label"] for each in answer["segments"]]
    boxes = [each.bounding_box() for each in bars.all()]
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            beside = one["x"] >= other["x"] + other["width"] - 1
            assert beside or abs(one["y"] - other["y"]) >= one["height"] - 1
    page.screenshot(path=tmp_path / "several.png", full_page=True)
    assert "one of the classes" not in page.inner_text("body")


def test_a_video_of_none_of_the_classes_is_shown_as_such(
    multilabel: tuple[Served, Served], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    page = open_page(multilabel[1].url, viewport={"width": 390, "height": 844})
    drop(page, "dark.mp4", write_stripes(tmp_path / "dark.mp4", [25] * 30).read_bytes())
    page.wait_for_selector(".ff-ranking")
    assert page.inner_text(".ff-above").strip() == "None of the classes"
    assert "None of the classes at any time." in page.inner_text("#labels")
    assert page.locator(".ff-bar button").count() == 0
    page.screenshot(path=tmp_path / "none.png", full_page=True)


def test_the_page_works_under_the_name_of_a_proxy(
    open_page: Callable[..., Any], make_video: Callable[..., Path], server: Served
) -> None:
    page = open_page(server.url.replace("127.0.0.1", "video.example.org"))
    drop(page, "a.mp4", make_video(60).read_bytes())
    page.wait_for_selector(".ff-ranking")


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
