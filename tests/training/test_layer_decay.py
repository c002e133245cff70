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


@pytest.mark.parametrize(
    ("name", "depth", "layers"),
    [
        ("mvit_v2_s", 16, {"pos_encoding.class_token": 0, "blocks.0.attn.qkv.weight": 1, "blocks.15.norm2.bias": 16}),
        # as in the published fine-tuning of Swin, a patch merging belongs to the layer before it
        (
            "swin3d_t",
            12,
            {
                "patch_embed.proj.weight": 0,
                "features.0.1.norm1.bias": 2,
                "features.1.norm.bias": 2,
                "features.2.0.norm1.bias": 3,
                "features.6.1.norm2.bias": 12,
            },
        ),
    ],
)
def test_layers_of_torchvisions_transformers(name: str, depth: int, layers: dict[str, int]) -> None:
    with torch.device("meta"):
        scales = learning_rate_scales(build_model(name, num_classes=3), 0.5)
    assert min(scales.values()) == 0.5 ** (depth + 1)
    for parameter, layer in layers.items():
        assert scales[f"backbone.trunk.network.{parameter}"] == 0.5 ** (depth + 1 - layer)
    assert scales["head.fc.weight"] == 1


def test_network_without_stages_is_refused() -> None:
    with torch.device("meta"):
        network = build_model("mvit_v2_s", num_classes=3)
    network.backbone.layer_paths = ()
    with pytest.raises(FarfieldError, match="layer_decay needs a network with stages, but this network has none"):
        learning_rate_scales(network, 0.5)
