"""Gradients in bfloat16 on the CPU, for clips that are shorter than the kernel, against float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import conv3d

from farfield.training.short_clip_conv import ShortClipConv3d, correct_short_clip_gradients


def fill_freed_memory_with_nan() -> None:
    blocks = [torch.full((2**power,), torch.nan) for power in range(8, 21, 2) for _ in range(3)]
    del blocks


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "kernel", "dilation", "frames"),
    [(3, 16, 5, 1, 4), (16, 16, 3, 1, 2), (5, 7, 7, 1, 3), (16, 16, 3, 2, 4), (3, 16, 5, 1, 5)],
)
def test_gradients_are_those_of_float64(
    in_channels: int, out_channels: int, kernel: int, dilation: int, frames: int
) -> None:
    padding = (dilation * (kernel // 2), 1, 1)
    conv = nn.Conv3d(in_channels, out_channels, (kernel, 3, 3), (1, 2, 2), padding, (dilation, 1, 1), bias=False)
    network = nn.Sequential(conv)
    correct_short_clip_gradients(network)
    x = torch.randn(2, in_channels, frames, 11, 13).bfloat16().float().requires_grad_()
    fill_freed_memory_with_nan()
    with torch.autocast("cpu", torch.bfloat16):
        y = network(x)
    cotangent = torch.randn_like(y)
    fill_freed_memory_with_nan()
    y.backward(cotangent)
    x64, weight = x.detach().double().requires_grad_(), conv.weight.detach().double().requires_grad_()
    y64 = conv3d(x64, weight, None, (1, 2, 2), padding, (dilation, 1, 1))
    y64.backward(cotangent.double())
    for ours, theirs in ((y, y64), (x.grad, x64.grad), (conv.weight.grad, weight.grad)):
        assert (ours.double() - theirs).abs().max() < 0.02 * theirs.abs().max()


def test_parameters_stay_and_longer_clips_are_in_bfloat16() -> None:
    conv = nn.Conv3d(4, 6, (3, 1, 1), padding=(1, 0, 0))
    network = nn.Sequential(conv, nn.Conv3d(6, 2, (1, 3, 3)))
    before = copy.deepcopy(network)
    correct_short_clip_gradients(network)
    assert [type(module) for module in network] == [ShortClipConv3d, nn.Conv3d]
    assert network[0].weight is conv.weight
    x = torch.randn(1, 4, 3, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(x).dtype == torch.bfloat16
        assert network[0](x[:, :, :2]).dtype == torch.float32
    assert torch.equal(network(x[:, :, :2]), before(x[:, :, :2]))
