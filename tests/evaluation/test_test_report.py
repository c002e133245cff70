from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from farfield.commands.test_summary import test_summary as summary
from farfield.evaluation.result import EvaluationResult
from farfield.evaluation.scores_file import Scores, read_groups, read_scores
from farfield.evaluation.test_report import write_report
from farfield.models.operating_point import OperatingPoint


def test_report_says_what_was_scored_and_what_could_not_be(tmp_path: Path) -> None:
    labels = ["bow", "jump", r"run $\foo$"]  # no mathematics
    targets = torch.tensor([0, 0, 1, 1])
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
    failures = [("broken.mp4", "the file is empty")]
    scores = Scores(labels, ["a.mp4", "b.mp4", "c.mp4", "d.mp4"], targets, probabilities[:, None])
    groups = ["film \udce9", None, "ﬁlm", "film \udce9"]
    result = EvaluationResult(scores, failures, about={"checkpoint": "best.ckpt", "num_clips": 10}, groups=groups)
    write_report(result, tmp_path / "out")
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["top1"]["value"] == 0.75
    assert report["videos"] == 4
    with np.load(tmp_path / "out" / report["arrays"]["file"], allow_pickle=False) as arrays:
        assert arrays[report["arrays"]["confusion_matrix"]].tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
        assert np.array_equal(arrays[report["arrays"]["scores_of_videos"]], probabilities[:, None].numpy())
    read = read_scores(tmp_path / "out" / "scores.npz")
    assert (read.labels, read.paths) == (labels, scores.paths)
    assert read_groups(tmp_path / "out" / "scores.npz") == groups
    assert report["undecodable_videos"] == [{"path": "broken.mp4", "reason": "the file is empty"}]
    assert report["classes"][0] == {"label": "bow", "videos": 2, "accuracy": 0.5, "most_often_taken_for": "jump"}
    text = (tmp_path / "out/report.md").read_text()
    for part in (
        "| top-1 | 75.00% |",
        "| bow | 2 | 50.0% | jump |",
        "`broken.mp4`: the file is empty",
        "Classes without a video: run &#36;",
    ):
        assert part in text
    with Image.open(tmp_path / "out/confusion_matrix.png") as picture:
        assert picture.size[0] > 200
    assert (tmp_path / "out/predictions.csv").read_text().splitlines()[2] == "b.mp4,bow,jump,0.600000,0.300000"


def test_a_class_that_is_never_predicted_has_no_precision_and_the_report_says_so(tmp_path: Path) -> None:
    """At the thresholds, a has two predictions, one of them right, and b and c have none."""
    views = torch.tensor([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.3, 0.2, 0.5]])
    scores = Scores(["a", "b", "c"], [f"{i}.mp4" for i in range(4)], torch.tensor([0, 1, 1, 2]), views[:, None])
    point = OperatingPoint("precision=0.95", {"a": 0.6, "b": 0.9, "c": 0.9}, 7, {"a": 5, "b": 2, "c": 1})
    about = {"num_clips": 1, "num_crops": 1}
    report = write_report(EvaluationResult(scores, [], about=about, operating_point=point), tmp_path)
    found = report["operating_point"]
    assert found["macro"]["precision"]["value"] == found["micro"]["precision"]["value"] == 0.5
    assert found["macro"]["recall"]["value"] == pytest.approx(1 / 3)
    assert found["without_predictions"] == ["b", "c"]
    assert found["counts"] == {"true_positives": 1, "predicted": 2, "positives": 4}
    assert found["per_class"][1]["precision"] == {"value": None, "low": None, "high": None}
    assert report["class_metrics"]["without_predictions"] == []
    assert report["class_metrics"]["no_intervals"] == "too few videos (4) for an interval; at least 10 are needed"
    shown = summary(report, tmp_path)
    assert shown.count("metrics without an interval: too few videos (4) for an interval; at least 10 are needed") == 1
    assert "top-1                          75.00%   95% interval" in shown  # Wilson's
    assert "precision at thresholds        50.00%" in shown
    assert "at the thresholds: 2 predictions, 1 of them right; 4 labels" in shown
    assert "2 of 3 classes have no prediction: their precision is undefined and not in the mean" in shown
    text = (tmp_path / "report.md").read_text()
    assert "There are no intervals: too few videos (4) for an interval" in text
    assert "2 of 3 classes have no prediction" in text
    assert "| class | threshold | chosen on | videos | predicted | right | precision | recall | F1 |" in text
    assert "| b | 0.9 | 2 | 2 | 0 | 0 | - | 0.0%" in text
    with (tmp_path / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["precision_at_threshold"] for row in rows] == ["0.500000", "", ""]


def test_a_test_whose_classes_all_lack_a_threshold_has_a_report(tmp_path: Path) -> None:
    scores = Scores(["a", "b"], ["a.mp4", "b.mp4"], torch.tensor([0, 1]), torch.eye(2)[:, None])
    point = OperatingPoint("precision=0.95", {"a": None, "b": None}, 7, {"a": None, "b": None})
    result = EvaluationResult(scores, [], about={"num_clips": 1, "num_crops": 1}, operating_point=point)
    report = write_report(result, tmp_path)
    assert (report["operating_point"]["per_class"], report["operating_point"]["without_predictions"]) == ([], [])
    assert "Classes without a threshold" in (tmp_path / "report.md").read_text()
    assert "at the thresholds" not in summary(report, tmp_path)


@pytest.mark.slow
def test_many_classes_are_drawn_too(tmp_path: Path) -> None:
    n = 400
    labels = [f"class {i}" for i in range(n)]
    result = EvaluationResult(Scores(labels, [str(i) for i in range(n)], torch.arange(n), torch.eye(n)[:, None]), [])
    report = write_report(result, tmp_path)
    assert report["mean_class_accuracy"]["value"] == 1.0
    assert (tmp_path / "report.json").stat().st_size < 1600 * n  # some text for a class, nothing for a pair of them


def test_what_is_unknown_is_not_listed_and_the_temperature_has_one_form(tmp_path: Path) -> None:
    temperature = 1.23456789
    scores = Scores(["a", "b"], ["a.mp4", "b.mp4"], torch.tensor([0, 1]), torch.eye(2)[:, None])
    about = {"missing_videos": None, "temperature": round(temperature, 4), "num_clips": 1, "num_crops": 1}
    report = write_report(EvaluationResult(scores, [], temperature, about=about), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "missing videos" not in text
    assert report["missing_videos"] is None  # the JSON has all fields
    assert set(re.findall(r"emperature:? ([0-9.]+)", text)) == {"1.2346"}
    assert "with temperature 1.2346\n" in summary(report, tmp_path)


@pytest.mark.slow
def test_a_temperature_changes_no_top5(tmp_path: Path) -> None:
    """The label is second of 200, and so unlikely that scaling makes it equal to all others."""
    probabilities = torch.full((1, 200), 1e-14)
    probabilities[0, 0], probabilities[0, 199] = 1.0, 1e-13
    scores = Scores([str(c) for c in range(200)], ["a.mp4"], torch.tensor([199]), probabilities[:, None])
    assert write_report(EvaluationResult(scores, [], temperature=1.5), tmp_path)["top5"]["value"] == 1.0


@pytest.mark.slow
def test_names_that_are_no_utf8_and_segments_are_in_the_predictions(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.mp4")
    segments = torch.tensor([[torch.nan, 2.5], [2.5, 4.0]]).double()
    views = torch.tensor([[[0.75, 0.25]], [[0.5, 0.5]]])
    scores = Scores(["bow", "run"], [odd, odd], torch.tensor([0, 1]), views, segments)
    write_report(EvaluationResult(scores, [(odd, "the file is empty")], about={"manifest": odd}), tmp_path)
    assert (tmp_path / "predictions.csv").read_bytes() == (
        b"path,label,predicted,probability,probability_of_label,start_seconds,end_seconds\n"
        b"caf\xe9.mp4,bow,bow,0.750000,0.750000,,2.5\n"
        b"caf\xe9.mp4,run,bow,0.500000,0.500000,2.5,4\n"
    )
    assert b"- `caf\xe9.mp4`: the file is empty" in (tmp_path / "report.md").read_bytes()
    assert json.loads((tmp_path / "report.json").read_text())["undecodable_videos"][0]["path"] == odd
    assert not list(tmp_path.glob("*.partial"))
