from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from farfield.layers import BatchNorm3d, SubBatchNorm3d, batch_norm, join_batch_norm, split_batch_norm
from layers.blocks import awake

X = torch.randn(6, 5, 2, 3, 4, dtype=torch.float64)


def test_each_part_is_normalised_by_its_own_statistics() -> None:
    """Sample i goes to part i mod S: against the equation on every part, gradients included."""
    norm = awake(SubBatchNorm3d(5, 3)).double()
    x = X.clone().requires_grad_()
    y = norm(x)
    zeros, ones = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    x_parts = X.clone().requires_grad_()
    parts = [batch_norm(x_parts[s::3], norm.weight, norm.bias, zeros, ones, training=True)[0] for s in range(3)]
    expected = torch.stack(parts, 1).flatten(0, 1)
    torch.testing.assert_close(y, expected)
    cotangent = torch.randn_like(y)
    for ours, equation in zip(
        torch.autograd.grad((y * cotangent).sum(), (x, norm.weight, norm.bias)),
        torch.autograd.grad((expected * cotangent).sum(), (x_parts, norm.weight, norm.bias)),
        strict=True,
    ):
        torch.testing.assert_close(ours, equation)


def test_evaluates_with_the_aggregated_statistics() -> None:
    norm = SubBatchNorm3d(5, 2, momentum=1.0).double()
    norm(X)
    parts = [X[s::2].transpose(0, 1).flatten(1) for s in range(2)]
    means, variances = torch.stack([p.mean(1) for p in parts]), torch.stack([p.var(1) for p in parts])
    in_training = {k: v.clone() for k, v in norm.state_dict().items()}
    norm.eval()
    mean = means.mean(0)
    torch.testing.assert_close(norm.bn.running_mean, mean)
    torch.testing.assert_close(norm.bn.running_var, (variances + (means - mean) ** 2).mean(0))
    torch.testing.assert_close(
        norm(X[:1]),
        batch_norm(X[:1], norm.weight, norm.bias, norm.bn.running_mean, norm.bn.running_var, training=False)[0],
    )
    torch.testing.assert_close(in_training["bn.running_mean"], mean)  # a checkpoint taken in training has them, too


def test_state_dict_keys_are_pyslowfasts() -> None:
    assert set(SubBatchNorm3d(5, 2).state_dict()) == {"weight", "bias"} | {
        f"{norm}.{key}" for norm in ("bn", "split_bn") for key in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert SubBatchNorm3d(5, 2).split_bn.running_mean.shape == (10,)


def test_a_network_is_split_and_joined_again() -> None:
    network = awake(nn.Sequential(nn.Conv3d(5, 5, 1), BatchNorm3d(5, momentum=0.3, eps=0.01))).double()
    expected = copy.deepcopy(network).eval()(X)
    split = split_batch_norm(copy.deepcopy(network), 3)
    assert isinstance(split[1], SubBatchNorm3d)
    torch.testing.assert_close(split.eval()(X), expected)
    split.train()(X)
    evaluated = copy.deepcopy(split).eval()(X)
    joined = join_batch_norm(split)
    assert type(joined[1]) is BatchNorm3d
    assert joined[1].training
    assert (joined[1].momentum, joined[1].eps) == (0.3, 0.01)
    torch.testing.assert_close(joined.eval()(X), evaluated)


def test_a_gamma_of_zero_survives() -> None:
    split = split_batch_norm(nn.Sequential(BatchNorm3d(5, zero_init=True)), 2)
    assert split[0].weight.eq(0).all()
    nn.init.ones_(split[0].weight)
    split[0].reset_parameters()
    assert split[0].weight.eq(0).all()
    assert join_batch_norm(split)[0].zero_init
    with pytest.raises(ValueError, match="affine=False has no gamma"):
        SubBatchNorm3d(5, 2, affine=False, zero_init=True)


def test_keeps_channels_last_memory() -> None:
    x = X.float().to(memory_format=torch.channels_last_3d)
    norm = SubBatchNorm3d(5, 2)
    assert norm(x).is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(norm(x), SubBatchNorm3d(5, 2)(x.contiguous()))


def test_gradients_are_those_of_the_function() -> None:
    norm = awake(SubBatchNorm3d(3, 2)).double()
    x = torch.randn(4, 3, 1, 2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))


def test_an_empty_batch_stays_empty() -> None:
    assert SubBatchNorm3d(5, 2)(torch.empty(0, 5, 2, 3, 3)).shape == (0, 5, 2, 3, 3)


def test_a_batch_without_equal_parts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a batch of 6 cannot be split into 4 equal parts. Choose a batch size"):
        SubBatchNorm3d(5, 4).double()(X)
    with pytest.raises(ValueError, match=r"already split into 2 parts; given num_splits=4. Call join_batch_norm"):
        split_batch_norm(nn.Sequential(SubBatchNorm3d(5, 2)), 4)
    with pytest.raises(ValueError, match="num_splits is 0; give at least 1"):
        SubBatchNorm3d(5, 0)
