"""The meta device without the import of the compiler: in a process of its own, because other tests import it.

Each use of the compiler is in a fork of this process.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import os
import sys
import torch
from torch import nn
from farfield.layers.compiler_import import without_compiler

def imported():
    return isinstance(vars(torch).get("_dynamo"), type(sys)) or "torch._dynamo" in sys.modules

with without_compiler():
    with without_compiler():
        shape = (torch.empty(2, 3, device="meta") + torch.empty(3, device="meta")).shape
    inside = list(sys.modules["torch._dynamo"]._unmarked)
assert shape == (2, 3)
assert inside and not any("__dynamo_disable" in vars(function) for function in inside)
assert not imported()
try:
    with without_compiler():
        raise KeyError
except KeyError:
    assert not imported()
# Half of what the compiler imports, once for all three forks.
import sympy, torch.distributed.tensor, torch.fx.experimental.symbolic_shapes, triton
assert not imported()
for use in ("torch.compile(nn.ReLU())", "from torch._dynamo import config", "import torch._dynamo.utils"):
    if os.fork():
        assert os.wait()[1] == 0, use
    else:
        break
else:
    sys.exit()
with without_compiler():
    torch.empty(2, device="meta") + 1
    exec(use)
assert imported() and all("__dynamo_disable" not in vars(function) for function in inside)
torch.empty(2, 3, device="meta") + torch.empty(3, device="meta")
marked = [vars(function)["__dynamo_disable"] for function in inside]
assert all(mark is not function for mark, function in zip(marked, inside))
"""


@pytest.mark.slow
def test_functions_are_marked_again_and_the_compiler_can_be_imported_inside() -> None:
    """If PyTorch marks functions in another way, `inside` is empty; adapt `compiler_import`."""
    subprocess.run([sys.executable, "-c", CODE], check=True, timeout=100)
