"""The two recipes of Kinetics-400 give what the 24 files gave that they replaced: one for each network and start."""

from __future__ import annotations

import contextlib
import functools
import io
from typing import Any

import pytest
import yaml

from farfield.cli import main
from farfield.recipes import find_recipe

COMMON: dict[str, Any] = {
    "data.train": "data/kinetics400/train.csv",
    "data.val": "data/kinetics400/val.csv",
    "data.batch_size": 8,
    "data.augmentation.short_side_px": [256, 320],
    "trainer.check_val_every_n_epoch": 5,
    "trainer.precision": "bf16-mixed",
    "model.optimisation.lr_batch_size": 64,
}
RECORDED: dict[str, dict[str, Any]] = {
    "imagenet": {
        "model.weights": "imagenet",
        "model.optimisation.lr": 0.01,
        "model.optimisation.schedule": "steps",
        "model.optimisation.step_epochs": [40.0, 80.0],
        "trainer.max_epochs": 107,
    },
    "scratch": {
        "model.optimisation.lr": 0.1,
        "model.optimisation.nesterov": True,  # not in the 24 files, which left out this default of PySlowFast
        "model.optimisation.warmup_epochs": 34.0,
        "model.optimisation.precise_bn_batches": 200,
        "trainer.max_epochs": 196,
    },
}
"""What `--print_config` showed of the 24 files; all that they did not show otherwise were the defaults."""

PUBLISHED = {  # as the 24 headers had them
    "imagenet": {
        "c2d_r50": [["71.8% [a]"], ["72.7% [b]"], ["73.8% [b]"], ["74.3% [b]"]],
        "i3d_r50": [["73.3% [c]"], [], ["74.9% [c]"], []],
        "slow_r50": [[], [], [], []],
    },
    "scratch": {
        "c2d_r50": [["67.2% [a]", "71.5% [e]"], [], [], []],
        "i3d_r50": [["73.5% [b]", "73.3% [e]"], [], ["74.0% [c]"], []],
        "slow_r50": [["74.8% [d]", "74.6% [e]"], [], [], []],
    },
}
BLOCKS = ("null", "nl1", "nl5", "nl10")
NETWORKS = [("c2d_r50", "null"), ("i3d_r50", "nl1"), ("slow_r50", "nl5"), ("c2d_r50", "nl10")]
"""Each backbone and each set of blocks of the twelve networks: the two options are independent."""


@pytest.mark.parametrize("start", RECORDED)
@pytest.mark.parametrize(("backbone", "blocks"), NETWORKS)
@pytest.mark.slow
def test_a_network_of_the_table_is_two_options(backbone: str, blocks: str, start: str) -> None:
    options = (f"--model.backbone={backbone}", f"--model.insert={blocks}", "--run_dir=runs/x")
    resolved = _resolved(f"--config=kinetics400_{start}", *options)
    assert resolved == _expected(backbone, blocks, start, "runs/x")


@pytest.mark.parametrize("start", RECORDED)
def test_as_it_stands_a_recipe_is_i3d_with_five_blocks(start: str) -> None:
    resolved = _resolved(f"--config=kinetics400_{start}")
    assert resolved == _expected("i3d_r50", "nl5", start, f"runs/kinetics400_{start}")


@pytest.mark.parametrize("start", PUBLISHED)
def test_headers_hold_the_published_figures(start: str) -> None:
    lines = find_recipe(f"kinetics400_{start}").text.splitlines()
    (columns,) = (line for line in lines if line.removeprefix("#").split() == list(BLOCKS))
    starts = [columns.index(f" {blocks}") + 1 for blocks in BLOCKS]
    for backbone, figures in PUBLISHED[start].items():
        (row,) = (line for line in lines if line.startswith(f"#   {backbone}"))
        for at, until, published in zip(starts, [*starts[1:], None], figures, strict=True):
            assert row[at:until].split() == (" ".join(published).split() or ["-"]), row


def _expected(backbone: str, blocks: str, start: str, run_dir: str) -> dict[str, Any]:
    network = {"model.insert": None if blocks == "null" else blocks, "run_dir": run_dir}
    return _defaults(backbone) | COMMON | RECORDED[start] | network


@functools.cache
def _defaults(backbone: str) -> dict[str, Any]:
    return _resolved(f"--model.backbone={backbone}", "--data.train=x.csv", "--run_dir=x")


def _resolved(*options: str) -> dict[str, Any]:
    """Every value that `farfield fit` would train with, by the full name of its option."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        main(["fit", *options, "--print_config"])
    return dict(_flat(yaml.safe_load(shown.getvalue())))


def _flat(values: dict[str, Any], before: str = "") -> Any:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value
