"""oneDNN's product against float64, in every memory layout, and where it must not be used."""

from __future__ import annotations

import itertools
from io import BytesIO

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from farfield.layers import NonLocalBlock3d, PointwiseConv3d, SelfAttention
from farfield.layers import matrix_product as module
from farfield.layers.attention_choice import choose_kernel, exchanged_is_cheaper
from farfield.layers.matrix_product import batched_product, fast, product
from farfield.layers.positions import by_columns
from farfield.layers.torch_private import onednn_product
from layers.blocks import awake

onednn = pytest.mark.skipif(not module._has_kernels(), reason="oneDNN's kernels need AVX-512")


@pytest.fixture
def operands(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Lets the smallest products take oneDNN, and lists the operands that it gets."""
    given: list[Tensor] = []

    def recorded(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
        given.extend((a, b))
        return onednn_product(a, b, bias)

    monkeypatch.setattr(module, "SMALL", 0)
    monkeypatch.setattr(module, "onednn_product", recorded)
    return given


LAYOUTS = {
    "rows": lambda n, m: torch.randn(n, m),
    "columns": lambda n, m: torch.randn(m, n).mT,
    "part of rows": lambda n, m: torch.randn(n, m + 3)[:, 1 : 1 + m],
    "part of columns": lambda n, m: torch.randn(m, n + 3).mT[1 : 1 + n],
    "steps": lambda n, m: torch.randn(n, 2 * m)[:, ::2],
    "one row": lambda n, m: torch.randn(1, m).expand(n, m),
}


@onednn
@pytest.mark.parametrize(("of_a", "of_b"), list(itertools.product(LAYOUTS, repeat=2)))
def test_agrees_in_values_and_two_derivatives(of_a: str, of_b: str, operands: list[Tensor]) -> None:
    a, b, bias = LAYOUTS[of_a](7, 5), LAYOUTS[of_b](5, 11), torch.randn(11)
    for columns in (True, False):
        inputs = [x.detach().requires_grad_() for x in (a, b, bias)]
        exact = [x.detach().double().requires_grad_() for x in (a, b, bias)]
        y, expected = product(*inputs, columns=columns), exact[0] @ exact[1] + exact[2]
        assert by_columns(y) == columns
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
        found = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
        wanted = torch.autograd.grad(expected.square().sum(), exact, create_graph=True)
        second = torch.autograd.grad(sum(x.square().sum() for x in found), inputs)
        second_wanted = torch.autograd.grad(sum(x.square().sum() for x in wanted), exact)
        for ours, theirs in zip((*found, *second), (*wanted, *second_wanted), strict=True):
            torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-2)
    assert operands


@onednn
def test_no_operand_has_gaps(operands: list[Tensor]) -> None:
    """oneDNN's kernels for them can take 2,000 times as long."""
    for of_a, of_b in itertools.product(LAYOUTS, repeat=2):
        a, b = LAYOUTS[of_a](7, 5).requires_grad_(), LAYOUTS[of_b](5, 11).requires_grad_()
        product(a, b).sum().backward()
    assert all(x.is_contiguous() or x.mT.is_contiguous() for x in operands)


def test_pytorchs_product_is_used_where_onednn_has_no_part(operands: list[Tensor]) -> None:
    a, b = torch.randn(7, 5), torch.randn(5, 11)
    torch.testing.assert_close(product(a.double(), b.double()), a.double() @ b.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert product(a, b).dtype == torch.bfloat16
    torch.testing.assert_close(torch.func.vmap(lambda x: product(x, b))(a[None])[0], a @ b)
    torch.testing.assert_close(torch.func.jvp(lambda x: product(x, b), (a,), (a,))[1], a @ b)
    with FlopCounterMode(display=False) as counted:
        product(a, b)
    assert counted.get_total_flops() == 2 * 7 * 5 * 11
    assert product(a.to("meta"), b.to("meta")).shape == (7, 11)
    assert not operands
    assert not fast(a, b, multiply_adds=-1)  # below SMALL


@onednn
def test_batches_go_one_by_one(operands: list[Tensor]) -> None:
    for a, b in ((torch.randn(2, 7, 5), torch.randn(2, 5, 11)), (torch.randn(2, 5, 7).mT, torch.randn(2, 5, 11))):
        torch.testing.assert_close(batched_product(a, b), a @ b, rtol=1e-4, atol=1e-5)
    assert len(operands) == 8
    assert batched_product(torch.randn(0, 7, 5), torch.randn(0, 5, 11)).shape == (0, 7, 11)


def gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    y = layer(x)
    cotangent = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return [y, *torch.autograd.grad((y * cotangent).sum(), [x, *layer.parameters()])]


@onednn
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: NonLocalBlock3d(8), (2, 4, 4)),  # the exchanged order, with 8 pooled keys of 32 positions
        (lambda: NonLocalBlock3d(8, key_pool=None), (2, 2, 3)),  # tiles
        (lambda: NonLocalBlock3d(8, key_pool=None, out_bias=False, norm=False), (1, 2, 3)),  # the matrix
        (lambda: PointwiseConv3d(8, 5), (2, 4, 4)),
        (lambda: SelfAttention(8), (2, 4, 4)),
    ],
)
def test_layers_agree_with_float64(make, size: tuple[int, ...], last: bool, operands: list[Tensor]) -> None:
    layer = awake(make()).eval()
    x = torch.randn(2, 8, *size)
    wanted = gradients(layer.double(), x.double())
    found = gradients(layer.float(), x.to(memory_format=torch.channels_last_3d) if last else x)
    assert operands
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-3)


@onednn
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [(1, 8, 9), (2, 6, 7)])
def test_a_single_clip_has_correct_gradients_below_and_above_the_threshold(
    size: tuple[int, int, int], last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first projections take oneDNN and the last does not, so that the norm gets rows of a contiguous clip."""
    block, x = awake(NonLocalBlock3d(16, inner_channels=19)).eval(), torch.randn(1, 16, *size)
    monkeypatch.setattr(module, "SMALL", x.numel() * 17)
    wanted = gradients(block.double(), x.double())
    found = gradients(block.float(), x.to(memory_format=torch.channels_last_3d) if last else x)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-3)


def _hook(block: nn.Module, seen: list[int]) -> None:
    block.theta.register_forward_hook(lambda *_: seen.append(1))


def _backward_hook(block: nn.Module, seen: list[int]) -> None:
    block.theta.register_full_backward_hook(lambda *_: seen.append(1))


def _own_forward(block: nn.Module, seen: list[int]) -> None:
    forward = block.theta.forward
    block.theta.forward = lambda *args, **kwargs: seen.append(1) or forward(*args, **kwargs)


@onednn
@pytest.mark.parametrize("observe", [_hook, _backward_hook, _own_forward])
def test_hooks_on_a_projection_still_run(observe, operands: list[Tensor]) -> None:
    block, x, seen = awake(NonLocalBlock3d(8)).eval(), torch.randn(1, 8, 2, 4, 4), []
    expected = block(x)
    observe(block, seen)
    y = block(x.requires_grad_())
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    y.sum().backward()
    assert seen == [1]


@onednn
@pytest.mark.parametrize("format_", [torch.channels_last, torch.contiguous_format])
def test_an_output_can_be_changed_in_place(format_: torch.memory_format, operands: list[Tensor]) -> None:
    """As nn.ReLU(inplace=True) does after a convolution."""
    layer, x = PointwiseConv3d(8, 5), torch.randn(1, 8, 2, 3, 4)
    expected = torch.autograd.grad(layer(x).relu().square().sum(), layer.weight)
    found = torch.autograd.grad(layer(x, memory_format=format_).relu_().square().sum(), layer.weight)
    torch.testing.assert_close(found, expected)
    assert operands


@onednn
def test_a_batch_of_gradients_agrees_with_one_after_the_other(operands: list[Tensor]) -> None:
    block = awake(NonLocalBlock3d(8, key_pool=None)).eval()  # 12 keys: tiles
    x = torch.randn(2, 8, 2, 2, 3, requires_grad=True)
    y, cotangents = block(x), torch.randn(3, 2, 8, 2, 2, 3)
    (found,) = torch.autograd.grad(y, x, cotangents, is_grads_batched=True, retain_graph=True)
    expected = [torch.autograd.grad(y, x, each, retain_graph=True)[0] for each in cotangents]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)
    assert operands


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning", "ignore:TF32")
def test_traced_code_and_disabled_onednn_use_pytorchs_product(operands: list[Tensor], types_unchecked: None) -> None:
    block, x = awake(NonLocalBlock3d(8, key_pool=None)).eval().requires_grad_(False), torch.randn(1, 8, 2, 2, 3)
    expected = block(x)
    operands.clear()
    traced = torch.jit.trace(block, x, check_trace=False)
    torch.jit.save(traced, BytesIO())  # fails for functions in Python
    torch.testing.assert_close(traced(x), expected, rtol=1e-4, atol=1e-5)
    with torch.backends.mkldnn.flags(enabled=False):
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)
    assert not operands


def test_the_kernel_is_chosen_by_size() -> None:
    def chosen(m: int, d: int, e: int, dtype: torch.dtype = torch.float64) -> str:
        return choose_kernel(*(torch.empty(1, n, width, dtype=dtype) for n, width in ((50, d), (m, d), (m, e))))

    assert chosen(12, 5, 7) == chosen(10, 5, 5) == "explicit"  # no larger than the features: m <= d + e
    assert chosen(13, 5, 7) == "tiles"
    assert chosen(11, 5, 5) == "fused"
    assert chosen(10, 5, 5, torch.bfloat16) == "fused"
    assert choose_kernel(*(torch.empty(1, 4, 4, device="meta") for _ in range(3))) == "fused"


@pytest.mark.parametrize(("n", "m", "channels"), [(784, 196, 1024), (1568, 392, 1024), (3136, 784, 512), (97, 31, 64)])
def test_the_order_is_the_cheaper_one(n: int, m: int, channels: int) -> None:
    inner = channels // 2
    written = n * channels * inner + n * m * inner
    exchanged = m * channels * inner + n * m * channels
    assert exchanged_is_cheaper(n, m, channels, inner) == (written > 1.05 * exchanged)


def test_a_small_matrix_can_be_differentiated_twice() -> None:
    block = awake(NonLocalBlock3d(4, key_pool=None)).double().eval()
    x = torch.randn(1, 4, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(block, (x,))
