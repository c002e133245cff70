"""Downloads by the real yt-dlp from a local server."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from conftest import number_of
from farfield.curation.download import download
from farfield.errors import FarfieldError
from farfield.video.decoders import open_video

pytest.importorskip("yt_dlp")

pytestmark = pytest.mark.slow


class Site:
    """Serves one video under some names; others are gone, or refused."""

    def __init__(self, content: bytes) -> None:
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/").removesuffix(".mp4")
                site.asked.append(name)
                status = {"gone0000000": 404, "blocked0000": 429, "broken00000": 500}.get(name, 200)
                self.send_response(status)
                body = content if status == 200 else b""
                kind = "application/x-unknown" if name.startswith("odd") else "video/mp4" if body else "text/plain"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/{{id}}.mp4"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def site(make_video: Callable[..., Path]) -> Iterator[Site]:
    site = Site(make_video(200).read_bytes())
    yield site
    site.server.shutdown()


def annotations(folder: Path, *rows: tuple[str, str, int]) -> Path:
    lines = [f"{label},{video},{start},{start + 10},train" for label, video, start in rows]
    (folder / "train.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split", *lines]) + "\n")
    return folder / "train.csv"


def test_clips_are_cut_out_and_failures_kept(
    site: Site, tmp_path: Path, run_farfield: Callable[..., int], capsys
) -> None:
    rows = annotations(
        tmp_path, ("bowling", "video000000", 2), ("../up", "video000001", 5), ("bowling", "gone0000000", 0)
    )
    out = tmp_path / "out"
    command = ["data", "download", rows, out, f"--url={site.url}", "--pause_seconds=0", "--clip_seconds=2"]
    assert run_farfield(*command, "--json") == 1
    about = json.loads(capsys.readouterr().out)
    assert (about["fetched"], about["failed"]) == (2, 1)
    with open_video(out / "bowling/video000000_000002_000004.mp4") as video:
        frames = video.frames(np.arange(len(video.times)))
    assert [number_of(frame) for frame in frames] == list(range(50, 100))
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.mp4")) == [
        "out/_up/video000001_000005_000007.mp4",
        "out/bowling/video000000_000002_000004.mp4",
    ]
    with (out / "failures.csv").open() as file:
        [failure] = csv.DictReader(file)
    assert failure == {"clip": "gone0000000_000000_000002", "reason": "the address does not exist"}

    site.asked.clear()
    assert run_farfield(*command) == 1
    assert site.asked == []  # what is there is there, and what is gone is gone
    assert "2 there already, 1 failed" in capsys.readouterr().out
    recorded = (out / "failures.csv").read_text()
    (out / "failures.csv").write_text(recorded.replace("the address does not exist", "there is nothing at its address"))
    assert run_farfield(*command) == 1
    assert site.asked == []  # the wording of an earlier version is recognised
    assert run_farfield(*command, "--retry") == 1
    assert set(site.asked) == {"gone0000000"}


def test_temporary_failures_are_retried(site: Site, tmp_path: Path) -> None:
    rows = annotations(tmp_path, ("a", "broken00000", 0))
    for _ in range(2):
        site.asked.clear()
        made = download(rows, tmp_path / "out", url=site.url, pause_seconds=0, num_workers=1, progress=False)
        assert list(made.failures) == ["broken00000_000000_000010"]
        assert "500" in made.failures["broken00000_000000_000010"]
        assert site.asked


def test_rate_limiting_stops_the_run(site: Site, tmp_path: Path) -> None:
    rows = annotations(tmp_path, ("a", "blocked0000", 0), *(("a", f"video{i:06d}", 0) for i in range(30)))
    with pytest.raises(FarfieldError, match=r"429.*Run the same command later"):
        download(rows, tmp_path / "out", url=site.url, pause_seconds=0, num_workers=1, progress=False)
    assert len(set(site.asked)) < 10, "it went on"
    made = download(
        annotations(tmp_path, *(("a", f"video{i:06d}", 0) for i in range(3))),
        tmp_path / "out",
        url=site.url,
        pause_seconds=0,
        progress=False,
    )
    assert made.fetched + made.already_there == 3


def test_warnings_are_logged_once_and_counted(
    site: Site, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """yt-dlp warns of a type that it does not know."""
    rows = annotations(tmp_path, ("a", "odd00000000", 0), ("a", "odd00000001", 0), ("a", "video000000", 0))
    command = ["data", "download", rows, tmp_path / "out", f"--url={site.url}", "--pause_seconds=0", "--json"]
    assert run_farfield(*command) == 0
    captured = capsys.readouterr()
    warnings = json.loads(captured.out)["warnings"]
    assert any("could be a direct video link" in text for text in warnings)
    for text, count in warnings.items():
        assert "odd0" not in text
        assert count == 2
        assert captured.err.count(f"farfield: yt-dlp: {text}\n") == 1
        assert captured.err.count(f"warned: 2 x {text}\n") == 1


def test_a_missing_or_old_runtime_is_reported_before_the_first_clip(
    site: Site, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "deno"
    old.write_text("#!/bin/sh\necho deno 1.40.2\n")
    old.chmod(0o755)
    rows = annotations(tmp_path, ("a", "blocked0000", 0))
    of_youtube = site.url.replace("127.0.0.1", "youtube.localhost")
    command = ["data", "download", rows, tmp_path / "out", "--pause_seconds=0"]
    for runtime, lack in (
        (tmp_path / "nowhere", f"deno:{tmp_path / 'nowhere'} was not found. Many"),
        (old, f"{old} is deno 1.40.2, and 2.3.0 or newer is needed. Many"),
    ):
        run_farfield(*command, f"--url={of_youtube}", f"--js_runtime=deno:{runtime}")
        first = capsys.readouterr().err.splitlines()[0]
        assert first.startswith("farfield: yt-dlp has no JavaScript runtime: ")
        assert lack in first
        assert "pip install 'farfield[download]'" in first
        run_farfield(*command, f"--url={site.url}", f"--js_runtime=deno:{runtime}")
        assert "JavaScript" not in capsys.readouterr().err  # other sites need none
    assert run_farfield(*command, f"--url={site.url}", "--js_runtime=nodejs") == 2
    assert "js_runtime is 'nodejs'. Known: " in capsys.readouterr().err
