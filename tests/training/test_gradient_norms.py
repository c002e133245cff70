"""Gradient norms by stage, against a loop over the parameters."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from farfield import build_model
from farfield.training.gradient_norms import gradient_norms, stages_of
from training.run_copies import copy_option
from training.test_fit import arguments

STAGE_OF = {  # written by hand from tiny's names
    "backbone.trunk.blocks.0.": "stem",
    "backbone.trunk.blocks.1.": "res2",
    "backbone.trunk.blocks.2.": "res3",
    "backbone.trunk.blocks.3.": "res4",
    "backbone.trunk.blocks.4.": "res5",
    "head.": "head",
}


def literal_norms(network: nn.Module) -> dict[str, float]:
    squares = dict.fromkeys(STAGE_OF.values(), 0.0)
    for name, parameter in network.named_parameters():
        (stage,) = [stage for start, stage in STAGE_OF.items() if name.startswith(start)]
        if parameter.grad is not None:
            squares[stage] += float(parameter.grad.double().square().sum())
    return {stage: math.sqrt(square) for stage, square in squares.items()}


def after_a_way_back() -> nn.Module:
    clip = {"num_frames": 4, "crop_px": 24}
    network = build_model("tiny", num_classes=3, insert={"res3": [1], "res4": [0]}, clip=clip).train()
    for parameter in network.parameters():
        parameter.data.add_(0.03 * torch.randn_like(parameter))
    network(torch.randn(3, 3, 4, 24, 24)).square().sum().backward()
    return network


def test_norms_equal_those_of_a_loop() -> None:
    network = after_a_way_back()
    found, expected = gradient_norms(network), literal_norms(network)
    assert list(found) == stages_of(network) == list(STAGE_OF.values())
    assert found == pytest.approx(expected, rel=1e-5)
    assert len({round(norm, 4) for norm in found.values()}) == 6


def test_inserted_blocks_belong_to_their_stage() -> None:
    network = after_a_way_back()
    before = gradient_norms(network)
    (theta,) = [p for name, p in network.named_parameters() if name.endswith("blocks.3.res_blocks.0.inserted.g.weight")]
    theta.grad = torch.full_like(theta, 100.0)
    after = gradient_norms(network)
    assert {stage for stage in after if after[stage] != before[stage]} == {"res4"}


def test_norms_combine_to_the_total_norm() -> None:
    network = after_a_way_back()
    found = gradient_norms(network)
    total = nn.utils.clip_grad_norm_(network.parameters(), 1e9)
    assert math.sqrt(sum(norm**2 for norm in found.values())) == pytest.approx(float(total), rel=1e-5)


def test_frozen_parts_have_no_norm() -> None:
    network = after_a_way_back()
    for name, parameter in network.named_parameters():
        if name.startswith("backbone.trunk.blocks.1."):
            parameter.grad = None
    assert "res2" not in gradient_norms(network)
    assert "res2" in stages_of(network)


class Recorder(Callback):
    """Record the norms by a loop, before gradients are clipped."""

    norms: list[dict[str, float]]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Recorder.norms = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        network: Any = pl_module.network
        Recorder.norms.append(literal_norms(network))


def run(figures: Path, run_dir: Path, run_farfield: Callable[..., int], *more: str) -> str:
    options = ["--data.batch_size=3", "--trainer.accumulate_grad_batches=2", "--trainer.gradient_clip_val=0.01"]
    options += ["--trainer.log_every_n_steps=2", "--trainer.max_epochs=2", "--checkpoint_every_n_steps=2"]
    options += ["--trainer.limit_val_batches=1", "--model.insert={res3: [1]}", *more]
    assert run_farfield(*arguments(figures, run_dir, *options)) == 0
    return (run_dir / "gradient_norms.csv").read_text()


@pytest.mark.slow
def test_log_is_the_same_after_a_resume(figures: Path, tmp_path: Path, run_farfield: Callable[..., int]) -> None:
    """6 batches are 3 steps an epoch; stopped in step 6, after its row, the run resumes from step 5's checkpoint."""
    copy = copy_option(tmp_path / "whole", tmp_path, {"stopped": ("on_validation_start", 6)})
    record = "--trainer.callbacks+={class_path: training.test_gradient_norms.Recorder}"
    whole = run(figures, tmp_path / "whole", run_farfield, copy, record)
    assert len(Recorder.norms) == 6
    with (tmp_path / "whole/gradient_norms.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "stem", "res2", "res3", "res4", "res5", "head"]
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    for row in rows:
        expected = Recorder.norms[int(row["step"]) - 1]
        assert {stage: float(row[stage]) for stage in expected} == pytest.approx(expected, rel=1e-4)
        assert max(expected.values()) > 0.01  # not yet clipped

    stopped = tmp_path / "stopped"
    assert (stopped / "gradient_norms.csv").read_text() == whole
    assert torch.load(stopped / "checkpoints/last.ckpt", weights_only=True)["global_step"] < 6
    assert run(figures, stopped, run_farfield, "--resume=true") == whole
