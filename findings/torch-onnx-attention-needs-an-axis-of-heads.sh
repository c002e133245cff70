#!/usr/bin/env bash
# torch 2.14.1 with onnxscript 0.7.2: torch.onnx.export cannot write scaled_dot_product_attention of (batch, positions, channels).
#
# Expected: the operator is documented for (N, ..., L, E); a query without an axis of heads is the smallest such case, runs in
#   eager mode, under torch.compile and in torch.export, and is what self-attention over positions with one head is written as.
# Seen: torch.export.export takes it, then the conversion to ONNX ends in a ConversionError, whose first cause is the assertion
#   "only 4D query, key, and value are supported". With an axis of one head around it, the same network is written, and
#   onnxruntime 1.32.0 gives eager mode's output.
# Why it matters: attention blocks inserted into video networks have three axes; the report of the export says to implement a
#   missing ONNX function, although unsqueeze(1) and squeeze(1) are enough.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2 \
    onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import contextlib
import io
import sys

import numpy as np
import onnxruntime
import torch
from torch.nn.functional import scaled_dot_product_attention


class OneHead(torch.nn.Module):
    def forward(self, x):
        return scaled_dot_product_attention(x, x, x)


class WithAxis(torch.nn.Module):
    def forward(self, x):
        heads = x.unsqueeze(1)
        return scaled_dot_product_attention(heads, heads, heads).squeeze(1)


def export(network, x, path):
    """Return the first cause of the failure, or None."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(network, (x,), path, dynamo=True, verbose=False)
    except torch.onnx.errors.OnnxExporterError as error:
        while error.__cause__ is not None:
            error = error.__cause__
        return f"{type(error).__name__}: {error}"
    return None


x = torch.randn(2, 12, 8)
torch.export.export(OneHead(), (x,))
seen = {"three axes": export(OneHead(), x, "three.onnx"), "with an axis of heads": export(WithAxis(), x, "four.onnx")}
for name, cause in seen.items():
    print(f"{name}: {cause or 'written'}")
session = onnxruntime.InferenceSession("four.onnx", providers=["CPUExecutionProvider"])
[found] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
difference = float(np.abs(found - OneHead()(x).numpy()).max())
print(f"largest difference of the written one from eager mode: {difference:.1e}")
expected = {"three axes": "AssertionError: only 4D query, key, and value are supported", "with an axis of heads": None}
if seen != expected or difference > 1e-5:
    sys.exit(f"changed: {seen}")
PY
