"""The serve command: its error messages, and the names to which it answers."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.commands import serve as command
from farfield.server.app import own_host_names

pytestmark = pytest.mark.slow


def test_a_missing_extra_is_named(
    run_farfield: Callable[..., int],
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "gradio" else find(name))
    assert run_farfield("serve", "--checkpoint", checkpoint) == 2
    said = capsys.readouterr().err
    assert said == (
        'farfield serve: the server needs packages that are not installed: gradio. Run pip install "farfield[demo]".\n'
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limits.upload_byte", "1"], "there is no option limits.upload_byte. "),
        (["--limits.upload_bytes", "0"], "upload_bytes is 0; it must be positive"),
        (["--top_k", "0"], "top_k is 0; it must be at least 1."),
        (["--window_seconds", "-1"], "window_seconds is -1.0; it must be positive and finite."),
        (["--window_seconds", ".inf"], "window_seconds is inf; it must be positive and finite."),
        (
            ["--names", "[https://video.example.org]"],
            "'https://video.example.org' is not a host name. Give it without",
        ),
        (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid:7860: Name or service not known. "),
    ],
)
def test_invalid_options_are_reported_before_the_server_starts(
    run_farfield: Callable[..., int],
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert run_farfield("serve", "--checkpoint", checkpoint, *words) == 2
    assert message in capsys.readouterr().err


def test_a_port_in_use_is_named(
    run_farfield: Callable[..., int], checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        lowest = ("--top_k=1", "--num_clips=1", "--num_crops=1", "--threads=1")
        assert run_farfield("serve", "--checkpoint", checkpoint, "--port", port, *lowest) == 2
    assert f"cannot listen on 127.0.0.1:{port}: " in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_read_is_named(
    run_farfield: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = tmp_path / "a.ckpt"
    path.write_text("no checkpoint")
    assert run_farfield("serve", "--checkpoint", path, "--port", "0", "--limits.num_workers", "1") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"farfield serve: {path} cannot be read as a checkpoint")
    assert "Traceback" not in said
    assert list(tmp_path.glob("farfield-serve-*")) == []


@pytest.mark.parametrize(
    ("host", "address", "others"),
    [
        ("127.0.0.1", "127.0.0.1", set()),
        ("127.0.0.2", "127.0.0.2", {"127.0.0.2"}),
        ("127.1", "127.0.0.1", {"127.1"}),
        ("LocalHost", "127.0.0.1", set()),
        ("ip6-localhost", "::1", {"ip6-localhost"}),
    ],
)
def test_a_server_on_the_loopback_interface_knows_its_names(host: str, address: str, others: set[str]) -> None:
    assert own_host_names(host, address) == {"localhost", "127.0.0.1", "::1"} | others


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.5", "::"])
def test_a_server_on_another_interface_answers_to_any_name(address: str) -> None:
    assert own_host_names("video.example", address) is None
