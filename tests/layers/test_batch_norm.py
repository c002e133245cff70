from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from farfield.layers import BatchNorm1d, BatchNorm2d, BatchNorm3d, batch_norm, momentum_from_decay

SHAPE = (3, 5, 2, 7, 4)


def loops(x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, eps: float) -> tuple[torch.Tensor, list, list]:
    """Algorithm 1 of Ioffe and Szegedy, channel by channel, value by value."""
    y = torch.empty_like(x)
    means, variances = [], []
    for c in range(x.shape[1]):
        values = x[:, c].flatten().tolist()
        m = len(values)
        mu = sum(values) / m
        sigma2 = sum((v - mu) ** 2 for v in values) / m
        normalised = torch.tensor([(v - mu) / (sigma2 + eps) ** 0.5 for v in values], dtype=x.dtype)
        y[:, c] = (gamma[c] * normalised + beta[c]).view_as(x[:, c])
        means.append(mu)
        variances.append(sigma2 * m / (m - 1))
    return y, means, variances


def test_equation_agrees_with_loops() -> None:
    x = torch.randn(SHAPE, dtype=torch.float64) * 3 + 1
    gamma, beta = torch.randn(2, 5, dtype=torch.float64)
    y, means, variances = loops(x, gamma, beta, 1e-3)
    zeros, ones = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    ours, mean, var = batch_norm(x, gamma, beta, zeros, ones, training=True, momentum=0.3, eps=1e-3)
    torch.testing.assert_close(ours, y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mean, 0.3 * torch.tensor(means, dtype=torch.float64))
    torch.testing.assert_close(var, 0.7 + 0.3 * torch.tensor(variances, dtype=torch.float64))


@pytest.mark.parametrize("training", [True, False])
def test_module_agrees_with_equation_in_values_statistics_and_gradients(training: bool) -> None:
    norm = BatchNorm3d(5, momentum=0.2).double().train(training)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    x = torch.randn(SHAPE, dtype=torch.float64)
    inputs = [
        x.clone().requires_grad_(),
        norm.weight.detach().clone().requires_grad_(),
        norm.bias.detach().clone().requires_grad_(),
    ]
    y, mean, var = batch_norm(
        *inputs, norm.running_mean.clone(), norm.running_var.clone(), training=training, momentum=0.2
    )
    x.requires_grad_()
    cotangent = torch.randn(SHAPE, dtype=torch.float64)
    out = norm(x)
    torch.testing.assert_close(out, y, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)
    (out * cotangent).sum().backward()
    (y * cotangent).sum().backward()
    for ours, equation in zip((x, norm.weight, norm.bias), inputs, strict=True):
        torch.testing.assert_close(ours.grad, equation.grad, rtol=1e-8, atol=1e-9)


def test_gamma_and_beta_can_undo_the_normalisation() -> None:
    x = torch.randn(SHAPE, dtype=torch.float64) * 2 + 5
    mu, sigma2 = x.mean((0, 2, 3, 4)), x.var((0, 2, 3, 4), unbiased=False)
    y, _, _ = batch_norm(x, torch.sqrt(sigma2 + 1e-5), mu, mu, sigma2, training=True)
    torch.testing.assert_close(y, x, rtol=1e-12, atol=1e-12)


def test_one_value_per_channel_is_refused_in_training() -> None:
    one = torch.ones(4)
    with pytest.raises(ValueError, match=r"more than one value per channel; given an input of \(1, 4, 1, 1, 1\)"):
        batch_norm(torch.ones(1, 4, 1, 1, 1), one, one, one, one, training=True)


def test_zero_init_survives_a_reset() -> None:
    norm = BatchNorm3d(4, zero_init=True)
    assert norm.weight.eq(0).all()
    nn.init.ones_(norm.weight)
    norm.reset_parameters()
    assert norm.weight.eq(0).all()
    with pytest.raises(ValueError, match="affine=False has no gamma"):
        BatchNorm3d(4, affine=False, zero_init=True)


def test_is_an_instance_of_pytorchs_batch_norm() -> None:
    assert BatchNorm3d(4).state_dict().keys() == nn.BatchNorm3d(4).state_dict().keys()
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(BatchNorm3d(4)))
    assert isinstance(converted[0], nn.SyncBatchNorm)


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [
        (BatchNorm1d, nn.BatchNorm1d, (7, 5)),
        (BatchNorm1d, nn.BatchNorm1d, (3, 5, 7)),
        (BatchNorm2d, nn.BatchNorm2d, (3, 5, 2, 7)),
        (BatchNorm3d, nn.BatchNorm3d, (3, 5, 2, 7, 4)),
    ],
)
def test_every_dimension_is_pytorchs_and_the_equation(
    ours: type[nn.Module], theirs: type[nn.Module], shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    norm, other = ours(5, momentum=0.4).double(), theirs(5, momentum=0.4).double()
    assert torch.equal(norm(x), other(x))
    zeros, ones = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    y, mean, var = batch_norm(x, ones, zeros, zeros, ones, training=True, momentum=0.4)
    torch.testing.assert_close(norm(x), y)
    fresh = ours(5, momentum=0.4).double()
    fresh(x)
    torch.testing.assert_close(fresh.running_mean, mean)
    torch.testing.assert_close(fresh.running_var, var)
    assert ours(5, zero_init=True).weight.eq(0).all()
    with pytest.raises(ValueError, match="expected"):
        norm(torch.ones(2, 5, *[1] * len(shape)))


def test_the_other_conventions_momentum() -> None:
    """running = decay running + (1 - decay) batch, as textbooks have it, is the module with the converted momentum."""
    decay, x = 0.7, torch.randn(SHAPE)
    norm = BatchNorm3d(5, momentum=momentum_from_decay(decay))
    norm(x)
    torch.testing.assert_close(norm.running_mean, (1 - decay) * x.mean((0, 2, 3, 4)))
    torch.testing.assert_close(norm.running_var, decay + (1 - decay) * x.var((0, 2, 3, 4)))
    assert momentum_from_decay(momentum_from_decay(0.25)) == 0.25
    with pytest.raises(ValueError, match=r"must lie between 0 and 1; given 1\.1"):
        momentum_from_decay(1.1)


def test_gradients_of_the_equation() -> None:
    x = torch.randn(2, 3, 2, 1, 2, dtype=torch.float64, requires_grad=True)
    gamma, beta = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    zeros, ones = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    for training in (True, False):
        assert torch.autograd.gradcheck(
            lambda x, g, b, training=training: batch_norm(x, g, b, zeros, ones, training=training)[0], (x, gamma, beta)
        )


def test_keeps_channels_last_memory() -> None:
    x = torch.randn(SHAPE).to(memory_format=torch.channels_last_3d)
    assert BatchNorm3d(5)(x).is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("positions", [(4, 1, 1), (1, 3, 3), (4, 1, 3), (2, 3, 3)])
@pytest.mark.parametrize("clips", [1, 2])
def test_gradients_do_not_depend_on_how_tensors_lie_in_memory(
    clips: int, positions: tuple[int, int, int], training: bool
) -> None:
    """PyTorch's kernel for the CPU permutes some gradients: strides of axes of size 1 can be anything."""
    shape = (clips, 8, *positions)
    values, cotangent = torch.randn(2, *shape)

    def gradients(norm: nn.Module, x: torch.Tensor, cotangent: torch.Tensor) -> list[torch.Tensor]:
        x = x.requires_grad_()
        norm.train(training)(x).backward(cotangent)
        return [x.grad, *(parameter.grad for parameter in norm.parameters())]

    expected = gradients(nn.BatchNorm3d(8).double(), values.double(), cotangent.double())
    usual = [values.stride(), torch.empty(shape, memory_format=torch.channels_last_3d).stride()]
    odd = [[stride if size > 1 else 777 for size, stride in zip(shape, each, strict=True)] for each in usual]
    rows = torch.empty(clips, values[0, 0].numel(), 8).transpose(1, 2).unflatten(2, positions).stride()
    for of_x, of_gradient in itertools.product([*usual, *odd, rows], repeat=2):
        x = torch.empty_strided(shape, of_x).copy_(values)
        lying = torch.empty_strided(shape, of_gradient).copy_(cotangent)
        for ours, reference in zip(gradients(BatchNorm3d(8), x, lying), expected, strict=True):
            torch.testing.assert_close(ours.double(), reference, rtol=1e-4, atol=1e-5)
