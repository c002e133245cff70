"""The tiny networks against PyTorchVideo's builders, which made them in earlier versions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from pytorchvideo.models.net import Net
from pytorchvideo.models.resnet import create_bottleneck_block, create_res_stage
from pytorchvideo.models.stem import create_res_basic_stem
from torch import nn

from farfield.layers import BatchNorm3d
from farfield.models.backbones import BACKBONES
from farfield.models.backbones.backbone import Backbone
from farfield.models.backbones.dilation import dilate


def seeded(make: Callable[..., Backbone], **options: Any) -> Backbone:
    torch.manual_seed(5)
    return make(**options)


def pytorchvideo(name: str, *, depth: int, dilated: bool) -> Backbone:
    with torch.device("meta"):
        ours = BACKBONES[name](depth=depth)
    stem_kernel, block_kernel = {"tiny": (5, 3), "tiny_c2d": (1, 1)}[name]
    kernels = [block_kernel if i % 2 == 0 else 1 for i in range(depth)]
    stem = create_res_basic_stem(
        in_channels=3,
        out_channels=16,
        conv_kernel_size=(stem_kernel, 5, 5),
        conv_stride=(1, 2, 2),
        conv_padding=(stem_kernel // 2, 2, 2),
        norm=BatchNorm3d,
    )
    stages = [
        create_res_stage(
            depth=depth,
            dim_in=dim_in,
            dim_inner=dim_out // 2,
            dim_out=dim_out,
            bottleneck=create_bottleneck_block,
            conv_a_kernel_size=[(k, 1, 1) for k in kernels],
            conv_a_stride=(1, 1, 1),
            conv_a_padding=[(k // 2, 0, 0) for k in kernels],
            conv_b_stride=(1, 1, 1) if dim_in == 16 else (1, 2, 2),
            norm=BatchNorm3d,
        )
        for dim_in, dim_out in ((16, 32), (32, 64), (64, 128), (128, 256))
    ]
    backbone = Backbone(Net(blocks=nn.ModuleList([stem, *stages])), ours.stage_specs, ours.clip, out_channels=256)
    return dilate(backbone) if dilated else backbone


@pytest.mark.parametrize(
    ("name", "depth", "dilated"), [("tiny", 2, False), ("tiny", 3, True), ("tiny_c2d", 1, False), ("tiny_c2d", 2, True)]
)
def test_a_seed_gives_the_weights_outputs_and_gradients_of_pytorchvideo(name: str, depth: int, dilated: bool) -> None:
    ours, theirs = (
        seeded(make, depth=depth, dilated=dilated) for make in (BACKBONES[name], partial(pytorchvideo, name))
    )
    weights = theirs.state_dict()
    assert list(ours.state_dict()) == list(weights)
    torch.testing.assert_close(ours.state_dict(), weights, rtol=0, atol=0)
    for module in [*ours.modules(), *theirs.modules()]:
        if isinstance(module, nn.BatchNorm3d):  # those that start at 0 would hide their blocks
            nn.init.constant_(module.weight, 0.7)
    clips = torch.randn(2, 3, 5, 37, 41)
    features = [network.train()(clips) for network in (ours, theirs)]
    torch.testing.assert_close(*features, rtol=0, atol=0)
    for each in features:
        (each * torch.linspace(-1, 1, each.numel()).view_as(each)).sum().backward()
    for (key, found), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert found.grad is not None
        torch.testing.assert_close(found.grad, expected.grad, rtol=0, atol=0, msg=key)
