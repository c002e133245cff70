"""Recomputed activations: gradients, statistics and memory against a normal backward pass."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from allocations import held_bytes
from pytorchvideo.layers.swish import Swish
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from farfield.layers import (
    BatchNorm3d,
    NonLocalBlock3d,
    convolve_frames,
    freeze_batch_norm,
    recompute_activations,
    split_batch_norm,
)

CHANNELS, SIZE = 6, (3, 5, 7)
NORMAL = nullcontext


class Residual(nn.Module):
    """A residual block: x or a projection of it, plus two convolutions, each with a norm."""

    def __init__(self, channels: int, *, activation: Callable[[], nn.Module] = nn.ReLU, project: bool = False) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), bias=False),
            BatchNorm3d(channels),
            activation(),
            nn.Conv3d(channels, channels, (1, 3, 3), padding=(0, 1, 1), bias=False),
            nn.BatchNorm3d(channels),
        )
        self.shortcut = nn.Sequential(nn.Conv3d(channels, channels, 1), BatchNorm3d(channels)) if project else None
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.shortcut is None else self.shortcut(x)
        return self.activation(kept + self.branch(x))


class WeightedResidual(Residual):
    """A residual block that adds half of its branch."""

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(torch.add(x, self.branch(x), alpha=0.5))


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv3d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3, 4), keepdim=True)).sigmoid()


class InPlaceSum(nn.Module):
    """A residual block as torchvision writes it: the sum and the activation are in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv3d(channels, channels, 3, padding=1), nn.BatchNorm3d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.conv(x))
        out += x
        return self.relu(out)


class TwoOutputs(nn.Module):
    """An operation of two outputs, each with its own norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([BatchNorm3d(channels), BatchNorm3d(channels)])
        self.convs = nn.ModuleList([nn.Conv3d(channels, 4, 1), nn.Conv3d(channels, 4, 1)])

    def forward(self, x: Tensor) -> Tensor:
        normed = [norm(y) for norm, y in zip(self.norms, torch.var_mean(x, dim=0, keepdim=True), strict=True)]
        return self.convs[0](normed[0].relu()) + self.convs[1](normed[1].relu())


class ShiftAlone(nn.Module):
    """A norm with a trained shift and no scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, None, self.shift, training=True)


def stem(activation: nn.Module) -> list[nn.Module]:
    return [nn.Conv3d(3, CHANNELS, 3, padding=1), BatchNorm3d(CHANNELS), activation]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "conv, norm, relu": lambda: nn.Sequential(*stem(nn.ReLU()), nn.Conv3d(CHANNELS, 4, 1)),
    "relu in place": lambda: nn.Sequential(*stem(nn.ReLU(inplace=True)), nn.Conv3d(CHANNELS, 4, 1)),
    "silu": lambda: nn.Sequential(*stem(nn.SiLU()), nn.Conv3d(CHANNELS, 4, 1)),
    "swish": lambda: nn.Sequential(*stem(Swish()), nn.Conv3d(CHANNELS, 4, 1)),
    "hardswish": lambda: nn.Sequential(*stem(nn.Hardswish()), nn.Conv3d(CHANNELS, 4, 1)),
    "unknown activation": lambda: nn.Sequential(*stem(nn.Softplus()), nn.Conv3d(CHANNELS, 4, 1)),
    "norm without scale and shift": lambda: nn.Sequential(
        nn.Conv3d(3, CHANNELS, 1), BatchNorm3d(CHANNELS, affine=False), nn.ReLU(), nn.Conv3d(CHANNELS, 4, 1)
    ),
    "norm with a shift alone": lambda: nn.Sequential(
        nn.Conv3d(3, CHANNELS, 1), ShiftAlone(CHANNELS), nn.ReLU(), nn.Conv3d(CHANNELS, 4, 1)
    ),
    "two outputs": lambda: nn.Sequential(nn.Conv3d(3, CHANNELS, 1), TwoOutputs(CHANNELS)),
    "norm before convolution": lambda: nn.Sequential(
        nn.Conv3d(3, CHANNELS, 1), BatchNorm3d(CHANNELS), nn.Conv3d(CHANNELS, 4, 1)
    ),
    "norm of a norm": lambda: nn.Sequential(
        nn.Conv3d(3, CHANNELS, 1), BatchNorm3d(CHANNELS), nn.ReLU(), nn.BatchNorm3d(CHANNELS), nn.Conv3d(CHANNELS, 4, 1)
    ),
    "max-pooling": lambda: nn.Sequential(
        *stem(nn.ReLU()), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.Conv3d(CHANNELS, 4, 1)
    ),
    "overlapping pooling with ceil": lambda: nn.Sequential(
        *stem(nn.ReLU()), nn.MaxPool3d(2, stride=1, dilation=2, ceil_mode=True), nn.Conv3d(CHANNELS, 4, 1)
    ),
    "residual blocks": lambda: nn.Sequential(
        *stem(nn.ReLU()),
        Residual(CHANNELS, project=True),
        *(Residual(CHANNELS) for _ in range(5)),
        nn.Conv3d(CHANNELS, 4, 1),
    ),
    "residual swish": lambda: nn.Sequential(*stem(Swish()), *(Residual(CHANNELS, activation=Swish) for _ in range(3))),
    "sums in place": lambda: nn.Sequential(*stem(nn.ReLU()), InPlaceSum(CHANNELS), InPlaceSum(CHANNELS)),
    "weighted sums": lambda: nn.Sequential(*stem(nn.ReLU()), *(WeightedResidual(CHANNELS) for _ in range(3))),
    "squeeze and excitation": lambda: nn.Sequential(
        *stem(nn.Identity()), SqueezeExcitation(CHANNELS), Swish(), nn.Conv3d(CHANNELS, 4, 1)
    ),
    "non-local block": lambda: nn.Sequential(
        *stem(nn.ReLU()), Residual(CHANNELS), NonLocalBlock3d(CHANNELS), Residual(CHANNELS)
    ),
    "convolutions of frames": lambda: convolve_frames(
        nn.Sequential(*stem(nn.ReLU()), Residual(CHANNELS), Residual(CHANNELS))
    ),
    "frozen norms": lambda: freeze_batch_norm(nn.Sequential(*stem(nn.ReLU()), Residual(CHANNELS))),
    "split norms": lambda: split_batch_norm(nn.Sequential(*stem(nn.ReLU()), Residual(CHANNELS)), 2),
}


def prepared(make: Callable[[], nn.Module], dtype: torch.dtype = torch.float64) -> nn.Module:
    """Build a network in which every norm's scale and shift matter."""
    torch.manual_seed(0)
    network = make().to(dtype)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5) if name.endswith("weight") else nn.init.normal_(parameter)
    return network.train()


def clips(dtype: torch.dtype = torch.float64, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(4, 3, *SIZE, dtype=dtype).contiguous(memory_format=memory_format)


def results(network: nn.Module, x: Tensor, context: AbstractContextManager[Any]) -> dict[str, Tensor]:
    """Train one step on a copy; return output, gradients and state."""
    network, x = copy.deepcopy(network), x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with context:
        y = network(x)
        loss = (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum()
    loss.backward()
    gradients = {f"gradient of {name}": p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return {"output": y.detach(), "gradient of x": x.grad} | gradients | dict(network.state_dict())


def assert_equal_results(
    found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float, about: str = ""
) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(float(value.double().norm()), 1.0)  # a bias before a norm has the gradient 0
        assert float((found[name].double() - value.double()).norm()) <= tolerance * scale, (name, about)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_gradients_and_statistics_are_those_of_a_normal_step(
    make: Callable[[], nn.Module], memory_format: torch.memory_format
) -> None:
    network, x = prepared(make).to(memory_format=memory_format), clips(memory_format=memory_format)
    expected = results(network, x, NORMAL())
    for sums_per_kept in (0, 1, 2, 10):
        found = results(network, x, recompute_activations(sums_per_kept=sums_per_kept))
        assert_equal_results(found, expected, 1e-12, f"sums_per_kept={sums_per_kept}")


@pytest.mark.parametrize("sums_per_kept", [0, 2])
@pytest.mark.parametrize("name", ["residual blocks", "residual swish", "squeeze and excitation", "max-pooling"])
def test_on_the_cpu_gradients_are_the_same_bits(name: str, sums_per_kept: int) -> None:
    network = prepared(NETWORKS[name], torch.float32).to(memory_format=torch.channels_last_3d)
    x = clips(torch.float32, torch.channels_last_3d)
    found = results(network, x, recompute_activations(sums_per_kept=sums_per_kept))
    for key, value in results(network, x, NORMAL()).items():
        assert torch.equal(found[key], value), key


def kept_bytes(network: nn.Module, x: Tensor, context: AbstractContextManager[Any]) -> int:
    """Return the memory that a forward pass leaves allocated for the backward pass, besides its output."""
    with context:
        y, held = held_bytes(lambda: network(x))
    return held - y.nbytes


MAP = 4 * CHANNELS * 3 * 5 * 7 * 8
"""Bytes of a feature map of the test's networks."""


@pytest.mark.parametrize(
    ("name", "sums_per_kept", "saved_maps"),
    [
        ("conv, norm, relu", 0, 1),
        ("swish", 0, 2),
        ("unknown activation", 0, 1),  # the activation's input
        ("residual blocks", 0, 1 + 6),  # in the stem, and within each block
        ("residual blocks", 1, 1 + 6 + 3),  # the first, third and fifth sum
        ("residual blocks", 2, 1 + 6 + 4),
        ("squeeze and excitation", 0, 3),
        ("frozen norms", 0, 0),
    ],
)
def test_memory_of_recomputed_maps_is_free_after_the_forward_pass(
    name: str, sums_per_kept: int, saved_maps: int
) -> None:
    network, x = prepared(NETWORKS[name]), clips()
    kept_bytes(network, x, NORMAL())  # what the first call allocates for good
    normal = kept_bytes(network, x, NORMAL())
    recomputed = kept_bytes(network, x, recompute_activations(sums_per_kept=sums_per_kept))
    statistics = 20 * 6 * CHANNELS * 8  # of at most 20 norms
    assert abs(normal - recomputed - saved_maps * MAP) <= statistics < MAP / 2


def test_output_and_positions_of_max_pooling_are_not_kept() -> None:
    network, x = prepared(NETWORKS["max-pooling"]), clips()
    kept_bytes(network, x, NORMAL())
    saved = kept_bytes(network, x, NORMAL()) - kept_bytes(network, x, recompute_activations())
    pooled = 4 * CHANNELS * 3 * 3 * 4 * 8
    assert abs(saved - MAP - 2 * pooled) < pooled / 2


def test_output_and_positions_of_max_pooling_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Size] = []
    original = F.max_pool3d_with_indices

    def counted(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        calls.append(x.shape)
        return original(x, *rest)

    x = clips().requires_grad_()
    with recompute_activations():
        loss = F.max_pool3d(x * 2, (1, 2, 2)).square().sum()
    monkeypatch.setattr(F, "max_pool3d_with_indices", counted)
    loss.backward()
    assert len(calls) == 1


def test_each_map_is_recomputed_once_for_all_that_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Size] = []
    original = torch.batch_norm

    def counted(x: Tensor, *rest: Any, **options: Any) -> Tensor:
        if not torch.is_grad_enabled():  # a recomputation
            calls.append(x.shape)
        return original(x, *rest, **options)

    monkeypatch.setattr(torch, "batch_norm", counted)
    results(prepared(NETWORKS["conv, norm, relu"]), clips(), recompute_activations())
    assert len(calls) == 1  # for the activation and the convolution
    calls.clear()
    results(prepared(NETWORKS["residual blocks"]), clips(), recompute_activations(sums_per_kept=100))
    assert len(calls) == 1 + 6 + 7  # stem, within each block, ends of blocks and the projection


def test_convolutions_of_frames_read_views_of_recomputed_maps() -> None:
    """In float32 and channels_last_3d memory, a convolution of frames saves a view of the activation's output."""
    network = prepared(
        lambda: convolve_frames(nn.Sequential(*stem(nn.ReLU()), nn.Conv3d(CHANNELS, 4, (1, 3, 3)))), torch.float32
    ).to(memory_format=torch.channels_last_3d)
    x = clips(torch.float32, torch.channels_last_3d)
    assert_equal_results(results(network, x, recompute_activations()), results(network, x, NORMAL()), 1e-5)
    saved = kept_bytes(network, x, NORMAL()) - kept_bytes(network, x, recompute_activations())
    assert abs(saved - MAP / 2) < MAP / 8  # a map of float32


def test_a_sum_of_maps_in_two_data_types_keeps_its_own() -> None:
    """The sum has the data type of the wider term; it must not be computed in the memory of the narrower one."""
    narrow, wide = (prepared(lambda: nn.Sequential(*stem(nn.Identity())), dtype) for dtype in WIDTHS)
    x = clips(torch.float32)
    with recompute_activations(sums_per_kept=1):
        y = (narrow(x) + wide(x.double())).relu()
    found = y.grad_fn._saved_result  # type: ignore[union-attr]  # as autograd recomputes it
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, y.detach(), rtol=1e-5, atol=1e-5)


WIDTHS = (torch.float32, torch.float64)


def test_gradcheck() -> None:
    network = prepared(lambda: nn.Sequential(*stem(Swish()), nn.MaxPool3d((1, 2, 2)), Residual(CHANNELS)))

    def run(x: Tensor) -> Tensor:
        with recompute_activations(sums_per_kept=1):
            return network(x)

    x = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x,), fast_mode=True)


def test_second_derivatives_and_a_retained_graph() -> None:
    network, x = prepared(NETWORKS["silu"]), clips().requires_grad_()
    for context in (NORMAL(), recompute_activations()):
        with context:
            y = network(x).square().sum()
        first = torch.autograd.grad(y, x, create_graph=True)[0]
        again = torch.autograd.grad(y, x, retain_graph=True)[0]
        second = torch.autograd.grad(first.square().sum(), x)[0]
        if isinstance(context, nullcontext):
            expected = first, second
        torch.testing.assert_close(first, again)
        torch.testing.assert_close((first, second), expected)


def test_autocast() -> None:
    network, x = prepared(NETWORKS["residual blocks"], torch.float32), clips(torch.float32)
    expected = results(network, x, torch.autocast("cpu", torch.bfloat16))

    class Both(AbstractContextManager[None]):
        def __enter__(self) -> None:
            self.contexts = [torch.autocast("cpu", torch.bfloat16), recompute_activations(sums_per_kept=1)]
            for each in self.contexts:
                each.__enter__()

        def __exit__(self, *error: Any) -> None:
            for each in reversed(self.contexts):
                each.__exit__(*error)

    assert_equal_results(results(network, x, Both()), expected, 2e-2)  # a rounding of bfloat16 is 4e-3


def test_evaluation_and_no_grad_are_as_without() -> None:
    network, x = prepared(NETWORKS["residual blocks"]), clips()
    network.eval()
    assert_equal_results(results(network, x, recompute_activations()), results(network, x, NORMAL()), 0.0)
    with torch.no_grad(), recompute_activations():
        assert torch.equal(network(x), network(x))


def test_with_activation_checkpointing() -> None:
    blocks = prepared(NETWORKS["residual blocks"])

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = blocks

        def forward(self, x: Tensor) -> Tensor:
            x = self.blocks[:3](x)
            x = checkpoint(self.blocks[3:5], x, use_reentrant=False)
            return self.blocks[5:](x)

    network, x = Checkpointed(), clips()
    found, expected = (results(network, x, each) for each in (recompute_activations(sums_per_kept=1), NORMAL()))
    assert_equal_results(found, expected, 1e-12)


def test_a_checkpointed_norm_of_a_kept_map_runs_no_more_often() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Conv3d(3, CHANNELS, 1), nn.Sequential(nn.BatchNorm3d(CHANNELS), nn.ReLU())
            self.convs = nn.ModuleList(nn.Conv3d(CHANNELS, 4, 1) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            kept = self.convs[0](x)
            return kept + self.convs[1](checkpoint(self.norm, x, use_reentrant=False))

    network, x = prepared(Checkpointed), clips()
    found, expected = (results(network, x, each) for each in (recompute_activations(), NORMAL()))
    assert_equal_results(found, expected, 1e-12)
    assert found["norm.0.num_batches_tracked"] == 2  # once forwards, once in the backward pass


@pytest.mark.slow
@pytest.mark.usefixtures("types_unchecked")  # before PyTorch 2.12, the checks do not compile
def test_a_compiled_network_is_left_alone() -> None:
    network, x = prepared(NETWORKS["conv, norm, relu"]), clips()
    compiled = torch.compile(network, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = results(compiled, x, recompute_activations())
    expected = results(network, x, NORMAL())
    assert_equal_results({name.replace("_orig_mod.", ""): value for name, value in found.items()}, expected, 1e-12)


def test_a_map_modified_in_place_after_it_was_saved_is_reported() -> None:
    conv, norm = nn.Conv3d(3, CHANNELS, 1), BatchNorm3d(CHANNELS)
    with recompute_activations():
        x = conv(clips(torch.float32))
        y = norm(x).relu()
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified in place"):
        y.sum().backward()


def test_parameters_changed_before_the_backward_pass_do_not_change_it() -> None:
    network, x = prepared(NETWORKS["conv, norm, relu"]), clips()
    norm, conv = network[1], network[3]
    gradients = []
    for change in (False, True):
        network.zero_grad()
        with recompute_activations():
            loss = network(x).square().sum()
        if change:
            norm.bias.data += 3  # through `data`: not seen by autograd
        loss.backward()
        gradients.append(conv.weight.grad.clone())
    assert torch.equal(*gradients)


def test_sums_per_kept_is_checked() -> None:
    with (
        pytest.raises(ValueError, match="sums_per_kept is -1; it must be at least 0"),
        recompute_activations(sums_per_kept=-1),
    ):
        pass
