"""Display names, limits, refusals, the private folder, and the page's HTML."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farfield.errors import FarfieldError
from farfield.server.display_names import display_name, file_stem
from farfield.server.limits import Limits, format_bytes
from farfield.server.private_folder import PrivateFolder
from farfield.server.refusals import STATUSES, Refused


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../folder/marker.mp4", "marker.mp4"),
        ("/folder/marker.mp4", "marker.mp4"),
        (r"C:\videos\..\clip.mp4", "clip.mp4"),
        ("a\r\nX-Marker: b.mp4", "a X-Marker: b.mp4"),
        ("a\x00b\x1b[31m.mp4", "a b [31m.mp4"),
        ("\u202egpj.mp4", "gpj.mp4"),  # a mark that reverses the direction of the text
        ("\udcff.mp4", ".mp4"),  # cannot be written as UTF-8
        ("видео 🎬.mp4", "видео 🎬.mp4"),
        ("", "the video"),
        (None, "the video"),
        ("..", "the video"),
        ("a/", "the video"),
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
def test_a_file_stem_is_valid_on_every_system(name: str, stem: str) -> None:
    assert file_stem(name) == stem


def test_limits_that_are_not_positive_are_refused() -> None:
    with pytest.raises(FarfieldError, match="upload_bytes is 0; it must be positive"):
        Limits(upload_bytes=0)
    with pytest.raises(FarfieldError, match="max_waiting is -1; it must be 0 or more"):
        Limits(max_waiting=-1)
    with pytest.raises(FarfieldError, match=r"kept_bytes is 5, less than .* \(upload_bytes, 6\). Set kept_bytes to"):
        Limits(kept_bytes=5, upload_bytes=6)
    assert Limits(max_waiting=0).max_waiting == 0


def test_a_refusal_can_be_pickled() -> None:
    import pickle

    again = pickle.loads(pickle.dumps(Refused("no", "busy", 7)))
    assert (str(again), again.reason, again.retry_seconds, again.status) == ("no", "busy", 7, 503)
    assert set(STATUSES.values()) <= {400, 403, 404, 408, 413, 422, 500, 503, 504}


@pytest.mark.parametrize(
    ("count", "text"), [(5, "5 bytes"), (2048, "2 KiB"), (200 * 2**20, "200 MiB"), (2**31, "2 GiB")]
)
def test_sizes_are_formatted_with_units(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_the_folder_is_private_and_can_be_removed_twice() -> None:
    folder = PrivateFolder()
    assert folder.path.stat().st_mode & 0o777 == 0o700
    arrives = folder.incoming_file()
    path = arrives.__enter__()
    path.write_bytes(b"12345")
    assert folder.size() == 5
    assert not arrives.__exit__(RuntimeError, RuntimeError("failed"), None)
    assert not path.exists()
    (folder.new_kept_folder() / "a").write_bytes(b"1")
    folder.remove()
    assert not folder.path.exists()
    folder.remove()


def test_the_folder_shows_only_the_pages_files(tmp_path: Path) -> None:
    folder = PrivateFolder()
    try:
        kept = folder.new_kept_folder() / "a.mp4"
        kept.write_bytes(b"1")
        marker = tmp_path / "marker.mp4"
        marker.write_bytes(b"1")
        (folder.path / "link").symlink_to(tmp_path)
        with folder.incoming_file() as path:
            path.write_bytes(b"1")
            outside = [
                str(marker),
                f"{folder.path}/{os.path.relpath(marker, folder.path)}",
                f"{folder.path}/link/marker.mp4",
                "http://127.0.0.1/a.mp4",
                "a.mp4",
                "a\x00b",
                f"{folder.path}2/a.mp4",
                str(path),
            ]
            assert folder.shows(str(kept))
            assert [each for each in outside if folder.shows(each)] == []
    finally:
        folder.remove()


def test_the_folder_of_a_killed_server_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os, signal\n"
        "from farfield.server.private_folder import PrivateFolder\n"
        "kept, left = PrivateFolder(), PrivateFolder()\n"
        "(left.new_kept_folder() / 'a.mp4').write_bytes(b'1')\n"
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
    running.delete_expired(50)
    try:
        new = PrivateFolder()
        found = {path.name for path in tmp_path.iterdir()}
        assert found == {left[3].name, running.path.name, new.path.name, "farfield-serve-link", "lock"}
        assert not new.shows(str(new.path / "lock"))
    finally:
        running.remove()
        new.remove()
    assert not running.path.exists()


def test_expired_files_are_deleted_unless_they_are_in_use() -> None:
    folder = PrivateFolder()
    try:
        old, new = folder.new_kept_folder(), folder.new_kept_folder()
        past = time.time() - 100
        for path in (old / "a", new / "a"):
            path.write_bytes(b"1")
        with folder.incoming_file() as held:
            held.write_bytes(b"1")
            for path in (old / "a", old, held):
                os.utime(path, (past, past))
            folder.delete_expired(50)  # deletes the file, which makes its folder new
            os.utime(old, (past, past))
            folder.delete_expired(50)
            assert not old.exists()
            assert (new / "a").exists()
            assert held.exists()
        assert folder.new_kept_folder().exists()
        running = folder.new_kept_folder()
        (running / "a").write_bytes(b"1")
        with folder.in_use(running), folder.in_use(running):
            for path in (running / "a", running):
                os.utime(path, (past, past))
            folder.delete_expired(50)
            assert (running / "a").exists()
        folder.delete_expired(50)
        assert not (running / "a").exists()
        assert running.exists()  # its time restarted when its request ended
    finally:
        folder.remove()
