"""evaluate() on real videos: groups, thresholds, and what the checkpoint and the report keep of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from farfield import FarfieldError, build_model, evaluate, load_model, predict, save_model
from farfield.data.manifest import read_manifest, write_manifest
from farfield.evaluation.result import EvaluationResult

QUICK = {"num_clips": 1, "num_crops": 1, "num_workers": 0, "progress": False, "accelerator": "cpu"}


@pytest.fixture
def checkpoint(figures: Path, tmp_path: Path) -> Path:
    labels = read_manifest(figures / "train.csv").labels
    small = {"depth": 1, "width": 0.25}
    network = build_model("tiny", labels=labels, backbone_options=small, clip={"num_frames": 4, "crop_px": 32})
    with torch.no_grad():
        network.head.fc.weight.mul_(20)  # probabilities that differ between videos
    save_model(network, tmp_path / "checkpoints/best.ckpt")
    return tmp_path / "checkpoints/best.ckpt"


def chosen(checkpoint: Path, figures: Path, rule: str = "f1", **options: object) -> EvaluationResult:
    given = {**QUICK, "calibrate_on": figures / "val.csv", "choose_threshold": rule, **options}
    return evaluate(checkpoint, figures / "test.csv", **given)


@pytest.mark.slow
def test_thresholds_are_chosen_on_the_validation_videos_and_kept(
    checkpoint: Path, figures: Path, tmp_path: Path
) -> None:
    result = chosen(checkpoint, figures, out=tmp_path / "test")
    point = result.operating_point
    assert point is not None
    assert (point.rule, point.validation_videos) == ("f1", 10)
    validation = evaluate(checkpoint, figures / "val.csv", **QUICK)
    occurring = set(read_manifest(figures / "val.csv").labels)
    for c, label in enumerate(validation.scores.labels):
        scores = validation.scores.probabilities[:, c].double().tolist()
        assert point.thresholds[label] in scores if label in occurring else point.thresholds[label] is None
    # Whatever reads the checkpoint has them: another test, training code, inference.
    assert validation.operating_point == point
    network = load_model(checkpoint, for_training=True)
    save_model(network, tmp_path / "again.ckpt")
    for path in (checkpoint, tmp_path / "again.ckpt"):
        assert load_model(path).operating_point == point
    report = json.loads((tmp_path / "test/report.json").read_text())
    assert report["operating_point"]["thresholds"] == point.thresholds
    labels, metrics = result.threshold_metrics()
    hits = decided = 0
    for row, target in zip(result.scores.probabilities.double().tolist(), result.scores.targets.tolist(), strict=True):
        for c, label in enumerate(result.scores.labels):
            limit = point.thresholds[label]
            if limit is not None and row[c] >= limit:
                decided += 1
                hits += c == target
    assert metrics.precision.micro.value == pytest.approx(hits / decided)
    assert report["operating_point"]["micro"]["precision"]["value"] == pytest.approx(hits / decided)
    assert [each["label"] for each in report["operating_point"]["per_class"]] == labels
    with (tmp_path / "test/per_class.csv").open(newline="") as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    for label in labels:
        assert float(rows[label]["threshold"]) == point.thresholds[label]
    assert "Chosen by the rule `f1` on 10 validation videos" in (tmp_path / "test/report.md").read_text()


@pytest.mark.slow
def test_a_checkpoint_keeps_everything_else_and_a_link_stays_one(
    checkpoint: Path, figures: Path, tmp_path: Path
) -> None:
    before = torch.load(checkpoint, weights_only=True)
    link = tmp_path / "link.ckpt"
    link.symlink_to(checkpoint)
    chosen(link, figures, "recall=0.5", out=tmp_path / "test")
    assert link.is_symlink()
    after = torch.load(checkpoint, weights_only=True)
    assert after["farfield"].pop("operating_point")["rule"] == "recall=0.5"
    assert after["farfield"] == before["farfield"]
    assert all(torch.equal(after["state_dict"][name], value) for name, value in before["state_dict"].items())
    from farfield.checkpoints.content_hash import network_hash

    report = json.loads((tmp_path / "test/report.json").read_text())
    assert report["weights"] == network_hash(checkpoint)  # of the file with thresholds, so that an export finds it


@pytest.mark.slow
def test_predictions_above_their_threshold_are_marked(checkpoint: Path, figures: Path) -> None:
    point = chosen(checkpoint, figures).operating_point
    assert point is not None
    manifest = read_manifest(figures / "val.csv")
    marks = []
    for row in range(4):
        found = predict(manifest.path(row), checkpoint, num_clips=1, num_crops=1, progress=False).to_dict()["ranking"]
        for each in found:
            limit = point.thresholds[each["label"]]
            marks.append(each["above_threshold"])
            if limit is None:
                assert each["above_threshold"] is None
            elif abs(each["probability"] - limit) > 1e-5:  # a score that was the threshold may round to either side
                assert each["above_threshold"] == (each["probability"] > limit)
    assert {True, False} <= set(marks)
    windows = predict(manifest.path(0), checkpoint, timeline=True, progress=False).to_dict()
    assert {each["above_threshold"] for each in windows["ranking"]} == {None}


@pytest.mark.slow
@pytest.mark.dependency
def test_exported_files_and_folders_have_the_thresholds(checkpoint: Path, figures: Path, tmp_path: Path) -> None:
    from farfield import export

    point = chosen(checkpoint, figures).operating_point
    for name in ("model.onnx", "model.pt2"):
        export(checkpoint, tmp_path / name)
        assert load_model(tmp_path / name).operating_point == point
    from farfield.checkpoints.hub_folder import write_folder

    write_folder(load_model(checkpoint, for_training=True), tmp_path / "folder", "a card")
    assert load_model(tmp_path / "folder").operating_point == point


@pytest.mark.slow
def test_videos_of_a_group_are_resampled_together(checkpoint: Path, figures: Path, tmp_path: Path) -> None:
    manifest = read_manifest(figures / "test.csv")
    write_manifest(
        tmp_path / "groups.csv",
        [replace(each, group=None if i == 3 else f"g{i % 3}") for i, each in enumerate(manifest)],
    )
    result = evaluate(checkpoint, tmp_path / "groups.csv", root=figures, **QUICK)
    found = result.to_dict()["class_metrics"]
    assert (found["resampled"], found["units"]) == ("groups", 4)
    assert evaluate(checkpoint, figures / "test.csv", **QUICK).to_dict()["class_metrics"]["units"] == 10


@pytest.mark.slow
def test_the_command_prints_the_metrics_at_the_thresholds(
    checkpoint: Path, figures: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["test", "--checkpoint", checkpoint, "--data.manifest", figures / "test.csv", "--data.num_workers", 0]
    words += ["--num_clips", 1, "--num_crops", 1, "--calibrate_on", figures / "val.csv"]
    assert run_farfield(*words, "--choose_threshold", "recall=0.9") == 0
    printed = capsys.readouterr().out
    for name in ("mean average precision", "macro F1", "precision at thresholds", "recall at thresholds"):
        assert name in printed
    assert run_farfield(*words, "--choose_threshold", "best") == 2
    assert "choose_threshold is 'best'. Give one of f1, precision=0.95" in capsys.readouterr().err


def test_thresholds_need_validation_videos_and_a_place(figures: Path, checkpoint: Path, tmp_path: Path) -> None:
    for options, message in (
        ({"calibrate_on": None}, r"choose_threshold is 'f1', but calibrate_on is not set\. Set it to the manifest"),
        ({"restrict_labels": True}, r"choose_threshold and restrict_labels are both set.*Leave one of the two out"),
    ):
        with pytest.raises(FarfieldError, match=message):
            chosen(checkpoint, figures, **options)
    with pytest.raises(FarfieldError, match=r"but .* is a folder\. Give a \.ckpt file"):
        chosen(tmp_path, figures)


@pytest.mark.slow
def test_validation_scores_that_are_no_numbers_are_refused(checkpoint: Path, figures: Path) -> None:
    network = load_model(checkpoint, for_training=True)
    torch.nn.init.constant_(network.head.fc.bias, torch.nan)
    with pytest.raises(FarfieldError, match=r"the network's scores of .*val_00000.* are not numbers \(NaN\)"):
        evaluate(network, figures / "test.csv", calibrate_on=figures / "val.csv", **QUICK)
