"""Small networks whose every part shows in the scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from farfield import build_model
from farfield.models.network import ActionNet

TINY: dict[str, Any] = {
    "backbone": "tiny",
    "backbone_options": {"depth": 1},
    "labels": ["bow", "get_up", "lie_down", "sit_down", "wave"],
    "insert": {"res3": [0]},
    "clip": {"num_frames": 4, "crop_px": 32, "num_clips": 2},
}


def awake(seed: int = 0, **arguments: Any) -> ActionNet:
    """A network with norms that scale and shift, attention that is not flat, and blocks that are no identity."""
    torch.manual_seed(seed)
    network = build_model(**{**TINY, **arguments})
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, std=0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        for name, parameter in module.named_parameters(recurse=False):
            if name.startswith("gamma"):
                nn.init.constant_(parameter, 0.7)
    for name, parameter in network.named_parameters():
        if "inserted" in name and parameter.ndim == 5:
            nn.init.normal_(parameter, std=2 * parameter.shape[1] ** -0.5)
    nn.init.normal_(network.head.fc.weight, std=0.2)
    return network.eval()


def without_repeats(network: ActionNet, *, keep: int = 2, keep_later: int | None = None) -> None:
    """Remove residual blocks that are like the one before, but for the first `keep` of each stage.

    Of the stages after res2, `keep_later` blocks are kept, if given.
    """
    for stage, spec in network.backbone.stage_specs.items():
        begin = keep if keep_later is None or stage.endswith("res2") else keep_later
        for index in range(begin, len(spec.channels)):
            if spec.channels[index] == spec.channels[index - 1]:
                network.backbone.replace_block(stage, index, nn.Identity())


def without_branches(network: ActionNet) -> ActionNet:
    """Replace each stage's first block by the convolution of its shortcut, except where a block is inserted after it.

    For tests of what comes before and after the blocks: such a network is exported in a third of the time.
    """
    for stage in network.backbone.stage_specs:
        shortcut = getattr(network.backbone.blocks(stage)[0], "branch1_conv", None)
        if shortcut is not None:
            network.backbone.replace_block(stage, 0, shortcut)
    return network
