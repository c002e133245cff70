"""Networks whose weights a checkpoint replaces are built without drawing random ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farfield import build_model, save_model
from farfield.checkpoints.checkpoint import load_network
from farfield.models.backbones import BACKBONES
from farfield.models.insertion import BLOCKS
from farfield.models.network import assemble, assemble_uninitialised, build_backbone
from farfield.models.network_options import NetworkOptions


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_tensor_of_a_backbone_is_in_its_state_dict(backbone: str) -> None:
    """Others would stay unset."""
    with torch.device("meta"):
        network = build_backbone(backbone)
    state = network.state_dict()
    assert [name for name, _ in network.named_buffers() if name not in state] == []


@pytest.mark.parametrize("block", BLOCKS)
def test_a_network_with_blocks_takes_the_state_of_another(block: str) -> None:
    options = NetworkOptions("tiny", num_classes=3, insert={"res3": [1]}, block=block)
    network = assemble(options).eval()
    state = torch.get_rng_state()
    ours = assemble_uninitialised(options).eval()
    assert torch.equal(torch.get_rng_state(), state)  # nothing is drawn
    ours.load_state_dict(network.state_dict())
    x = torch.randn(1, 3, 5, 40, 40)
    assert torch.equal(ours(x), network(x))


def test_a_checkpoint_loads_exactly_without_its_counters(tmp_path: Path) -> None:
    network = build_model("tiny", num_classes=3, insert={"res3": [1]})
    save_model(network, tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    content["state_dict"] = {name: value for name, value in content["state_dict"].items() if "num_batches" not in name}
    torch.save(content, tmp_path / "a.ckpt")
    torch.full((2**20,), 7).sum()  # freed memory that is not zero
    loaded = load_network(tmp_path / "a.ckpt")
    for (name, ours), theirs in zip(loaded.state_dict().items(), network.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
