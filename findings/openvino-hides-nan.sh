#!/usr/bin/env bash
# openvino 2026.4.1 (CPU, float32 asked for): NaN becomes +inf in Exp, 1.0 in HardSigmoid, and is passed over by ReduceMax.
#
# Expected: NaN in, NaN out, as in onnxruntime 1.32.0 and IEEE 754 arithmetic; at worst max(NaN, 0) = 0 in Relu.
# Seen: Exp(NaN) = inf, HardSigmoid(NaN) = 1.0, ReduceMax([NaN, -1, 2, 0.5]) = 2.0, and a Softmax over logits of which one is
#   NaN gives 0.0 for other classes instead of NaN. The same with ONEDNN_MAX_CPU_ISA=AVX2 and SSE41.
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
if not np.isnan(seen["Sigmoid"][0]):
    sys.exit("the control (Sigmoid) failed, too")
if all(np.isnan(seen[op][0]) for op in ("Exp", "HardSigmoid", "ReduceMax")):
    sys.exit("changed: OpenVINO hands NaN on")
PY
