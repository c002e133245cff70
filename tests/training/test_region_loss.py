from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from farfield import build_model
from farfield.checkpoints.checkpoint import load_network
from farfield.data.augmentation import Draw, Mix
from farfield.data.datasets import Batch
from farfield.training.region_loss import region_logits, region_loss
from training.test_fit import arguments


def clips_with(labels: torch.Tensor, mix: Mix | None = None) -> Batch:
    return Batch(torch.empty(0), labels, torch.arange(len(labels)), Draw(mix=mix), [], None, None)


def network(**options: int) -> torch.nn.Module:
    clip = {"num_frames": 4, "crop_px": 32}
    insert = {"res3": [0], "res4": [1]}
    return build_model("tiny", num_classes=3, insert=insert, block="object_context", block_options=options, clip=clip)


def test_logits_are_collected_only_within_the_context() -> None:
    model = network()
    with region_logits(model) as logits:
        model(torch.randn(2, 3, 4, 32, 32))
    assert [tuple(each.shape[:2]) for each in logits] == [(2, 3), (2, 3)]
    model(torch.randn(2, 3, 4, 32, 32))
    assert len(logits) == 2
    labels = torch.tensor([2, 0])
    expected = sum(F.cross_entropy(each.flatten(2).mean(2), labels) for each in logits) / 2
    torch.testing.assert_close(region_loss(logits, clips_with(labels)), expected)


@pytest.mark.parametrize("is_multilabel", [False, True])
def test_mixed_clips_have_mixed_targets(is_multilabel: bool) -> None:
    """The target of a mixed clip is the weighted mean of the one-hot targets, of which torch computes the entropy."""
    logits = [torch.randn(4, 3, 2, 2, 2), torch.randn(4, 3, 1, 1, 1)]
    labels = torch.tensor([1, 0, 2, 1])
    one_hot = F.one_hot(labels, 3).float()
    partner, share = torch.tensor([2, 0, 3, 1]), torch.tensor([0.6, 0.7, 1.0, 0.5])
    targets = share[:, None] * one_hot + (1 - share[:, None]) * one_hot[partner]
    entropy = F.binary_cross_entropy_with_logits if is_multilabel else F.cross_entropy
    expected = sum(entropy(each.flatten(2).mean(2), targets) for each in logits) / 2
    mix = Mix(partner, share, torch.zeros(4, 4, dtype=torch.long))
    found = region_loss(logits, clips_with(one_hot if is_multilabel else labels, mix))
    torch.testing.assert_close(found, expected)


def test_other_region_counts_are_not_supervised() -> None:
    model = network(num_regions=5)
    with region_logits(model) as logits:
        model(torch.randn(2, 3, 4, 32, 32))
    assert logits == []


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.4, 0.0])
def test_run_trains_the_region_logits(
    weight: float, figures: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    """Only the auxiliary loss changes the regions' bias, which the softmax over positions cancels."""
    options = ["--model.insert={res3: [1]}", "--model.block=object_context"]
    options += [f"--model.optimisation.region_loss_weight={weight}"]
    assert run_farfield(*arguments(figures, tmp_path, *options)) == 0
    trained = load_network(tmp_path / "checkpoints" / "last.ckpt")
    block = trained.backbone.stages["res3"][1].inserted
    assert block.regions.out_channels == len(trained.labels)
    assert bool(block.regions.bias.abs().max() > 1e-6) == bool(weight)
