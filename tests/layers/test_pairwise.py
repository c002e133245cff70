from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from farfield.layers import concatenation, dot_product, embedded_gaussian
from farfield.layers.attention_choice import choose_kernel
from farfield.layers.pairwise import Above, _fusible


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def sum_of_relu(a: Tensor, b: Tensor, g: Tensor) -> Tensor:
    """1/m sum_j ReLU(a_i + b_j) g_j with the n x m matrix."""
    return (a.unsqueeze(-1) + b.unsqueeze(-2)).relu() @ g / b.shape[-1]


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize(("n", "m", "d", "e"), [(7, 11, 5, 3), (11, 7, 3, 5), (2, 3, 13, 11), (67, 97, 5, 5)])
def test_agree_with_the_matrix(batch: tuple[int, ...], n: int, m: int, d: int, e: int) -> None:
    theta, phi, g = rows(*batch, n, d), rows(*batch, m, d), rows(*batch, m, e)
    softmax = (0.3 * theta @ phi.mT).softmax(-1) @ g
    torch.testing.assert_close(embedded_gaussian(theta, phi, g, scale=0.3), softmax)
    torch.testing.assert_close(dot_product(theta, phi, g, scale=0.3), 0.3 * theta @ phi.mT @ g / m)
    a, b = rows(*batch, n), rows(*batch, m)
    torch.testing.assert_close(concatenation(a, b, g), sum_of_relu(a, b, g), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("d", "e"), [(16, 8), (4, 32), (8, 8), (3, 5)])
def test_no_width_or_stride_builds_the_matrix(d: int, e: int) -> None:
    theta, phi, g = torch.randn(2, d, 37).mT, torch.randn(2, d, 41).mT, torch.randn(2, e, 41).mT
    assert choose_kernel(theta, phi, g) == ("fused" if d == e else "tiles")
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        fused = embedded_gaussian(theta, phi, g, scale=0.5)
    torch.testing.assert_close(fused, (0.5 * theta @ phi.mT).softmax(-1) @ g, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_concatenations_gradient_is_exact() -> None:
    a, b, g = rows(2, 31).requires_grad_(), rows(2, 43).requires_grad_(), rows(2, 43, 3).requires_grad_()
    assert torch.autograd.gradcheck(concatenation, (a, b, g))
    cotangent = rows(2, 31, 3)
    ours = torch.autograd.grad((concatenation(a, b, g) * cotangent).sum(), (a, b, g))
    matrix = torch.autograd.grad((sum_of_relu(a, b, g) * cotangent).sum(), (a, b, g))
    for our, expected in zip(ours, matrix, strict=True):
        torch.testing.assert_close(our, expected, rtol=1e-11, atol=1e-12)


def test_concatenation_where_all_some_or_none_are_active() -> None:
    b, g = rows(1, 5), rows(1, 5, 2)
    a = torch.tensor([[-100.0, 100.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(concatenation(a, b, g), sum_of_relu(a, b, g), rtol=1e-12, atol=1e-12)
    assert concatenation(a, b, g)[0, 0].abs().max() == 0


def test_concatenation_with_ties() -> None:
    """Affinities of exactly 0, and keys that are alike."""
    a = torch.tensor([[0.0, -1.0, 1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[1.0, 1.0, 0.0, -1.0, 1.0]], dtype=torch.float64, requires_grad=True)
    g = rows(1, 5, 3)
    torch.testing.assert_close(concatenation(a, b, g), sum_of_relu(a, b, g), rtol=1e-12, atol=1e-12)
    for ours, matrix in zip(
        torch.autograd.grad(concatenation(a, b, g).sum(), (a, b)),
        torch.autograd.grad(sum_of_relu(a, b, g).sum(), (a, b)),
        strict=True,
    ):
        torch.testing.assert_close(ours, matrix, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_concatenation_is_accurate_in_float32(offset: float) -> None:
    """Over many positions, and with a and b that nearly cancel."""
    a, b, g = torch.randn(1, 5003) + offset, torch.randn(1, 5003) - offset, torch.randn(1, 5003, 4)
    exact = sum_of_relu(a.double(), b.double(), g.double())
    error = (concatenation(a, b, g).double() - exact).norm() / exact.norm()
    assert error < (2e-6 if offset == 0 else 2e-4)  # a and b themselves hold 1000 to 6e-5


def test_half_precision_sums_in_float32() -> None:
    """A bfloat16 running sum of ones stops at 256."""
    ones = torch.ones(1, 4096, dtype=torch.bfloat16)
    y = concatenation(ones, ones, ones.unsqueeze(-1))
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, torch.full_like(y, 2.0))


def test_dot_product_does_not_overflow_in_half_precision() -> None:
    rows = torch.full((1, 4096, 2), 8.0, dtype=torch.float16)
    torch.testing.assert_close(dot_product(rows, rows, rows).float(), torch.full((1, 4096, 2), 1024.0))


def test_dot_product_does_not_underflow_in_half_precision() -> None:
    """One factor of 1/m on values of 0.01 would leave them a few bits."""
    rows = (torch.rand(1, 20000, 4) + 0.5) * 0.1
    exact = dot_product(rows.double(), rows.double(), rows.double())
    half = dot_product(rows.half(), rows.half(), rows.half())
    assert (half.double() - exact).norm() < 3e-3 * exact.norm()


@pytest.mark.slow
def test_tiled_attention_agrees_in_values_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Widths that differ, over several tiles, and under autocast."""
    inputs = [torch.randn(2, 3, n, d, dtype=torch.float64, requires_grad=True) for n, d in ((13, 5), (7, 5), (7, 11))]
    few = [x[:1, :2].detach().requires_grad_() for x in inputs]  # two runs for each of their numbers
    monkeypatch.setattr("farfield.layers.tiled_attention.TILE", 50)
    monkeypatch.setattr("farfield.layers.pairwise.choose_kernel", lambda *_: "tiles")
    assert torch.autograd.gradcheck(lambda q, k, v: embedded_gaussian(q, k, v, scale=0.7), few)
    monkeypatch.setattr("farfield.layers.tiled_attention.TILE", 100)
    plain = (0.7 * inputs[0] @ inputs[1].mT).softmax(-1) @ inputs[2]
    torch.testing.assert_close(embedded_gaussian(*inputs, scale=0.7), plain)
    singles = [x.detach().float().requires_grad_() for x in inputs]
    expected = torch.autograd.grad(plain.square().sum(), inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = embedded_gaussian(*singles, scale=0.7)
    for ours, theirs in zip(torch.autograd.grad(y.square().sum(), singles), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


def test_odd_widths_are_padded_for_cuda() -> None:
    """In steps of 8, which the kernels there ask for; the padding changes nothing."""
    theta, phi, g = torch.randn(2, 5, 3), torch.randn(2, 7, 3), torch.randn(2, 7, 11)
    q, k, v = (_fusible(x, 8) for x in (theta, phi, g))
    assert [x.shape for x in (q, k, v)] == [(2, 1, 5, 8), (2, 1, 7, 8), (2, 1, 7, 16)]
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.5)[:, 0, :, :11]
    torch.testing.assert_close(y, (0.5 * theta @ phi.mT).softmax(-1) @ g)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize(("d", "e"), [(16, 8), (3, 5), (256, 256), (64, 512)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_runs_fused_on_cuda(d: int, e: int, dtype: torch.dtype) -> None:
    theta, phi, g = (torch.randn(2, n, w, device="cuda", dtype=dtype) for n, w in ((37, d), (41, d), (41, e)))
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
        y = embedded_gaussian(theta, phi, g, scale=0.1)
    exact = (0.1 * theta.double() @ phi.double().mT).softmax(-1) @ g.double()
    torch.testing.assert_close(y.double(), exact, rtol=2e-2, atol=2e-2)


def test_sums_above_are_the_matrix_of_steps() -> None:
    a, b, values = rows(3, 70), rows(3, 33), rows(3, 33, 2)
    above = Above(a, b)
    steps = (a.unsqueeze(-1) + b.unsqueeze(-2) > 0).double()
    torch.testing.assert_close(above.sum(values), steps @ values)
    assert torch.equal(above.count(), steps.sum(-1).long())
