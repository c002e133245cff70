#!/usr/bin/env bash
# openvino 2026.4.1: an ONNX MaxPool with ceil_mode gets one more output position, filled with -3.4e38.
#
# Expected: ONNX (opset 22 states it; onnxruntime, the shape inference of onnx and PyTorch do it) leaves out a window that would
#   begin beyond the input and its leading padding: kernel 1, stride 2 over 4 frames gives frames 0 and 2.
# Seen: OpenVINO gives 0, 2 and -3.4028235e+38, the maximum of a window that holds nothing; kernel 2, stride 2, padding 1 over 5
#   frames gives 0, 2, 4 and the same value. AveragePool is right.
# Why it matters: a temporal pool with ceil_mode over an even number of frames yields another length than the exported model
#   has, with a value that swamps any mean after it.
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
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

core = openvino.Core()
outputs = {}
cases = {
    "MaxPool, kernel 1, stride 2": ("MaxPool", 4, dict(kernel_shape=[1, 1, 1], strides=[2, 1, 1])),
    "MaxPool, kernel 2, stride 2, padding 1": (
        "MaxPool", 5, dict(kernel_shape=[2, 1, 1], strides=[2, 1, 1], pads=[1, 0, 0, 1, 0, 0]),
    ),
    "AveragePool, kernel 1, stride 2": ("AveragePool", 4, dict(kernel_shape=[1, 1, 1], strides=[2, 1, 1])),
}
for name, (op, frames, attributes) in cases.items():
    x = np.arange(frames, dtype=np.float32).reshape(1, 1, frames, 1, 1)
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], ceil_mode=1, **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "t", "h", "w"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    reference = session.run(None, {"x": x})[0].ravel()
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    seen = compiled([x])[0].ravel()
    print(f"{name} over {frames} frames: onnxruntime {reference}, OpenVINO {seen}")
    outputs[name] = (reference.tolist(), seen.tolist())
lowest = float(np.finfo(np.float32).min)
expected = {
    "MaxPool, kernel 1, stride 2": ([0, 2], [0, 2, lowest]),
    "MaxPool, kernel 2, stride 2, padding 1": ([0, 2, 4], [0, 2, 4, lowest]),
    "AveragePool, kernel 1, stride 2": ([0, 2], [0, 2]),
}
if outputs != expected:
    sys.exit(f"changed: {outputs}")
PY
