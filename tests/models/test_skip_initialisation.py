"""Networks whose weights a checkpoint replaces are built without drawing random ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farfield import build_model, save_model
from farfield.checkpoints.checkpoint import load_network
from farfield.models.network import build_backbone
from farfield.models.skip_initialisation import SkipInitialisation


@pytest.mark.parametrize("backbone", ["tiny", "x3d_xs", "s3d", "r3d_18", "mvit_v2_s"])
def test_nothing_is_drawn_and_buffers_are_the_same(backbone: str) -> None:
    whole = build_backbone(backbone)
    state = torch.get_rng_state()
    with SkipInitialisation():
        empty = build_backbone(backbone)
    assert torch.equal(torch.get_rng_state(), state)
    assert [(name, each.shape) for name, each in empty.named_parameters()] == [
        (name, each.shape) for name, each in whole.named_parameters()
    ]
    for (name, ours), theirs in zip(empty.named_buffers(), whole.buffers(), strict=True):
        assert torch.equal(ours, theirs), name


def test_a_checkpoint_loads_exactly_and_draws_nothing(tmp_path: Path) -> None:
    network = build_model("tiny", num_classes=3, insert={"res3": [1]})
    save_model(network, tmp_path / "a.ckpt")
    state = torch.get_rng_state()
    loaded = load_network(tmp_path / "a.ckpt")
    assert torch.equal(torch.get_rng_state(), state)
    for (name, ours), theirs in zip(loaded.state_dict().items(), network.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
