"""Frozen stages and batch norms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from farfield import build_model
from farfield.errors import FarfieldError
from farfield.layers import FrozenBatchNorm3d
from farfield.training.lightning_module import TrainingModule
from farfield.training.optimisation import Optimisation, make_optimizer


def wake(network: nn.Module) -> None:
    """Move every parameter away from zero, which blocks gradients."""
    torch.manual_seed(2)
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))


def step(module: TrainingModule) -> dict[str, torch.Tensor]:
    """Take an optimiser step, and return the network's state before it."""
    module.train()
    before = {key: value.clone() for key, value in module.network.state_dict().items()}
    optimizer = make_optimizer(module.network, module.optimisation)
    module(torch.randn(4, 3, 4, 40, 40)).square().sum().backward()
    optimizer.step()
    return before


def test_frozen_stage_keeps_weights_and_statistics() -> None:
    network = build_model("tiny", num_classes=3, insert={"res2": [1]}, block_options={"norm": False}, dropout=0.0)
    wake(network)
    module = TrainingModule(network, Optimisation(freeze_through="res3", weight_decay=0.1))
    before = step(module)
    after = network.state_dict()
    for key, value in before.items():
        frozen = any(f"trunk.blocks.{i}." in key for i in (0, 1, 2)) and ".inserted." not in key
        changes = not torch.equal(value, after[key])
        assert changes != frozen or key.endswith("phi.bias"), key
    assert isinstance(network.backbone.trunk.blocks[0].norm, FrozenBatchNorm3d)
    assert isinstance(network.backbone.trunk.blocks[3].res_blocks[0].branch2.norm_a, nn.BatchNorm3d)


def test_frozen_norms_do_not_freeze_other_parameters() -> None:
    network = build_model("tiny", num_classes=3, dropout=0.0)
    wake(network)
    module = TrainingModule(network, Optimisation(freeze_batch_norm=True))
    before = step(module)
    norms = [name for name, m in network.named_modules() if isinstance(m, FrozenBatchNorm3d)]
    assert len(norms) == sum(isinstance(m, nn.BatchNorm3d) for m in build_model("tiny", num_classes=3).modules())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]) == any(key.startswith(norm + ".") for norm in norms), key


def test_norms_of_inserted_blocks_are_not_frozen() -> None:
    """They start at zero: frozen, they would keep the block an identity."""
    network = build_model("tiny", num_classes=3, insert={"res3": [1]}, dropout=0.0)
    module = TrainingModule(network, Optimisation(freeze_batch_norm=True))
    norm = network.backbone.blocks("res3")[1].inserted.norm
    assert isinstance(norm, nn.BatchNorm3d)
    nn.init.normal_(network.head.fc.weight)
    step(module)
    assert norm.weight.abs().max() > 0


def test_a_checkpoint_of_frozen_norms_loads_into_live_ones(tmp_path) -> None:
    from farfield.checkpoints.checkpoint import load_network, save_model

    network = build_model("tiny", num_classes=3)
    x = torch.randn(2, 3, 4, 40, 40)
    expected = network.eval()(x)
    TrainingModule(network, Optimisation(freeze_batch_norm=True))
    save_model(network, tmp_path / "a.ckpt")
    torch.testing.assert_close(load_network(tmp_path / "a.ckpt")(x), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"freeze_through": "res6"},
            "freeze_through is 'res6', which is not a stage of this network. Known: stem, res2, res3, res4, res5",
        ),
    ],
)
def test_unknown_stage_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        TrainingModule(build_model("tiny", num_classes=3), Optimisation(**arguments))


def test_layers_of_torchvisions_transformers_are_frozen() -> None:
    with torch.device("meta"):
        network = build_model("mvit_v2_s", num_classes=3)
        TrainingModule(network, Optimisation(freeze_through="layer3"))
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    frozen = {name for name, _ in network.named_parameters()} - trained
    assert {name.split(".")[4] for name in frozen if ".blocks." in name} == {"0", "1", "2"}
    assert {name.split(".")[4] for name in trained if ".blocks." in name} == {str(i) for i in range(3, 16)}
    assert "backbone.trunk.network.conv_proj.weight" in frozen
    assert "head.fc.weight" in trained


def test_a_network_without_stages_cannot_be_frozen_by_stage() -> None:
    with torch.device("meta"):
        network = build_model("mvit_v2_s", num_classes=3)
    network.backbone.layer_paths = ()
    with pytest.raises(FarfieldError, match="this network has no stages"):
        TrainingModule(network, Optimisation(freeze_through="res2"))
