"""The benchmark as a user runs it, on small layers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import real_sizes
import torch
from benchmark_layers import COMPARISONS, Measured, carry_on, exponent, main
from PIL import Image
from real_sizes import BLOCKS, median_interval, same_function

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_layers.py"


@pytest.mark.slow
@pytest.mark.usefixtures("few_objects")
def test_measures_every_layer_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--channels", "16", "--repeats", "1", "--positions", "784", "1568", "2352", "3136"]
    files = ["--json", str(tmp_path / "rows.json"), "--plot", str(tmp_path / "plot.png")]
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *small, "--quadratic_positions", "2352", *files])
    main()
    printed = capsys.readouterr().out
    rows = [Measured(**row) for row in json.loads((tmp_path / "rows.json").read_text())]
    for comparison in COMPARISONS:
        assert comparison.name in printed
        mine = [row for row in rows if row.layer == comparison.name]
        assert {row.whose for row in mine} == {"ours", "theirs"}
        assert all(min(row.seconds, row.forward_seconds, row.bytes) > 0 for row in mine)
    # Of all together, since a single short measurement may be disturbed.
    assert sum(row.seconds for row in rows) > sum(row.forward_seconds for row in rows)
    dot = {(row.whose, row.positions): row for row in rows if row.layer == "dot product"}
    assert dot["theirs", 3136].carried_on
    assert not dot["ours", 3136].carried_on
    assert dot["theirs", 2352].bytes > dot["ours", 2352].bytes + 2352**2 * 4  # an n x n matrix more
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size[0] > 800


@pytest.mark.slow
@pytest.mark.usefixtures("few_objects")
def test_real_sizes_compare_every_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(real_sizes, "matrix_rate", partial(real_sizes.matrix_rate, side=64))
    small = ["--sizes", "16:2x4x4", "--batches", "1", "2", "--rounds", "2", "--json", str(tmp_path / "cells.json")]
    monkeypatch.setattr("sys.argv", [str(SCRIPT), "--real_sizes", *small])
    main()
    printed = capsys.readouterr().out
    cells = json.loads((tmp_path / "cells.json").read_text())
    assert [(cell["block"], cell["batch"]) for cell in cells] == [(block, b) for block in BLOCKS for b in (1, 2)]
    assert all(cell["both"]["low"] <= cell["both"]["median"] <= cell["both"]["high"] for cell in cells)
    for block in BLOCKS:
        assert printed.count(block) >= 2
    assert "embedded Gaussian, all, forward + backward: geometric mean" in printed
    assert "GFLOP/s, by torch.mm" in printed


@pytest.mark.parametrize("block", BLOCKS)
def test_both_sides_compute_the_same(block: str) -> None:
    ours, theirs = same_function(block, 16)
    x = torch.randn(2, 16, 2, 4, 6)
    assert (ours(x) - x).abs().max() > 0
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_intervals_are_order_statistics() -> None:
    """The k-th lowest and highest; for 9 values, the second: 2 (1 + 9) / 2**9 = 3.9% lies outside."""
    interval = median_interval([9, 1, 8, 2, 7, 3, 6, 4, 5])
    assert (interval.low, interval.median, interval.high) == (2, 5, 8)
    seven = median_interval([7, 6, 5, 4, 3, 2, 1])
    assert (seven.low, seven.median, seven.high) == (1, 4, 7)
    assert median_interval([2.0]).low == 2


def test_growth_is_fitted_and_carried_on() -> None:
    comparison = next(c for c in COMPARISONS if c.name == "dot product")
    measured = [
        Measured("dot product", whose, n, 3e-6 * n, 2e-6 * n + (5e-9 * n * n if whose == "theirs" else 0), 100 * n)
        for whose, sizes in (("ours", (1568, 3136, 6272, 12544)), ("theirs", (1568, 3136, 6272)))
        for n in sizes
    ]
    (grown,) = carry_on(measured, comparison, [1568, 3136, 6272, 12544, 25088])
    assert grown.positions == 12544
    assert grown.seconds == pytest.approx(2e-6 * 12544 + 5e-9 * 12544**2)
    assert grown.bytes == pytest.approx(100 * 12544, rel=1e-6)
    assert exponent(measured[:4], "seconds") == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "dot produkt"], "there is no layer 'dot produkt'; choose among embedded Gaussian"),
        (
            ["--real_sizes", "--only", "dot product"],
            "no block 'dot product' among the real sizes; choose among embedded",
        ),
        (["--positions", "1000"], "positions are whole frames of 784; given [1000]"),
    ],
)
def test_what_it_does_not_know_is_refused(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert message in capsys.readouterr().err
