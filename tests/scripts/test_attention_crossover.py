"""The script that measures the borders of `attention_choice`, on small sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
from attention_crossover import main


def test_measures_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--keys", "4", "9", "--queries", "16", "--channels", "8", "--rounds", "1"]
    monkeypatch.setattr("sys.argv", ["attention_crossover.py", *small, "--plot", str(tmp_path / "plot.png")])
    main()
    printed = capsys.readouterr().out
    assert printed.count("m =     4: ") == printed.count("m =     9: ") == 2
    assert "tiles" in printed
    assert "exchanged" in printed
    assert (tmp_path / "plot.png").stat().st_size > 0
