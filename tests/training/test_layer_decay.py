"""Layer-wise learning-rate decay."""

from __future__ import annotations

import pytest
import torch

from farfield import build_model
from farfield.errors import FarfieldError
from farfield.training.layer_decay import learning_rate_scales
from farfield.training.lightning_module import TrainingModule
from farfield.training.optimisation import Optimisation, make_optimizer


def test_rate_falls_with_depth() -> None:
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


def test_both_pathways_of_slowfast_have_equal_rates() -> None:
    with torch.device("meta"):
        network = build_model("slowfast_r50", num_classes=3)
    scales = learning_rate_scales(network, 0.5)
    blocks = "backbone.trunk.blocks.2.multipathway_blocks"
    slow, fast = (scales[f"{blocks}.{p}.res_blocks.3.branch2.conv_a.weight"] for p in (0, 1))
    assert slow == fast == 0.5 ** (17 - 7)
    assert scales["backbone.trunk.blocks.2.multipathway_fusion.conv_fast_to_slow.weight"] == slow


def test_invalid_decay_is_refused() -> None:
    with pytest.raises(FarfieldError, match=r"layer_decay is 0\.0; it must be above 0"):
        Optimisation(layer_decay=0.0)


def test_network_without_stages_is_refused() -> None:
    with torch.device("meta"):
        network = build_model("mvit_v2_s", num_classes=3)
    with pytest.raises(FarfieldError, match="layer_decay needs a network with stages, but this network has none"):
        learning_rate_scales(network, 0.5)
