from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from farfield import build_model
from farfield.layers import (
    BatchNorm1d,
    BatchNorm3d,
    NonLocalBlock3d,
    fold_batch_norm,
    freeze_batch_norm,
    split_batch_norm,
)
from layers.blocks import awake

NARROW = {"slowfast_r50": {"width": 8}, "i3d_r50": {"width": 8}}


def norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())


@pytest.mark.parametrize("conv", [nn.Conv3d(2, 6, 3, bias=False), nn.Conv3d(2, 6, (1, 3, 3), groups=2, padding=1)])
def test_folding_matches_the_equation(conv: nn.Conv3d) -> None:
    network = awake(nn.Sequential(conv, BatchNorm3d(6))).double().eval()
    x = torch.randn(2, 2, 5, 4, 3, dtype=torch.float64)
    folded = fold_batch_norm(network, x)
    norm = network[1]
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    torch.testing.assert_close(folded[0].weight, conv.weight * scale.view(-1, 1, 1, 1, 1))
    bias = torch.zeros(6) if conv.bias is None else conv.bias
    torch.testing.assert_close(folded[0].bias, (bias - norm.running_mean) * scale + norm.bias)
    torch.testing.assert_close(folded(x), network(x), rtol=1e-12, atol=1e-12)
    assert norms(folded) == 0
    assert norms(network) == 1


@pytest.mark.parametrize("backbone", ["tiny", "r3d_18", pytest.param("i3d_r50", marks=pytest.mark.slow)])
def test_whole_networks_agree(backbone: str) -> None:
    insert = {"res3": [0], "res4": [0, 1]}
    options = NARROW.get(backbone)
    network = awake_gently(build_model(backbone, num_classes=3, insert=insert, backbone_options=options)).eval()
    x = torch.randn(1, 3, 4, 32, 32)
    folded = fold_batch_norm(network, x)
    assert norms(folded) == 0
    expected = network(x)
    torch.testing.assert_close(folded(x), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    other = torch.randn(2, 3, 4, 48, 32)
    expected = network(other)
    torch.testing.assert_close(folded(other), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["tiny", "x3d_xs", "slowfast_r50"])
def test_on_the_meta_device_the_same_norms_fold(backbone: str) -> None:
    network = awake_gently(build_model(backbone, num_classes=3, backbone_options=NARROW.get(backbone))).eval()
    x = torch.randn(1, 3, network.clip.num_frames, 64, 64)
    computed, traced = fold_batch_norm(network, x), fold_batch_norm(network, x.to("meta"))
    assert [(name, type(module)) for name, module in traced.named_modules()] == [
        (name, type(module)) for name, module in computed.named_modules()
    ]
    assert norms(traced) == 0
    for (name, ours), theirs in zip(traced.state_dict().items(), computed.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def awake_gently(network: nn.Module) -> nn.Module:
    """Norms that do something, in a network deep enough for random weights to overflow."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.2, 0.6)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return network


class Shared(nn.Module):
    """A convolution that something beside its norm reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 2, 1)
        self.norm = BatchNorm3d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class Twice(nn.Module):
    """A convolution with a norm that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 2, 1)
        self.norm = BatchNorm3d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(self.norm(self.conv(x))))


class Returned(Shared):
    """A convolution whose output the network gives, too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return torch.stack([self.norm(y), y.mT.mT])


def test_a_convolution_whose_output_is_returned_is_left_alone() -> None:
    class Both(Shared):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
            y = self.conv(x)
            return self.norm(y), y

    assert norms(fold_batch_norm(awake(Both()), torch.randn(1, 2, 1, 2, 2))) == 1


@pytest.mark.parametrize(
    ("network", "left"),
    [
        (Shared(), 1),
        (Twice(), 1),
        (Returned(), 1),
        (nn.Sequential(weight_norm(nn.Conv3d(2, 2, 1)), BatchNorm3d(2)), 1),
        (nn.Sequential(BatchNorm3d(2), nn.Conv3d(2, 2, 1)), 1),
        (nn.Sequential(nn.Conv3d(2, 2, 1), nn.ReLU(), BatchNorm3d(2)), 1),
        (nn.Sequential(nn.Conv3d(2, 2, 1), BatchNorm3d(2), BatchNorm3d(2)), 1),
        (nn.Sequential(nn.Conv3d(2, 2, 1), BatchNorm3d(2, track_running_stats=False)), 1),
        (nn.Sequential(nn.Flatten(2), nn.Conv1d(2, 2, 3), BatchNorm1d(2)), 0),
        (NonLocalBlock3d(2, pairwise="gaussian"), 0),
    ],
)
def test_only_norms_after_an_unshared_convolution_are_folded(network: nn.Module, left: int) -> None:
    network = awake(network).eval()
    x = torch.randn(2, 2, 2, 4, 4)
    folded = fold_batch_norm(network, x)
    assert norms(folded) == norms(fold_batch_norm(network, x.to("meta"))) == left
    torch.testing.assert_close(folded(x), network(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", [freeze_batch_norm, lambda network: split_batch_norm(network, 2)])
def test_frozen_norms_and_norms_in_parts_fold_too(change: object) -> None:
    network = change(awake(nn.Sequential(nn.Conv3d(2, 3, 1), BatchNorm3d(3))))  # type: ignore[operator]
    x = torch.randn(2, 2, 2, 2, 2)
    folded = fold_batch_norm(network, x)
    assert isinstance(folded[1], nn.Identity)
    torch.testing.assert_close(folded(x), network.eval()(x))


def test_leaves_the_network_as_it_was() -> None:
    network = awake(nn.Sequential(nn.Conv3d(2, 3, 1), BatchNorm3d(3))).train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    fold_batch_norm(network, torch.randn(1, 2, 1, 1, 1))
    assert network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not network[0]._forward_hooks


def test_in_place_equals_the_copy() -> None:
    network = awake(nn.Sequential(nn.Conv3d(2, 3, 1), BatchNorm3d(3), nn.ReLU()))
    x = torch.randn(1, 2, 1, 2, 2)
    copied = fold_batch_norm(network, x)
    folded = fold_batch_norm(network, x, in_place=True)
    assert folded is network
    assert norms(network) == 0
    assert torch.equal(folded(x), copied(x))
