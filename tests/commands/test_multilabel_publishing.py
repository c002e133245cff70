"""`farfield export` and `summary` of multilabel checkpoints: the folder, its model card, and what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from exporters.networks import awake
from farfield.checkpoints.checkpoint import load_network, save_model
from farfield.checkpoints.content_hash import network_hash
from farfield.commands import export
from farfield.models.network import ActionNet
from farfield.models.operating_point import OperatingPoint
from farfield.reports.model_card import model_card

Run = Callable[..., int]
LABELS = ["bow", "get_up", "lie_down", "sit_down", "wave"]
NO_INTERVAL = {"value": 0.625, "low": None, "high": None}


def network(**arguments: Any) -> ActionNet:
    made = awake(task="multilabel", **arguments)
    thresholds = dict(zip(made.labels, (0.3, None, 0.25, 0.51234567, 0.7), strict=False))
    made.operating_point = OperatingPoint("precision=0.9", thresholds, 12)
    chosen = dict(zip(made.labels, (0.2, 0.25, None, 0.125, 0.9), strict=False))
    made.timeline_operating_point = OperatingPoint("recall=0.8", chosen, 5)
    return made


def report_of(checkpoint: Path, **changes: Any) -> dict[str, Any]:
    return {
        "task": "multilabel",
        "checkpoint": "best.ckpt",
        "weights": network_hash(checkpoint),
        "manifest": "x/test.csv",
        "manifest_hash": "cd34",
        "backbone": "tiny",
        "inserted": {"res3": [0]},
        "num_clips": 2,
        "num_crops": 1,
        "videos": 16,
        "mean_average_precision": {"value": 0.8125, "low": 0.5, "high": 0.9},
        "micro_average_precision": NO_INTERVAL,
        "sample_average_precision": {"value": None, "low": None, "high": None},
        "exact_match": NO_INTERVAL,
        "classes": [{"label": label} for label in LABELS],
        **changes,
    }


@pytest.mark.slow
def test_a_published_folder_keeps_task_thresholds_and_scores(tmp_path: Path, run_farfield: Run) -> None:
    made = network(clip={"num_frames": 4, "crop_px": 32, "views_aggregation": "max"})
    save_model(made, tmp_path / "best.ckpt")
    (tmp_path / "report.json").write_text(json.dumps(report_of(tmp_path / "best.ckpt")))
    words = (tmp_path / "best.ckpt", tmp_path / "hub", "--to_folder", "--report", tmp_path / "report.json")
    assert run_farfield("export", *words) == 0
    again = load_network(tmp_path / "hub")
    assert (again.task, again.clip, again.operating_point) == ("multilabel", made.clip, made.operating_point)
    assert again.timeline_operating_point == made.timeline_operating_point
    x = torch.randn(2, 3, 4, 32, 32)
    assert torch.equal(again(x), made(x))
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "Recognises 5 human actions in video. It is multilabel: a video may have several of them or none." in card
    assert "The probabilities of a video need not sum to 1." in card
    assert "the highest over the video's views, is at least its threshold" in card
    assert "chosen by the rule `precision=0.9` on 12 validation videos" in card
    for row in ("| bow | 0.3 |", "| get_up | 0.5 |", "| sit_down | 0.5123 |"):
        assert row in card.splitlines()
    assert "chosen by the rule `recall=0.8` on 5 validation videos" in card
    for row in ("| bow | 0.2 |", "| get_up | 0.25 |", "| lie_down | 0.5 |", "| sit_down | 0.125 |"):
        assert row in card.split("## Thresholds of timelines")[1].splitlines()
    assert "[each.label for each in ranking if each.above_threshold]" in card
    assert "| mAP | 81.25% | 50.00% to 90.00% |" in card
    assert "| sample-wise mAP | undefined | undefined |" in card
    assert "top-1" not in card
    [index] = yaml.safe_load(card.split("---")[1])["model-index"]
    metrics = [(each["type"], each["value"]) for each in index["results"][0]["metrics"]]
    assert metrics == [("mean_average_precision", 81.25), ("average_precision", 62.5), ("accuracy", 62.5)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "single_label"}, "is not a report of `farfield test`: it has no 'top1'"),
        ({"mean_average_precision": {"value": "high"}}, "is not a report of `farfield test`"),
        ({"weights": "00"}, "is the report of another network: weights = 00 in the report"),
    ],
)
def test_reports_of_other_networks_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(network(), tmp_path / "best.ckpt")
    (tmp_path / "report.json").write_text(json.dumps(report_of(tmp_path / "best.ckpt", **changes)))
    words = (tmp_path / "best.ckpt", tmp_path / "hub", "--to_folder", "--report", tmp_path / "report.json")
    assert run_farfield("export", *words) == 2
    assert message in capsys.readouterr().err


def test_a_multilabel_report_is_not_of_a_single_label_network(
    tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(awake(), tmp_path / "best.ckpt")
    (tmp_path / "report.json").write_text(json.dumps(report_of(tmp_path / "best.ckpt")))
    words = (tmp_path / "best.ckpt", tmp_path / "hub", "--to_folder", "--report", tmp_path / "report.json")
    assert run_farfield("export", *words) == 2
    assert "task = multilabel in the report, but single_label in the checkpoint" in capsys.readouterr().err


def test_the_card_of_one_class_without_thresholds() -> None:
    made = awake(task="multilabel", labels=["wave"])
    card = model_card(made, "waves")
    assert "Recognises 1 human action in video. It is multilabel: a video may have the action or not." in card
    assert "the mean over the video's views, is at least its threshold" in card
    assert "No thresholds were chosen for this network, so the threshold of every class is 0.5." in card
    assert "multilabel" not in model_card(awake(), "one")


@pytest.mark.slow
def test_what_8_bits_cost_is_printed(
    make_video: Callable[..., Path],
    tmp_path: Path,
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("nncf")
    save_model(network(insert=None), tmp_path / "best.ckpt")
    manifest = tmp_path / "several.csv"
    manifest.write_text(f"path,label\n{make_video(30)},wave|bow\n{make_video(60)},\n")
    monkeypatch.setattr(export, "export_network", cache(export.export_network))  # one report, printed in two ways
    words = ("export", tmp_path / "best.ckpt", tmp_path / "a.xml", "--clips", manifest, "--int8")
    assert run_farfield(*words) == 0
    printed = capsys.readouterr().out
    assert "decisions at the classes' thresholds that differ: 0" in printed
    assert "pairs of video and class that either network finds, both find" in printed
    assert "  mAP         " in printed
    assert "top-1" not in printed
    assert run_farfield(*words, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["different_decisions"] == 0
    assert {each["decisions"] for each in content["compared"]} == {0}
    assert set(content["int8"]) == {"videos", "found", "agreement", "largest", "mean", "map", "map_int8"}


def test_summary_names_the_task(tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(network(labels=["wave"], head="window_softmax_mean"), tmp_path / "one.ckpt")
    assert run_farfield("summary", tmp_path / "one.ckpt") == 0
    assert "task: multilabel; each class has a probability of its own" in capsys.readouterr().out
    assert run_farfield("summary", tmp_path / "one.ckpt", "--json") == 0
    assert json.loads(capsys.readouterr().out)["task"] == "multilabel"
    assert run_farfield("summary", "tiny", "--json") == 0
    assert json.loads(capsys.readouterr().out)["task"] == "single_label"
