"""Compiles every layer and compares with eager, forward and backward; prints what differed, by layer, as JSON."""

from __future__ import annotations

import copy
import json

import torch

from layers.blocks import BLOCKS, OTHERS, SIZES, awake


def difference(name: str, backend: str) -> str:
    torch._dynamo.reset()
    ndim, make = (BLOCKS | OTHERS)[name]
    eager = awake(make(8)).train()
    block = copy.deepcopy(eager)
    x = torch.randn(2, 8, *SIZES[ndim])
    x_eager, x_compiled = x.clone().requires_grad_(), x.clone().requires_grad_()
    try:
        y = eager(x_eager)
        cotangent = torch.randn_like(y)
        y_compiled = torch.compile(block, fullgraph=True, backend=backend)(x_compiled)
        torch.testing.assert_close(y_compiled, y, rtol=1e-4, atol=1e-4)
        (y * cotangent).sum().backward()
        (y_compiled * cotangent).sum().backward()
        torch.testing.assert_close(x_compiled.grad, x_eager.grad, rtol=1e-3, atol=1e-3)
        for (key, ours), theirs in zip(eager.named_parameters(), block.parameters(), strict=True):
            torch.testing.assert_close(theirs.grad, ours.grad, rtol=1e-3, atol=1e-3, msg=key)
    except Exception as error:
        return repr(error)
    return ""


if __name__ == "__main__":
    torch.manual_seed(0)
    found = {name: difference(name, "aot_eager") for name in BLOCKS | OTHERS}
    found["inductor"] = difference("concatenation", "inductor")
    print(json.dumps(found))
