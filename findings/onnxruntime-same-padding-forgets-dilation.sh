#!/usr/bin/env bash
# onnxruntime 1.32.0: MaxPool and AveragePool with auto_pad=SAME_UPPER and dilations do not keep the size.
#
# Expected: SAME_UPPER pads such that the output has ceil(input / stride) positions, here 7 of 7, as ONNX states, onnx's shape
#   inference says and OpenVINO computes; or the model is refused, as onnxruntime refuses a Conv with the same attributes.
# Seen: pooling gives 5 positions: the padding is computed for the kernel without its dilation. Nothing is raised, though the
#   model's inferred output shape says 7.
# Why it matters: a dilated temporal pool with "same" padding shortens the clip, and the values stand at other frames than in
#   training.
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
x = np.arange(7, dtype=np.float32).reshape(1, 1, 7, 1, 1)
outputs = {}
for op in ("MaxPool", "AveragePool"):
    for dilation in (1, 2):
        node = helper.make_node(
            op, ["x"], ["y"], kernel_shape=[3, 1, 1], dilations=[dilation, 1, 1], auto_pad="SAME_UPPER"
        )
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "t", "h", "w"])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape.dim[2].dim_value
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        seen = session.run(None, {"x": x})[0].ravel()
        compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        other = compiled([x])[0].ravel()
        print(f"{op}, dilation {dilation}: inferred length {inferred}, onnxruntime {seen}, OpenVINO {other}")
        outputs[op, dilation] = (inferred, seen.tolist(), other.tolist())
maxima, means = [1, 2, 3, 4, 5, 6, 6], [0.5, 1, 2, 3, 4, 5, 5.5]
expected = {
    ("MaxPool", 1): (7, maxima, maxima),
    ("MaxPool", 2): (7, [3, 4, 5, 6, 5], [2, 3, 4, 5, 6, 5, 6]),
    ("AveragePool", 1): (7, means, means),
    ("AveragePool", 2): (7, [2, 2, 3, 4, 4], [1, 2, 2, 3, 4, 4, 5]),
}
if outputs != expected:
    sys.exit(f"changed: {outputs}")
PY
