from __future__ import annotations

from pathlib import Path

import pytest

from farfield.curation.manifest_output import path_in_manifest


def test_paths_in_a_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real/videos/run").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real/linked").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    real = tmp_path / "real"
    for folder, root, inside, expected in (
        (real, real / "videos", "run/a.mp4", "videos/run/a.mp4"),
        (Path("real"), Path("real/videos"), "run/a.mp4", "videos/run/a.mp4"),
        (real, real / "linked", "a.mp4", "linked/a.mp4"),  # a link in the manifest's folder
        (real, Path("link/videos"), "a.mp4", "videos/a.mp4"),  # the same folder by another name
        (Path("link"), real / "videos", "a.mp4", "videos/a.mp4"),
        (real / "videos", Path("link"), "a.mp4", str(tmp_path / "link/a.mp4")),
        (real, Path("link/videos/run"), "../a.mp4", "videos/a.mp4"),
        (real, real / "linked", "../a.mp4", str(tmp_path / "a.mp4")),  # as the system reads it
        (real, real, str(tmp_path / "elsewhere/a.mp4"), str(tmp_path / "elsewhere/a.mp4")),
        (real, real, " run/a.mp4", "./ run/a.mp4"),
    ):
        assert path_in_manifest(folder, root, inside) == expected
