from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farfield.errors import FarfieldError
from farfield.server.display_names import display_name, file_stem
from farfield.server.limits import STATUSES, Limits, Refused, as_size
from farfield.server.private_folder import PrivateFolder


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        (r"C:\videos\..\clip.mp4", "clip.mp4"),
        ("a\r\nSet-Cookie: b.mp4", "a Set-Cookie: b.mp4"),
        ("a\x00b\x1b[31m.mp4", "a b [31m.mp4"),
        ("\u202egpj.mp4", "gpj.mp4"),  # would turn the direction of the text
        ("\udcff.mp4", ".mp4"),  # cannot be written as UTF-8
        ("видео 🎬.mp4", "видео 🎬.mp4"),
        ("", "the clip"),
        (None, "the clip"),
        ("..", "the clip"),
        ("a/", "the clip"),
    ],
)
def test_a_name_becomes_one_printable_line(given: str | None, shown: str) -> None:
    assert display_name(given) == shown
    assert display_name(given).encode()


def test_a_long_name_keeps_both_ends() -> None:
    shown = display_name("a" * 290 + "_the_end.mp4")
    assert len(shown) == 80
    assert shown.startswith("aaaa")
    assert shown.endswith("_the_end.mp4")


@pytest.mark.parametrize(
    ("name", "stem"), [("clip.mp4", "clip"), ("a b<c>.webm", "a_b_c"), ("видео.mp4", "clip"), ("x" * 99, "x" * 40)]
)
def test_a_file_is_called_what_any_system_takes(name: str, stem: str) -> None:
    assert file_stem(name) == stem


def test_a_bound_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(FarfieldError, match="upload_bytes is 0; it must be positive"):
        Limits(upload_bytes=0)
    with pytest.raises(FarfieldError, match="max_waiting is -1; it must be 0 or more"):
        Limits(max_waiting=-1)
    with pytest.raises(FarfieldError, match=r"kept_bytes is 5 and upload_bytes 6: .* Raise kept_bytes to upload_bytes"):
        Limits(kept_bytes=5, upload_bytes=6)
    assert Limits(max_waiting=0).max_waiting == 0


def test_a_refusal_survives_the_way_between_processes() -> None:
    import pickle

    again = pickle.loads(pickle.dumps(Refused("no", "busy", 7)))
    assert (str(again), again.reason, again.retry_seconds, again.status) == ("no", "busy", 7, 503)
    assert set(STATUSES.values()) <= {400, 403, 404, 408, 413, 422, 500, 503, 504}


@pytest.mark.parametrize(
    ("count", "text"), [(5, "5 bytes"), (2048, "2 KiB"), (200 * 2**20, "200 MiB"), (2**31, "2 GiB")]
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert as_size(count) == text


def test_the_folder_is_private_and_ends() -> None:
    folder = PrivateFolder()
    assert folder.path.stat().st_mode & 0o777 == 0o700
    arrives = folder.incoming()
    path = arrives.__enter__()
    path.write_bytes(b"12345")
    assert folder.size() == 5
    assert not arrives.__exit__(RuntimeError, RuntimeError("failed"), None)
    assert not path.exists()
    (folder.keep() / "a").write_bytes(b"1")
    folder.remove()
    assert not folder.path.exists()
    folder.remove()


def test_the_folder_holds_only_what_the_page_shows(tmp_path: Path) -> None:
    folder = PrivateFolder()
    try:
        kept = folder.keep() / "a.mp4"
        kept.write_bytes(b"1")
        (folder.path / "link").symlink_to("/etc")
        with folder.incoming() as path:
            path.write_bytes(b"1")
            outside = [
                "/etc/passwd",
                f"{folder.path}/../../etc/passwd",
                f"{folder.path}/link/passwd",
                "http://127.0.0.1/a.mp4",
                "a.mp4",
                "a\x00b",
                f"{folder.path}2/a.mp4",
                str(path),
            ]
            assert folder.holds(str(kept))
            assert [each for each in outside if folder.holds(each)] == []
    finally:
        folder.remove()


def test_what_a_killed_server_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os, signal\n"
        "from farfield.server.private_folder import PrivateFolder\n"
        "kept, left = PrivateFolder(), PrivateFolder()\n"
        "(left.keep() / 'a.mp4').write_bytes(b'1')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    left = sorted(tmp_path.glob("farfield-serve-*"))
    assert len(left) == 4
    running = PrivateFolder()
    (tmp_path / "farfield-serve-link").symlink_to(tmp_path)
    (tmp_path / "lock").touch()
    past = time.time() - 100
    for path in (*left[:3], running.path, tmp_path):
        os.utime(path / "lock", (past, past))
    running.sweep(50)
    try:
        new = PrivateFolder()
        found = {path.name for path in tmp_path.iterdir()}
        assert found == {left[3].name, running.path.name, new.path.name, "farfield-serve-link", "lock"}
        assert not new.holds(str(new.path / "lock"))
    finally:
        running.remove()
        new.remove()
    assert not running.path.exists()


def test_the_sweep_takes_what_is_old_but_nothing_that_a_request_holds() -> None:
    folder = PrivateFolder()
    try:
        old, new = folder.keep(), folder.keep()
        past = time.time() - 100
        for path in (old / "a", new / "a"):
            path.write_bytes(b"1")
        with folder.incoming() as held:
            held.write_bytes(b"1")
            for path in (old / "a", old, held):
                os.utime(path, (past, past))
            folder.sweep(50)  # the file, whose folder is changed by that
            os.utime(old, (past, past))
            folder.sweep(50)
            assert not old.exists()
            assert (new / "a").exists()
            assert held.exists()
        assert folder.keep().exists()
        running = folder.keep()
        (running / "a").write_bytes(b"1")
        with folder.held(running), folder.held(running):
            for path in (running / "a", running):
                os.utime(path, (past, past))
            folder.sweep(50)
            assert (running / "a").exists()
        folder.sweep(50)
        assert not (running / "a").exists()
        assert running.exists()  # since its request ended, it is new
    finally:
        folder.remove()
