#!/usr/bin/env bash
# actionformer 1.5.0: ANETdetection.evaluate counts predictions of a class without true segments for another class.
#
# Expected: the mAP is over the classes that have true segments ("remove labels that does not exists in gt"), and
#   predictions of other classes change nothing.
# Seen: true segments of classes 0 and 2, both found. A prediction of class 1 lowers the average precision of class 2 from
#   1.0 to 0.5. The classes with true segments are renumbered 0, 1, ..., but predictions of the others keep their number,
#   so class 1 is taken for the second class, which is class 2. One of class 3 changes nothing.
# Why it matters: on a test split that lacks a class, the mAP is too low, and the per-class numbers blame another class.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 pandas==3.0.0 joblib==1.5.3
"$work/venv/bin/pip" install -q --disable-pip-version-check --no-deps actionformer==1.5.0  # without PyTorch
cd "$work"
"$work/venv/bin/python" - <<'PY'
import importlib.metadata
import importlib.util
import json
import sys

import numpy as np
import pandas as pd

path = importlib.metadata.distribution("actionformer").locate_file("actionformer/utils/metrics.py")
spec = importlib.util.spec_from_file_location("metrics", path)
metrics = importlib.util.module_from_spec(spec)
spec.loader.exec_module(metrics)

true = [{"segment": [0, 10], "label_id": 0}, {"segment": [20, 30], "label_id": 2}]
with open("true.json", "w") as file:
    json.dump({"database": {"a": {"subset": "test", "annotations": true}}}, file)
right = [("a", 0.0, 10.0, 0.9, 0), ("a", 20.0, 30.0, 0.8, 2)]


def average_precision(extra):
    evaluation = metrics.ANETdetection("true.json", "test", np.array([0.5]), num_workers=1)
    evaluation.evaluate(pd.DataFrame(right + extra, columns=["video-id", "t-start", "t-end", "score", "label"]), verbose=False)
    return evaluation.ap[0].tolist()


seen = {
    "nothing": average_precision([]),
    "a segment of class 1": average_precision([("a", 40.0, 50.0, 0.95, 1)]),
    "a segment of class 3": average_precision([("a", 40.0, 50.0, 0.95, 3)]),
}
for extra, values in seen.items():
    print(f"predicted beside what is right: {extra}; average precision of classes 0 and 2: {values}")
if list(seen.values()) != [[1.0, 1.0], [1.0, 0.5], [1.0, 1.0]]:
    sys.exit("changed")
PY
