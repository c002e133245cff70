#!/usr/bin/env bash
# mmaction2 1.2.0 and actionformer 1.5.0: a predicted segment without length matches any true one without length.
#
# Expected: a prediction at 8 s does not find an event at 5 s. Its average precision is 0 at every tIoU threshold.
# Seen: 1.0, also at a tIoU of 0.95. The tIoU of two segments without length is 0 / 0 = NaN, which is not below any threshold.
# Why it matters: events are annotated as moments (start = end), and a prediction that collapses to a moment anywhere in the
#   video counts as a detection, even before those with a real overlap, since NaN is sorted as the highest tIoU.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 pandas==3.0.0 joblib==1.5.3
"$work/venv/bin/pip" install -q --disable-pip-version-check --no-deps actionformer==1.5.0 mmaction2==1.2.0  # without PyTorch
cd "$work"
"$work/venv/bin/python" -W ignore::RuntimeWarning - <<'PY'
import importlib.metadata
import importlib.util
import sys

import numpy as np
import pandas as pd


def load(package, path):
    spec = importlib.util.spec_from_file_location(package, importlib.metadata.distribution(package).locate_file(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mmaction2 = load("mmaction2", "mmaction/evaluation/functional/accuracy.py")
actionformer = load("actionformer", "actionformer/utils/metrics.py")
tious, seen = np.array([0.5, 0.95]), {}
for name, start, end in (("8 s to 8 s", 8.0, 8.0), ("8 s to 8.1 s", 8.0, 8.1)):
    seen["mmaction2", name] = mmaction2.average_precision_at_temporal_iou(
        {"a": [[5.0, 5.0]]}, [["a", 0, start, end, 0.9]], tious
    ).tolist()
    true = pd.DataFrame({"video-id": ["a"], "t-start": [5.0], "t-end": [5.0]})
    predicted = pd.DataFrame({"video-id": ["a"], "t-start": [start], "t-end": [end], "score": [0.9]})
    seen["actionformer", name] = actionformer.compute_average_precision_detection(true, predicted, tious).tolist()
for (package, name), values in seen.items():
    print(f"{package}: true from 5 s to 5 s, predicted from {name}: average precision {values}")
if list(seen.values()) != [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]:
    sys.exit("changed")
PY
