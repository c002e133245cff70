"""Which packages a command imports: `--help` answers without PyTorch, and prediction without what it does not use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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
    "test splits": {"torch"},
    "data verify": {"matplotlib"},
}
"""Packages that a command's help imports."""


def imported_by(*words: object) -> set[str]:
    done = subprocess.run([sys.executable, "-c", CODE, *map(str, words)], capture_output=True, text=True, check=True)
    assert done.stdout
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=pytest.mark.slow) if name in NEEDED else name for name in COMMANDS]
)
def test_help_imports_nothing_heavy(command: str) -> None:
    assert imported_by(*command.split(), "--help") <= NEEDED.get(command, set())


@pytest.mark.slow
def test_prediction_imports_what_its_network_needs(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    network = build_model("tiny", num_classes=3, insert={"res3": [1]})
    save_model(network, tmp_path / "tiny.ckpt")
    assert imported_by("predict", make_video(60), "--checkpoint", tmp_path / "tiny.ckpt") == {"torch"}
