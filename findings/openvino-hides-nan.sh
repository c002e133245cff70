#!/usr/bin/env bash
# openvino 2026.4.1 (CPU, float32 asked for): NaN becomes +inf in Exp, 1.0 in HardSigmoid, and is passed over by ReduceMax.
#
# Expected: NaN in, NaN out, as in onnxruntime 1.32.0 and IEEE 754 arithmetic; at worst max(NaN, 0) = 0 in Relu.
# Seen: Exp(NaN) = inf, HardSigmoid(NaN) = 1.0, Relu(NaN) = 0.0, ReduceMax([NaN, -1, 2, 0.5]) = 2.0, and a Softmax over the same
#   four logits gives [NaN, 0, 0, 0] where onnxruntime gives four NaN. Sigmoid hands NaN on.
# Why it matters: a clip that went wrong (0/0 in its normalisation, a float16 overflow) gets finite, confident scores through
#   gates of squeeze-and-excitation (HardSigmoid) and max pooling over views, so a check for NaN after the network sees nothing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
    openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.2.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper

core = openvino.Core()
x = np.array([[np.nan, -1, 2, 0.5]], np.float32)
seen = {}
for op in ("Sigmoid", "Relu", "Exp", "HardSigmoid", "ReduceMax", "Softmax"):
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10).SerializeToString()
    reference = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    seen[op] = compiled([x])[0].ravel()
    print(f"{op}: onnxruntime {reference.ravel()}, OpenVINO {seen[op]}")
    if not np.isnan(reference.ravel()[0]):
        sys.exit("onnxruntime does not give NaN either")
expected = {
    "Sigmoid": [np.nan, 0.2689, 0.8808, 0.6225],
    "Relu": [0, 0, 2, 0.5],
    "Exp": [np.inf, 0.3679, 7.3891, 1.6487],
    "HardSigmoid": [1, 0.3, 0.9, 0.6],
    "ReduceMax": [2],
    "Softmax": [np.nan, 0, 0, 0],
}
changed = {op: seen[op] for op in expected if not np.allclose(seen[op], expected[op], atol=1e-3, equal_nan=True)}
if changed:
    sys.exit(f"changed: {changed}")
PY
