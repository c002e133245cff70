"""Training with a verb and a noun: the network's heads, the loss, and a run as a user makes it."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from farfield.build import build_model
from farfield.checkpoints.checkpoint import load_network
from farfield.data.augmentation import Draw, Mix
from farfield.data.manifest import Manifest, read_manifest, write_manifest
from farfield.data.targets import row_targets
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.task import class_probabilities, split_heads
from farfield.training.config import make_run
from farfield.training.loss import classification_loss
from farfield.training.multi_head_loss import multi_head_loss
from farfield.training.train import train_run
from farfield.training.validation_metrics import multi_head_figures

LABELS = ["noun:cup", "noun:door", "noun:tap", "verb:close", "verb:open"]
SIZES = [3, 2]
NOUNS, VERBS = torch.tensor([2, 0, 1, 1]), torch.tensor([0, 1, 1, 0])
TARGETS = torch.cat([F.one_hot(NOUNS, 3), F.one_hot(VERBS, 2)], 1).float()
MIX = Mix(torch.tensor([1, 0, 3, 2]), torch.tensor([0.7, 0.5, 1.0, 0.8]).double(), torch.zeros(4, 4, dtype=torch.int64))


def test_heads_are_read_from_the_labels() -> None:
    assert split_heads(LABELS) == {"noun": ["cup", "door", "tap"], "verb": ["close", "open"]}
    assert split_heads(["a: x:1 ", "a:y", "b:1", "b:2"]) == {"a": ["x:1", "y"], "b": ["1", "2"]}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["verb:open", "cup"], r"are written head:class, such as verb:open"),
        (["verb:open", "verb:"], r"are written head:class"),
        ([":a", ":b"], r"are written head:class"),
        (["verb:open", "verb:close"], r"needs at least two heads, but all labels belong to head 'verb'"),
        (["v:a", "v:b", "n:a"], r"head 'n' has one class, 'a'"),
        (
            ["v:a", "v:b", "v: a", "v:c", "v: c", "n:a", "n:b"],
            r"head 'v' has 'a', 'c' more than once\. Give each class of a head once\.",
        ),
        (["v:a", "v:b", "n:a", "n:b", "v:c", "v:d"], r"head 'v' are not consecutive"),
    ],
)
def test_labels_that_make_no_heads_are_refused(labels: list[str], message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        build_model("tiny", labels=labels, task="multi_head")


@pytest.mark.parametrize("head", ["gap_fc", "window_mean", "window_softmax_mean"])
@pytest.mark.parametrize("side", [24, 48])
def test_scores_are_the_log_probabilities_of_each_head(head: Any, side: int) -> None:
    clip: Any = {"num_frames": 4, "crop_px": 24}
    network = build_model("tiny", labels=LABELS, task="multi_head", head=head, clip=clip).eval()
    clips = torch.randn(2, 3, 4, side, side)
    with torch.no_grad():
        probabilities = class_probabilities(network(clips), "multi_head")
        logits = network.head.fc(network.embed(clips))  # of each window
    of_windows = [each.softmax(-1) for each in logits.split(SIZES, -1)]
    of_mean = [each.softmax(-1) for each in logits.mean(1).split(SIZES, -1)]
    expected = torch.cat([each.mean(1) for each in of_windows] if head == "window_softmax_mean" else of_mean, -1)
    torch.testing.assert_close(probabilities, expected)
    torch.testing.assert_close(torch.stack([each.sum(1) for each in probabilities.split(SIZES, 1)]), torch.ones(2, 2))


@pytest.mark.parametrize(("gamma", "smoothing", "mix"), list(itertools.product([0.0, 2.0], [0.0, 0.1], [None, MIX])))
def test_the_loss_is_the_mean_of_the_losses_of_single_heads(gamma: float, smoothing: float, mix: Mix | None) -> None:
    logits = torch.randn(4, 5, dtype=torch.float64)
    log_p = torch.cat([each.log_softmax(1) for each in logits.split(SIZES, 1)], 1)
    batch: Any = SimpleNamespace(labels=TARGETS, draw=Draw(mix=mix))
    loss = multi_head_loss(log_p, batch, SIZES, label_smoothing=smoothing, focal_gamma=gamma)
    singles: list[Any] = [SimpleNamespace(labels=labels, draw=Draw(mix=mix)) for labels in (NOUNS, VERBS)]
    expected = [
        classification_loss(each, single, label_smoothing=smoothing, focal_gamma=gamma)
        for each, single in zip(logits.split(SIZES, 1), singles, strict=True)
    ]
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_an_action_is_right_when_all_its_heads_are() -> None:
    nouns = torch.tensor([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.2, 0.7, 0.1]])
    verbs = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3]])  # the second is wrong, the third's noun is
    figures = multi_head_figures(torch.cat([nouns, verbs], 1), TARGETS, split_heads(LABELS))
    loss = (F.nll_loss(nouns.log(), NOUNS) + F.nll_loss(verbs.log(), VERBS)) / 2
    assert figures == {
        "val/top1": 0.5,
        "val/top5": 1.0,
        "val/loss": pytest.approx(float(loss)),
        "val/top1_noun": 0.75,
        "val/top1_verb": 0.75,
    }


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("verb:open", r"a.mp4 has the label 'verb:open', but each video needs exactly one class of head 'noun'"),
        ("verb:open|verb:close|noun:cup", r"needs exactly one class of head 'verb'"),
        ("", r"has the label '', but each video needs exactly one class of head 'noun'"),
    ],
)
def test_rows_need_one_label_of_each_head(label: str, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        row_targets(Manifest([VideoRecord("a.mp4", label)], root="."), LABELS, "multi_head")


@pytest.mark.slow
def test_a_run_logs_the_accuracy_of_each_head(figures: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        manifest = read_manifest(figures / f"{split}.csv")
        rows = [
            VideoRecord(str(manifest.path(i)), f"verb:{('open', 'close')[i % 2]}|noun:{('cup', 'door', 'tap')[i % 3]}")
            for i in range(len(manifest))
        ]
        write_manifest(tmp_path / f"{split}.csv", rows)
    run = make_run(
        [
            f"--run_dir={tmp_path / 'run'}",
            "--model.task=multi_head",
            "--model.backbone=tiny",
            "--model.clip={num_frames: 4, crop_px: 24}",
            f"--data.train={tmp_path / 'train.csv'}",
            f"--data.val={tmp_path / 'val.csv'}",
            "--data.num_workers=0",
            "--trainer.max_epochs=1",
            "--trainer.accelerator=cpu",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
            "--report.every_n_epochs=0",
        ]
    )
    train_run(run)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    _, labels, probabilities = (torch.cat(parts) for parts in zip(*run.model.val_scores, strict=True))
    expected = multi_head_figures(probabilities, labels, split_heads(LABELS))
    assert {name: pytest.approx(float(row[name]), rel=1e-5) for name in expected} == expected
    network = load_network(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert (network.task, network.labels) == ("multi_head", LABELS)
