"""What several files make up appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from farfield.atomic_output import atomic_output
from farfield.errors import FarfieldError


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_failed_move_takes_back_what_was_moved(
    is_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def second_fails(path: Path, target: Path) -> Path:
        if path.name == "out.xml":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(FarfieldError, match="No space left"):
        write(tmp_path / "out.xml", is_folder)
    assert list(tmp_path.iterdir()) == []


def write(out: Path, is_folder: bool) -> None:
    """Write a file, and beside it a file or a folder with one."""
    with atomic_output(out) as part:
        part.write_text("last")
        beside = part.with_name("out.bin")
        if is_folder:
            beside.mkdir()
            beside = beside / "inside"
        beside.write_text("first")
