from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from farfield.layers import BatchNorm2d, BatchNorm3d, FrozenBatchNorm3d, SubBatchNorm3d, freeze_batch_norm
from layers.blocks import awake

X = torch.randn(3, 5, 2, 7, 4)


def test_is_the_evaluated_batch_norm_whatever_the_mode() -> None:
    norm = awake(BatchNorm3d(5)).eval()
    frozen = FrozenBatchNorm3d(5)
    frozen.load_state_dict(norm.state_dict())
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    torch.testing.assert_close(frozen.train()(X), norm(X))
    torch.testing.assert_close(frozen.eval()(X), norm(X))
    assert all(torch.equal(before[k], v) for k, v in frozen.state_dict().items())
    assert not list(frozen.parameters())


def test_stays_frozen_under_sync_bn_conversion() -> None:
    network = nn.Sequential(FrozenBatchNorm3d(5), BatchNorm3d(5))
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    assert isinstance(converted[0], FrozenBatchNorm3d)
    assert isinstance(converted[1], nn.SyncBatchNorm)


def test_a_whole_network_is_frozen_in_place() -> None:
    network = awake(nn.Sequential(nn.Conv3d(5, 5, 1), nn.Sequential(BatchNorm3d(5, eps=0.1), nn.ReLU()))).eval()
    expected = network(X)
    assert freeze_batch_norm(network) is network
    assert isinstance(network[1][0], FrozenBatchNorm3d)
    torch.testing.assert_close(network.train()(X), expected)
    frozen = freeze_batch_norm(awake(BatchNorm2d(5)).double())
    assert frozen.running_mean.dtype == torch.float64
    affine_free = freeze_batch_norm(BatchNorm3d(5, affine=False))
    torch.testing.assert_close(affine_free(X), BatchNorm3d(5, affine=False).eval()(X))


def test_gradient_is_the_scale() -> None:
    frozen = awake(FrozenBatchNorm3d(3)).double()
    x = torch.randn(2, 3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(frozen, (x,))


@pytest.mark.parametrize("shape", [(2, 8, 4, 1, 1), (1, 8, 1, 3, 3), (1, 8, 4, 2, 2)])
def test_gradient_does_not_depend_on_how_tensors_lie_in_memory(shape: tuple[int, ...]) -> None:
    """PyTorch's kernel for the CPU permutes some gradients: strides of axes of size 1 can be anything."""
    frozen = awake(FrozenBatchNorm3d(8))
    values, cotangent = torch.randn(2, *shape)
    scale = frozen.weight / torch.sqrt(frozen.running_var + frozen.eps)
    expected = cotangent * scale.view(1, -1, 1, 1, 1)
    usual = [values.stride(), torch.empty(shape, memory_format=torch.channels_last_3d).stride()]
    odd = [[stride if size > 1 else 777 for size, stride in zip(shape, each, strict=True)] for each in usual]
    clips, _, frames, *_ = shape
    of_frames = torch.empty(clips * frames, 8, *shape[3:]).unflatten(0, (clips, frames)).transpose(1, 2).stride()
    for of_x, of_gradient in itertools.product([*usual, *odd, of_frames], repeat=2):
        x = torch.empty_strided(shape, of_x).copy_(values).requires_grad_()
        frozen(x).backward(torch.empty_strided(shape, of_gradient).copy_(cotangent))
        torch.testing.assert_close(x.grad, expected)


def test_a_norm_in_parts_is_joined_and_frozen() -> None:
    network = awake(nn.Sequential(SubBatchNorm3d(5, 3)))
    network.train()(X)
    frozen = freeze_batch_norm(network)
    assert not list(frozen.parameters())
    assert torch.equal(frozen.train()(X), frozen.eval()(X))


def test_freezing_a_norm_without_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="without running statistics can't be frozen"):
        freeze_batch_norm(nn.Sequential(BatchNorm3d(5, track_running_stats=False)))


def test_a_norm_that_stands_in_two_places_is_replaced_in_both() -> None:
    norm = BatchNorm3d(5)
    network = freeze_batch_norm(nn.ModuleDict({"first": norm, "again": nn.Sequential(norm)}))
    assert network["first"] is network["again"][0]
    assert isinstance(network["first"], FrozenBatchNorm3d)
