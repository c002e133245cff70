"""Run the evaluations of MMAction2 1.2.0 and ActionFormer 1.5.0 on random cases, and record their average precision.

Not a test. The packages and what they import are installed beside PyTorch:

    python3 -m venv --system-site-packages venv
    venv/bin/pip install mmengine==0.10.7 mmcv-lite==2.1.0 mmaction2==1.2.0 actionformer==1.5.0 decord2 einops h5py
    cd tests; PYTHONPATH=. venv/bin/python evaluation/record_temporal_detection.py evaluation/temporal_detection.npz

Recorded for each case, at ActivityNet's and then THUMOS14's tIoUs: MMAction2's average precision of each class with
true segments, and ActionFormer's mean over them. Neither is given predictions of the class without true segments:
MMAction2 refuses them.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from actionformer.utils.metrics import ANETdetection
from mmaction.evaluation.functional.eval_detection import ActivityNetLocalization

from reference.temporal_detection import Case, random_case

CASES = 1000
TIOUS = (np.linspace(0.5, 0.95, 10), np.linspace(0.3, 0.7, 5))


def mmaction2(case: Case, folder: Path, tious: np.ndarray) -> np.ndarray:
    """(tious, classes)"""
    videos: dict[str, dict[str, list[dict]]] = {}
    for c, segments in case.truth.items():
        for video, start, end in segments:
            annotation = {"segment": [start, end], "label": str(c)}
            videos.setdefault(f"v_{video}", {"annotations": []})["annotations"].append(annotation)
    results: dict[str, list[dict]] = {}
    for c in case.truth:
        for video, start, end, score in case.predicted[c]:
            results.setdefault(str(video), []).append({"segment": [start, end], "label": str(c), "score": score})
    results = dict(sorted(results.items()))  # equal scores in the order of the videos
    (folder / "truth.json").write_text(json.dumps(videos))
    (folder / "predicted.json").write_text(json.dumps({"results": results}))
    evaluation = ActivityNetLocalization(str(folder / "truth.json"), str(folder / "predicted.json"), tious)
    evaluation.evaluate()
    return evaluation.ap[:, [evaluation.activity_index[str(c)] for c in case.truth]]


def actionformer(case: Case, folder: Path, tious: np.ndarray) -> np.ndarray:
    """(tious,)"""
    videos: dict[str, dict] = {}
    for c, segments in case.truth.items():
        for video, start, end in segments:
            annotation = {"segment": [start, end], "label_id": c}
            videos.setdefault(str(video), {"subset": "test", "annotations": []})["annotations"].append(annotation)
    (folder / "truth.json").write_text(json.dumps({"database": videos}))
    rows = [(str(video), *rest, c) for c in case.truth for video, *rest in case.predicted[c]]
    predicted = pd.DataFrame(rows, columns=["video-id", "t-start", "t-end", "score", "label"])
    evaluation = ANETdetection(str(folder / "truth.json"), "test", tious, num_workers=1)
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluation.evaluate(predicted, verbose=False)[0]


def main(out: str) -> None:
    per_class, means = [], []
    with tempfile.TemporaryDirectory() as name:
        for seed in range(CASES):
            case = random_case(seed)
            per_class.append(np.concatenate([mmaction2(case, Path(name), each) for each in TIOUS]))
            empty = not any(case.predicted[c] for c in case.truth)
            means.append(
                np.zeros(15) if empty else np.concatenate([actionformer(case, Path(name), each) for each in TIOUS])
            )
    np.savez_compressed(
        out,
        mmaction2=np.concatenate(per_class, axis=1).astype(np.float32),
        classes=np.array([each.shape[1] for each in per_class]),
        actionformer=np.stack(means).astype(np.float32),
    )


if __name__ == "__main__":
    main(sys.argv[1])
