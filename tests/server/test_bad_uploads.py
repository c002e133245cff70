"""Many bad uploads at once against the whole server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from server import bad_uploads
from server.conftest import Served

pytestmark = pytest.mark.slow


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
