"""Files of hard windows."""

from __future__ import annotations

from pathlib import Path

import pytest

from farfield.data.hard_negatives import HardWindow, content_hash, read_hard_windows
from farfield.errors import FarfieldError

HEADER = "path,start_seconds,end_seconds,label,error\n"


def test_windows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "hard.csv"
    path.write_text(HEADER + 'a.mp4,1.5,3,sit,false_positive\n"b, c.mp4", 0 ,2.25,stand,missed\n')
    assert read_hard_windows(path) == [
        HardWindow("a.mp4", 1.5, 3.0, "sit", "false_positive"),
        HardWindow("b, c.mp4", 0.0, 2.25, "stand", "missed"),
    ]
    before = content_hash(path)
    path.write_text(HEADER)
    assert read_hard_windows(path) == []
    assert content_hash(path) != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,start_seconds,end_seconds,label\n",
            r"has no column 'error'; a file of hard windows starts with 'path,st",
        ),
        ("", r"has no column 'path'"),
        (
            HEADER + "a.mp4,3,3,sit,missed\n",
            r"hard.csv, line 2: the window is from '3' to '3'; it needs 0 <= start_sec",
        ),
        (HEADER + "a.mp4,1,2,sit,missed\na.mp4,-1,3,sit,missed\n", r"line 3: the window is from '-1' to '3'"),
        (HEADER + "a.mp4,nan,3,sit,missed\n", r"line 2: the window is from 'nan' to '3'"),
        (HEADER + "a.mp4,1,inf,sit,missed\n", r"line 2: the window is from '1' to 'inf'"),
        (HEADER + "a.mp4,one,3,sit,missed\n", r"line 2: the window is from 'one' to '3'"),
        (HEADER + "a.mp4,1\n", r"line 2: the window is from '1' to ''"),
        (HEADER + "a.mp4,1,2,sit,wrong\n", r"line 2: error is 'wrong'; it must be false_positive or missed"),
    ],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "hard.csv").write_text(text)
    with pytest.raises(FarfieldError, match=message):
        read_hard_windows(tmp_path / "hard.csv")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match=r"there is no file of hard windows at .*/hard.csv. `farfield test --time"):
        read_hard_windows(tmp_path / "hard.csv")
