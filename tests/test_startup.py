"""Which packages a command imports: `--help` answers without PyTorch, and prediction without what it does not use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farfield import build_model, save_model
from farfield.cli import COMMANDS

HEAVY = (
    *("torch", "torch._dynamo", "lightning", "torchmetrics", "torchvision", "pytorchvideo"),
    *("matplotlib", "wandb", "scipy", "sklearn"),
)

CODE = f"""
import sys
from farfield.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""

NEEDED = {
    "fit": {
        "torch",
        "torch._dynamo",
        "lightning",
        "torchmetrics",
        "torchvision",
        "matplotlib",
        "scipy",
    },  # Lightning imports the others
    "data verify": {"matplotlib"},
}
"""Heavy packages that a command imports at most before it starts."""


def output_and_imports(*words: object, python: Path | str = sys.executable, **options: Any) -> tuple[str, set[str]]:
    """Run a command in a new process; return its output and the heavy packages that it imported."""
    command = [python, "-c", CODE, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, **options)
    assert done.stdout
    return done.stdout, set(done.stderr.splitlines()[-1].split())


def imported_by(*words: object) -> set[str]:
    return output_and_imports(*words)[1]


ALL_LIGHT = f"""
import sys
from farfield.cli import main
for command in sys.argv[1:]:
    try:
        main([*command.split(), "--help"])
    except SystemExit:
        pass
    print(command, *[name for name in {HEAVY} if name in sys.modules], sep=",", file=sys.stderr)
"""


def test_help_imports_nothing_heavy() -> None:
    """All commands in one process: the first line with a package is that of the command that imports it."""
    light = [name for name in COMMANDS if name not in NEEDED]
    done = subprocess.run([sys.executable, "-c", ALL_LIGHT, *light], capture_output=True, text=True, check=True)
    assert done.stdout.count("usage: ") == len(light)
    assert done.stderr.splitlines() == light


def test_the_versions_import_nothing_heavy() -> None:
    assert imported_by("--version") == set()


@pytest.mark.slow
def test_help_of_data_verify_imports_what_it_needs() -> None:
    """That of `fit`: tests/test_packaging.py, where fit runs in a new process anyway."""
    assert imported_by("data", "verify", "--help") <= NEEDED["data verify"]


@pytest.mark.slow
def test_prediction_imports_what_its_network_needs(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    network = build_model("tiny", num_classes=3, insert={"res3": [1]})
    save_model(network, tmp_path / "tiny.ckpt")
    assert imported_by("predict", make_video(60), "--checkpoint", tmp_path / "tiny.ckpt") == {"torch"}
