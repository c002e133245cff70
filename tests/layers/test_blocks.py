"""What every insertable block has in common."""

from __future__ import annotations

import pytest
import torch
from allocations import peak_bytes
from benchmark_layers import Materialised
from torch.nn.attention import SDPBackend, sdpa_kernel

from layers.blocks import BLOCKS, OTHERS, SIZES, awake

FUSED = ["embedded_gaussian", "space", "time", "pool_after", "no_norm", "groups", "non_local_2d", "object_context"]
"""Where queries and values have one width, as PyTorch's fused CPU kernel asks for."""
every_block = pytest.mark.parametrize("name", BLOCKS)


def make(name: str, channels: int = 8) -> tuple[torch.nn.Module, torch.Tensor]:
    ndim, block = (BLOCKS | OTHERS)[name]
    return block(channels), torch.randn(2, channels, *SIZES[ndim])


@every_block
def test_is_exactly_the_identity_at_initialisation(name: str) -> None:
    block, x = make(name)
    assert torch.equal(block(x), x)
    assert torch.equal(block.eval()(x), x)


@every_block
def test_all_parameters_get_gradients_after_the_first_step(name: str) -> None:
    """Zero at initialisation, but not stuck there: the gradient reaches what scales the residual branch."""
    block, x = make(name)
    optimizer = torch.optim.SGD(block.parameters(), lr=1.0)
    (block(x) * torch.randn_like(x)).sum().backward()
    optimizer.step()
    assert not torch.equal(block(x), x)


@every_block
def test_gradients_are_those_of_the_function(name: str, types_unchecked: None) -> None:
    """Hundreds of calls, which take twice as long with their shapes checked; the other tests check them."""
    ndim, block = BLOCKS[name]
    block = awake(block(4)).double().eval()
    x = torch.randn(1, 4, *{2: (3, 2), 3: (2, 3, 2)}[ndim], dtype=torch.float64, requires_grad=True)
    parameters = dict(block.named_parameters())

    def call(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(block, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *parameters.values()))


@every_block
def test_clips_of_a_batch_are_independent(name: str) -> None:
    """In values and in gradients, which the test above checks for one clip."""
    block, x = make(name)
    block, x = awake(block).double().eval(), x.double().requires_grad_()
    together, apart = block(x), torch.cat([block(clip[None]) for clip in x])
    torch.testing.assert_close(apart, together, rtol=1e-11, atol=1e-11)
    cotangent, inputs = torch.randn_like(together), [x, *block.parameters()]
    found = [torch.autograd.grad((y * cotangent).sum(), inputs) for y in (apart, together)]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*BLOCKS, *OTHERS])
def test_bf16_autocast_agrees(name: str) -> None:
    block, x = make(name)
    block = awake(block).eval()
    for parameter in block.parameters():
        parameter.data *= 0.5
    expected = block(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = block(x)
    branch, exact = (y.float() - x, expected - x) if name in BLOCKS else (y.float(), expected)
    assert (branch - exact).norm() < 0.04 * exact.norm()


PROJECTIONS = [
    ("embedded_gaussian", ("theta", "phi", "g", "w_z")),
    ("self_attention", ("query", "key", "value")),
    ("dual_attention", ("position.query", "position.key", "position.value")),
    ("object_context", ("regions", "phi.0", "psi.0", "delta.0", "rho.0", "g.0")),
    ("concatenation", ("theta", "phi", "g", "w_z")),
]


class Adapter(torch.nn.Module):
    """A wrapper that has no weight and takes no options, as quantised convolutions and LoRA have."""

    def __init__(self, wrapped: torch.nn.Module) -> None:
        super().__init__()
        self.wrapped = wrapped

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wrapped(x)


@pytest.mark.parametrize(("name", "projections"), PROJECTIONS, ids=[name for name, _ in PROJECTIONS])
def test_every_projection_can_be_replaced(name: str, projections: tuple[str, ...]) -> None:
    block, x = make(name)
    block = awake(block).eval()
    expected = block(x)
    for projection in projections:
        block.set_submodule(projection, Adapter(block.get_submodule(projection)))
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(("name", "projections"), PROJECTIONS[1:], ids=[name for name, _ in PROJECTIONS[1:]])
def test_a_parametrised_weight_is_computed_once(name: str, projections: tuple[str, ...]) -> None:
    """Spectral norm updates its estimate each time that it computes the weight."""
    block, x = make(name)
    computed: list[int] = []

    class Counted(torch.nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            computed.append(1)
            return weight

    for projection in projections:
        torch.nn.utils.parametrize.register_parametrization(block.get_submodule(projection), "weight", Counted())
    computed.clear()
    block(x)
    assert len(computed) == len(projections)


@every_block
def test_keeps_the_memory_format(name: str) -> None:
    block, x = make(name)
    block = awake(block).eval()
    expected = block(x)
    assert expected.is_contiguous()
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    y = block.to(memory_format=last)(x.to(memory_format=last))
    assert y.is_contiguous(memory_format=last)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


@every_block
def test_never_holds_an_n_by_n_matrix(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward at n = 2048 stay far below the 16 MiB of one n x n matrix of float32."""
    ndim, block = BLOCKS[name]
    block = awake(block(8))
    x = torch.randn(1, 8, *{2: (64, 32), 3: (8, 16, 16)}[ndim], requires_grad=True)
    monkeypatch.setattr("farfield.layers.self_attention.SLICE", 2**16)
    monkeypatch.setattr("farfield.layers.tiled_attention.TILE", 2**16)
    assert peak_bytes(lambda: block(x).sum().backward()) < 4 * 2**20


def test_memory_check_detects_an_n_by_n_matrix() -> None:
    """What the test above rests on: a block with the matrix is caught."""
    x = torch.randn(1, 8, 8, 16, 16, requires_grad=True)
    block = Materialised(8, "gaussian")
    assert peak_bytes(lambda: block(x).sum().backward()) > 32 * 2**20


@pytest.mark.parametrize("name", FUSED)
def test_softmax_runs_fused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that kernel is chosen, with every other backend forbidden; what it refused would be an error."""
    block, x = make(name, channels=16)
    block = awake(block).eval()
    expected = block(x)
    monkeypatch.setattr("farfield.layers.pairwise.choose_kernel", lambda *_: "fused")
    for memory_format in (torch.contiguous_format, torch.channels_last if x.ndim == 4 else torch.channels_last_3d):
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            y = block(x.to(memory_format=memory_format).requires_grad_())
            y.sum().backward()
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


@every_block
def test_an_input_of_other_channels_or_axes_is_refused(name: str, types_unchecked: None) -> None:
    block, x = make(name)
    with pytest.raises(ValueError, match=r"needs \(b c .*\) with c = 8; given \(2, 7"):
        block(x[:, :7])
    with pytest.raises(ValueError, match=r"needs \(b c .*with c = 8; given \(2, 8"):
        block(x[..., 0])
    for wrong, given in ((x.to(torch.uint8), "torch.uint8"), (x.numpy(), "ndarray")):
        with pytest.raises(ValueError, match=f"needs a floating-point tensor; given {given}. Convert it"):
            block(wrong)
    assert block.eval()(x[:0]).shape == (0, *x.shape[1:])
