#!/usr/bin/env bash
# onnx 1.23.2: the reference implementation of AveragePool leaves NaN values out of the mean, as if they were padding.
#
# Expected: the mean over a window with a NaN is NaN; the reference evaluator is what other runtimes are compared against, and
#   onnxruntime 1.32.0 gives NaN, as does the reference's own GlobalAveragePool.
# Seen: a 2x2x2 window of seven 2.0 and one NaN gives 2.0: the reference pads with NaN and then averages what is not NaN.
# Why it matters: a parity check of an exported 3-D network against the reference evaluator calls a runtime that hands NaN on
#   wrong, and one that loses it right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

x = np.full((1, 1, 2, 2, 2), 2, np.float32)
x[0, 0, 0, 0, 0] = np.nan
seen = {}
for op, attributes in (("AveragePool", {"kernel_shape": [2, 2, 2]}), ("GlobalAveragePool", {})):
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "t", "h", "w"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    runtime = session.run(None, {"x": x})[0].ravel()
    seen[op] = ReferenceEvaluator(model).run(None, {"x": x})[0].ravel()
    print(f"{op}: onnxruntime {runtime}, reference {seen[op]}")
    if not np.isnan(runtime[0]):
        sys.exit("onnxruntime does not give NaN either")
expected = {"AveragePool": [2], "GlobalAveragePool": [np.nan]}
if not all(np.array_equal(seen[op], expected[op], equal_nan=True) for op in expected):
    sys.exit(f"changed: {seen}")
PY
