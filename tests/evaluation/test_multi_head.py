"""Tests of a network with a verb and a noun: joint figures, and a report of each head."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farfield import build_model, evaluate, save_model
from farfield.data.manifest import write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.evaluation.multi_head_metrics import measure_jointly, scores_of_heads
from farfield.evaluation.scores_file import Scores, read_scores

LABELS = ["noun:cup", "noun:door", "noun:tap", "verb:close", "verb:open"]


def some_scores(videos: int, views: int = 2) -> Scores:
    nouns, verbs = torch.randint(3, (videos,)), torch.randint(2, (videos,))
    targets = torch.zeros(videos, 5, dtype=torch.bool)
    targets[torch.arange(videos), nouns] = True
    targets[torch.arange(videos), 3 + verbs] = True
    probabilities = [torch.randn(videos, views, size).softmax(-1) for size in (3, 2)]
    return Scores(LABELS, [f"{i}.mp4" for i in range(videos)], targets, torch.cat(probabilities, -1), task="multi_head")


def test_joint_accuracy_equals_that_of_slow_loops() -> None:
    scores = some_scores(50)
    hits = {1: 0, 5: 0}
    for targets, views in zip(scores.targets.tolist(), scores.views, strict=True):
        mean = views.mean(0).tolist()
        actions = {(n, v): mean[n] * mean[3 + v] for n in range(3) for v in range(2)}
        ranking = sorted(actions, key=lambda action: -actions[action])
        truth = (targets[:3].index(True), targets[3:].index(True))
        for k in hits:
            hits[k] += truth in ranking[:k]
    found = measure_jointly(scores)
    assert (found.top1.value, found.top5.value) == (hits[1] / 50, hits[5] / 50)
    assert found.top1.low < found.top1.value < found.top1.high


def test_scores_of_a_head_are_those_of_its_classes() -> None:
    scores = some_scores(4)
    heads = scores_of_heads(scores)
    assert [(head, each.labels, each.task) for head, each in heads.items()] == [
        ("noun", ["cup", "door", "tap"], "single_label"),
        ("verb", ["close", "open"], "single_label"),
    ]
    torch.testing.assert_close(heads["verb"].views, scores.views[:, :, 3:])
    assert heads["verb"].targets.tolist() == [row[3:].index(True) for row in scores.targets.tolist()]


@pytest.mark.slow
def test_a_test_reports_the_heads_and_their_combination(
    make_video: Callable[..., Path],
    tmp_path: Path,
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = build_model("tiny", labels=LABELS, task="multi_head", clip={"num_frames": 4, "crop_px": 24})
    save_model(network, tmp_path / "a.ckpt")
    pairs = [(n, v) for n in LABELS[:3] for v in LABELS[3:]]
    rows = [VideoRecord(str(make_video(20 + i)), f"{v}|{n}") for i, (n, v) in enumerate(pairs)]
    write_manifest(tmp_path / "test.csv", rows)
    words = ["--checkpoint", tmp_path / "a.ckpt", "--data.manifest", tmp_path / "test.csv", "--data.num_workers", 0]
    assert run_farfield("test", *words, "--num_clips", 2, "--num_crops", 1, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "top-1 of all heads together" in printed
    assert "mean class accuracy of verb" in printed

    report = json.loads((tmp_path / "out/report.json").read_text())
    scores = read_scores(tmp_path / "out/scores.npz")
    assert (scores.task, report["task"]) == ("multi_head", "multi_head")
    assert report["top1"]["value"] == measure_jointly(scores).top1.value
    for head in ("noun", "verb"):
        own = json.loads((tmp_path / "out" / head / "report.json").read_text())
        assert report["heads"][head]["top1"] == own["top1"]
        assert own["head"] == head
        assert f"[{head}]({head}/report.md)" in (tmp_path / "out/report.md").read_text()
    assert run_farfield("compare", tmp_path / "out/verb", tmp_path / "out/verb", "--draws", 100) == 0
    assert run_farfield("compare", tmp_path / "out", tmp_path / "out") == 2
    assert "Give the report folder of one head" in capsys.readouterr().err


def test_methods_of_other_tasks_name_the_heads(make_video: Callable[..., Path], tmp_path: Path) -> None:
    network = build_model("tiny", labels=LABELS, task="multi_head", clip={"num_frames": 4, "crop_px": 24})
    write_manifest(tmp_path / "test.csv", [VideoRecord(str(make_video(20)), "noun:cup|verb:open")])
    result = evaluate(network, tmp_path / "test.csv", num_clips=1, num_crops=1, num_workers=0, progress=False)
    with pytest.raises(FarfieldError, match=r"metrics\(\) is for 'single_label' tasks.* 'multi_head'. Call heads\(\)"):
        result.metrics()
    assert result.heads()["verb"].metrics().confusion.sum() == 1
    with pytest.raises(FarfieldError, match=r"calibrate_on cannot be combined with a 'multi_head' network"):
        evaluate(network, tmp_path / "test.csv", calibrate_on=tmp_path / "test.csv")


def test_scores_that_are_not_numbers_are_refused() -> None:
    scores = some_scores(3)
    scores.views[1] = torch.nan
    with pytest.raises(FarfieldError, match=r"the network's scores of 1.mp4 are not numbers"):
        measure_jointly(scores)
