from __future__ import annotations

from pathlib import Path

import pytest

from farfield.curation.javascript_runtime import runtime_options, why_unavailable


def test_a_supported_runtime_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = tmp_path / "deno"
    new.write_text("#!/bin/sh\necho 'deno 2.9.8 (stable, release, x86_64-unknown-linux-gnu)'\n")
    new.chmod(0o755)
    (tmp_path / "yt_dlp_ejs").mkdir()
    (tmp_path / "yt_dlp_ejs/__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert why_unavailable(f"deno:{new}") is None
    assert runtime_options("node") == {"node": {}}
    assert runtime_options(f"deno:{new}") == {"deno": {"path": str(new)}}
