"""Layers and networks compile to one graph each. Outputs agree with eager; those of layers with their gradients."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from layers.compile_blocks import LAYERS
from models.compile_networks import NETWORKS


@pytest.fixture(scope="module")
def compiled() -> dict[str, str]:
    """By name, "" or what differed. In a process of its own: the checks of shapes in tests don't compile."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-W", "error::FutureWarning:torch.jit._script", "-m", "models.compile_networks"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LAYERS, "inductor"])
def test_layers_compile_to_one_graph_that_agrees(name: str, compiled: dict[str, str]) -> None:
    assert compiled[name] == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compile_and_run_in_bfloat16(name: str, compiled: dict[str, str]) -> None:
    assert compiled[name] == ""
