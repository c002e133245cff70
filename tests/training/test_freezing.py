from __future__ import annotations

import pytest
import torch
from torch import nn

from farfield import build_model
from farfield.errors import FarfieldError
from farfield.layers import FrozenBatchNorm3d
from farfield.training.freezing import learning_rate_scales
from farfield.training.lightning_module import TrainingModule
from farfield.training.optimisation import Optimisation, make_optimizer


def wake(network: nn.Module) -> None:
    """Takes every parameter away from zero, behind which no gradient comes."""
    torch.manual_seed(2)
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))


def step(module: TrainingModule) -> dict[str, torch.Tensor]:
    """One optimiser step; returns the network's state before it."""
    module.train()
    before = {key: value.clone() for key, value in module.network.state_dict().items()}
    optimizer = make_optimizer(module.network, module.optimisation)
    module(torch.randn(4, 3, 4, 40, 40)).square().sum().backward()
    optimizer.step()
    return before


def test_a_frozen_stage_keeps_weights_and_statistics() -> None:
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


def test_frozen_norms_leave_the_rest_to_learn() -> None:
    network = build_model("tiny", num_classes=3, dropout=0.0)
    wake(network)
    module = TrainingModule(network, Optimisation(freeze_batch_norm=True))
    before = step(module)
    norms = [name for name, m in network.named_modules() if isinstance(m, FrozenBatchNorm3d)]
    assert len(norms) == sum(isinstance(m, nn.BatchNorm3d) for m in build_model("tiny", num_classes=3).modules())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]) == any(key.startswith(norm + ".") for norm in norms), key


def test_norms_of_inserted_blocks_learn_though_all_others_are_frozen() -> None:
    """They begin at zero: frozen, the block would stay the identity for ever."""
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


def test_layers_learn_the_slower_the_deeper_they_are() -> None:
    network = build_model("tiny", num_classes=3, insert={"res3": [1]})
    scales = learning_rate_scales(network, 0.5)
    assert scales["head.fc.weight"] == 1
    trunk = "backbone.trunk.blocks"
    assert scales[f"{trunk}.4.res_blocks.1.branch2.conv_a.weight"] == 0.5  # the last of eight blocks
    assert scales[f"{trunk}.4.res_blocks.0.branch2.conv_a.weight"] == 0.5**2
    assert scales[f"{trunk}.2.res_blocks.1.inserted.theta.weight"] == 0.5**5
    assert scales[f"{trunk}.2.res_blocks.1.residual.branch2.conv_a.weight"] == 0.5**5
    assert scales[f"{trunk}.0.conv.weight"] == 0.5**9
    module = TrainingModule(network, Optimisation(lr=0.2, layer_decay=0.5))
    groups = make_optimizer(module.network, module.optimisation, scales).param_groups
    assert groups[0]["lr"] == 0.2
    assert min(group["lr"] for group in groups) == pytest.approx(0.2 * 0.5**9)
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(p) for name, p in network.named_parameters() if p.ndim > 1}


def test_both_pathways_of_slowfast_count_alike() -> None:
    with torch.device("meta"):
        network = build_model("slowfast_r50", num_classes=3)
    scales = learning_rate_scales(network, 0.5)
    blocks = "backbone.trunk.blocks.2.multipathway_blocks"
    slow, fast = (scales[f"{blocks}.{p}.res_blocks.3.branch2.conv_a.weight"] for p in (0, 1))
    assert slow == fast == 0.5 ** (17 - 7)
    assert scales["backbone.trunk.blocks.2.multipathway_fusion.conv_fast_to_slow.weight"] == slow


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"freeze_through": "res6"}, "freeze_through is 'res6'. Known: stem, res2, res3, res4, res5"),
        ({"layer_decay": 0.0}, "layer_decay is 0.0; it must be above 0"),
    ],
)
def test_mistakes_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        TrainingModule(build_model("tiny", num_classes=3), Optimisation(**arguments))


def test_a_network_without_stages_cannot_be_frozen_by_stage() -> None:
    with torch.device("meta"):
        network = build_model("mvit_v2_s", num_classes=3)
    with pytest.raises(FarfieldError, match="this network has no stages"):
        TrainingModule(network, Optimisation(freeze_through="res2"))
    with pytest.raises(FarfieldError, match="layer_decay goes by stages, and this network has none"):
        learning_rate_scales(network, 0.5)
