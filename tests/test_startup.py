"""Which packages a command imports: `--help` answers without PyTorch, and prediction without what it does not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from farfield.cli import COMMANDS

HEAVY = ("torch", "lightning", "torchmetrics", "torchvision", "pytorchvideo", "matplotlib", "wandb", "scipy", "sklearn")

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
    "fit": {"torch", "lightning", "torchmetrics", "torchvision", "matplotlib", "scipy"},  # Lightning imports the others
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
