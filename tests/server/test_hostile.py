"""A hundred hostile files, eight at once, against the whole server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from server import hostile
from server.conftest import Served


def memory_mib(pid: int) -> float:
    """Of a process and its descendants, without what they share with others."""
    total = 0.0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean", "Private_Dirty")):
            total += int(line.split()[1]) / 1024
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        children += path.read_text().split()
    return total + sum(memory_mib(int(child)) for child in set(children))


@pytest.mark.slow
def test_hostile_files_cost_a_message_each(
    server: Served,
    make_video: Callable[..., Path],
    bad_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    video = make_video(40).read_bytes()
    files = hostile.all_files(video, bad_files)
    assert len(files) >= 100
    for _ in range(4):  # both processes have worked before memory is looked at
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
    assert set(statuses) == {200, 400, 413}, statuses
    assert statuses[200] < 15, [name for name, answer in answers if answer.status_code == 200]
    for name, answer in answers:
        found = answer.json()
        assert set(found) >= ({"ranking", "segments"} if answer.ok else {"error", "reason"}), name
        assert str(server.folder) not in answer.text, name
        assert str(tmp_path) not in answer.text, name
        assert "Traceback" not in answer.text, name
        assert "\n" not in found.get("error", ""), name
    too_large = {name for name, answer in answers if answer.status_code == 413}
    assert {"large.gif", "bomb.gif"} <= too_large
    by_name = dict(answers)
    for name in hostile.scripts():
        assert by_name[f"{name}.mp4"].status_code == 400, name
        assert "it is text, not a video" in by_name[f"{name}.mp4"].json()["error"], name
    assert server.health() == {**server.health(), "status": "ok", "busy": 0}
    assert server.ask(video).status_code == 200
    assert server.incoming() == []
    assert after < before + 250, f"{before:.0f} MiB before, {after:.0f} MiB after"
    assert "Traceback" not in server.log.read_text()[logged:]


def test_a_video_beyond_a_limit_is_told_which(server: Served, make_video: Callable[..., Path]) -> None:
    answer = server.ask(make_video(60, fps=1).read_bytes(), "slow.mp4")  # a minute in a few kilobytes
    assert answer.status_code == 413, answer.text
    assert answer.json() == {
        "error": "slow.mp4: it is 60 s long; at most 20 s are taken. Cut it.",
        "reason": "too_long",
    }
    answer = server.ask(hostile.gif_header(15000), "large.gif")
    assert answer.status_code == 413, answer.text
    assert answer.json() == {
        "error": "large.gif: its frames are 15000 x 15000; at most 2.1 million pixels are taken. Send it smaller.",
        "reason": "too_large",
    }
