from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from farfield.layers import UnfoldConv2d, UnfoldConv3d, fold, unfold, unfold_conv

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CASES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((7, 5), (3, 2), {}),
    ((7, 5), (3, 2), {"stride": (2, 1), "padding": (1, 2)}),
    ((11, 13), (3, 3), {"dilation": (2, 3), "padding": 2}),
    ((8, 9), (2, 3), {"groups": 2, "stride": 3}),
    ((5, 7, 6), (3, 2, 1), {}),
    ((5, 7, 6), (3, 2, 3), {"stride": (1, 2, 3), "padding": (1, 0, 2)}),
    ((7, 9, 11), (2, 3, 2), {"dilation": (3, 1, 2), "padding": 1}),
    ((5, 6, 7), (3, 3, 3), {"groups": 2, "stride": 2, "dilation": (1, 2, 1), "padding": (1, 2, 0)}),
    ((13,), (5,), {"stride": 2}),
]


@pytest.mark.parametrize(("size", "kernel", "options"), CASES)
@pytest.mark.parametrize("bias", [True, False])
def test_agrees_with_pytorch_in_values_and_gradients(
    size: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, Any], bias: bool
) -> None:
    inputs = [torch.randn(2, 4, *size), torch.randn(6, 4 // options.get("groups", 1), *kernel)]
    inputs += [torch.randn(6)] if bias else []
    ours, theirs = ([x.double().requires_grad_() for x in inputs] for _ in range(2))
    y, expected = unfold_conv(*ours, **options), CONV[len(size)](*theirs, **options)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn_like(y)
    (y * cotangent).sum().backward()
    (expected * cotangent).sum().backward()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("size", "kernel", "options"), [case for case in CASES if len(case[0]) == 2])
def test_unfold_and_fold_are_pytorchs_over_two_axes(
    size: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, Any]
) -> None:
    options = {key: value for key, value in options.items() if key != "groups"}
    x = torch.randn(2, 3, *size)
    columns = unfold(x, kernel, **options)
    assert torch.equal(columns, F.unfold(x, kernel, **options))
    torch.testing.assert_close(fold(columns, size, kernel, **options), F.fold(columns, size, kernel, **options))


@pytest.mark.parametrize(("size", "kernel", "options"), CASES)
def test_fold_is_the_transpose_of_unfold(
    size: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, Any]
) -> None:
    """<unfold(x), c> = <x, fold(c)> for any x and c."""
    options = {key: value for key, value in options.items() if key != "groups"}
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    columns = unfold(x, kernel, **options)
    other = torch.randn_like(columns)
    torch.testing.assert_close((columns * other).sum(), (x * fold(other, size, kernel, **options)).sum())


def test_fold_of_unfold_is_x_times_the_windows_it_lies_in() -> None:
    x = torch.randn(1, 2, 3, 4, 5)
    count = fold(unfold(torch.ones_like(x), (2, 3, 2)), (3, 4, 5), (2, 3, 2))
    torch.testing.assert_close(fold(unfold(x, (2, 3, 2)), (3, 4, 5), (2, 3, 2)), x * count)
    assert count[0, 0, 1, 1, 1] == 2 * 2 * 2
    assert count[0, 0, 0, 0, 0] == 1


def test_is_the_product_that_the_docstring_shows() -> None:
    x, weight = torch.randn(2, 3, 4, 5, 6), torch.randn(7, 3, 2, 3, 2)
    columns = unfold(x, (2, 3, 2))
    assert columns.shape == (2, 3 * 2 * 3 * 2, 3 * 3 * 5)
    torch.testing.assert_close((weight.flatten(1) @ columns).unflatten(2, (3, 3, 5)), unfold_conv(x, weight))
    gradient = fold(weight.flatten(1).T @ torch.ones(2, 7, 45), (4, 5, 6), (2, 3, 2))
    expected = torch.nn.grad.conv3d_input(x.shape, weight, torch.ones(2, 7, 3, 3, 5))
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", [1, "same", "valid"])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular", "replicate"])
def test_modules_are_pytorchs(padding: int | str, mode: str) -> None:
    for ours, theirs, size in ((UnfoldConv2d, nn.Conv2d, (6, 7)), (UnfoldConv3d, nn.Conv3d, (4, 6, 7))):
        if padding == "valid" and mode != "zeros":
            continue
        layer = ours(4, 6, 3, padding=padding, padding_mode=mode, groups=2, dilation=1)
        other = theirs(4, 6, 3, padding=padding, padding_mode=mode, groups=2, dilation=1)
        other.load_state_dict(layer.state_dict())
        x = torch.randn(2, 4, *size)
        torch.testing.assert_close(layer(x), other(x), rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_the_function() -> None:
    x = torch.randn(1, 2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    layer = UnfoldConv3d(2, 2, 2, padding=1, stride=2).double()
    assert torch.autograd.gradcheck(layer, (x,))


def test_invalid_options_are_refused() -> None:
    x = torch.randn(1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"no window of \(5, 1\) \(dilation \(1, 1\)\) fits into \(3, 4\)"):
        unfold(x, (5, 1))
    with pytest.raises(ValueError, match="for 2 axes; give one value per axis"):
        unfold(x, (2, 2, 2))
    with pytest.raises(ValueError, match=r"needs columns of \(b, c \* 4, 6\); given \(1, 8, 5\)"):
        fold(torch.randn(1, 8, 5), (3, 4), 2)
    message = r"needs x with 3 channels and 2 axes after the channels; given x of shape \(1, 2, 3, 4\)"
    with pytest.raises(ValueError, match=message):
        unfold_conv(x, torch.randn(2, 3, 1, 1))
    with pytest.raises(ValueError, match=r"has 3 output channels, which groups=2 does not divide"):
        unfold_conv(x, torch.randn(3, 1, 1, 1), groups=2)


def test_an_empty_batch_is_pytorchs() -> None:
    conv = UnfoldConv3d(4, 6, 3, padding=1)
    assert conv(torch.empty(0, 4, 3, 5, 7)).shape == (0, 6, 3, 5, 7)


def test_keeps_channels_last_memory() -> None:
    x = torch.randn(2, 4, 3, 5, 6).to(memory_format=torch.channels_last_3d)
    y = UnfoldConv3d(4, 6, 3, padding=1)(x)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
