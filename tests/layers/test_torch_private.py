"""PyTorch's private names in `farfield.layers.torch_private` still exist and mean the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from farfield.layers.torch_private import (
    NORM_NODES,
    POOL_NODE,
    BatchNormBase,
    ConvBase,
    batch_norm_record,
    child_slots,
    has_forward_hooks,
    has_onednn_product,
    has_plain_call,
    has_unit_alpha,
    is_compiled,
    is_transformed,
    max_pool_record,
    onednn_product,
    resolved_padding,
    view_base,
)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_batch_norm_base_is_the_base_of_batch_norms(norm: type[nn.Module]) -> None:
    assert issubclass(norm, BatchNormBase)


@pytest.mark.parametrize("conv", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_conv_base_is_the_base_of_convolutions(conv: type[nn.Module]) -> None:
    assert issubclass(conv, ConvBase)


@pytest.mark.parametrize("register", [nn.Module.register_forward_hook, nn.Module.register_forward_pre_hook])
def test_forward_hooks_are_found(register) -> None:
    module = nn.Identity()
    assert not has_forward_hooks(module)
    hook = register(module, lambda *_: None)
    assert has_forward_hooks(module)
    hook.remove()
    assert not has_forward_hooks(module)


@pytest.mark.parametrize(
    "register",
    [
        nn.Module.register_forward_hook,
        nn.Module.register_forward_pre_hook,
        nn.Module.register_full_backward_hook,
        nn.Module.register_full_backward_pre_hook,
        lambda _, hook: nn.modules.module.register_module_forward_hook(hook),
        lambda _, hook: nn.modules.module.register_module_full_backward_hook(hook),
    ],
)
def test_all_that_changes_a_call_is_found(register) -> None:
    module = nn.Identity()
    assert has_plain_call(module)
    hook = register(module, lambda *_: None)
    assert not has_plain_call(module)
    hook.remove()
    assert has_plain_call(module)
    module.forward = module.forward  # an attribute of the instance
    assert not has_plain_call(module)


def test_compiled_modules_are_found() -> None:
    module = nn.Identity()
    assert not is_compiled(module)
    module.compile()
    assert is_compiled(module)


def test_child_slots_list_a_module_under_each_of_its_names_and_can_be_changed() -> None:
    shared, other = nn.ReLU(), nn.Identity()
    network = nn.Sequential(shared, shared)
    slots = child_slots(network)
    assert slots == {"0": shared, "1": shared}
    slots["1"] = other
    assert network[1] is other


@pytest.mark.parametrize(
    ("padding", "expected"), [((1, 2, 3), [3, 3, 2, 2, 1, 1]), ("same", [3, 3, 1, 2, 0, 0]), ("valid", [0] * 6)]
)
def test_padding_is_resolved_for_pad(padding, expected: list[int]) -> None:
    assert list(resolved_padding(nn.Conv3d(2, 2, (1, 4, 7), padding=padding))) == expected


def test_a_view_knows_its_base() -> None:
    tensor = torch.zeros(2, 3)
    assert view_base(tensor) is None
    assert view_base(tensor.view(3, 2)) is tensor


@pytest.mark.parametrize(("alpha", "expected"), [(1, True), (2, False)])
def test_the_factor_of_an_addition_is_known(alpha: int, expected: bool) -> None:
    x = torch.zeros(2, requires_grad=True)
    node = torch.add(x, x, alpha=alpha).grad_fn
    assert node.name() == "AddBackward0"
    assert has_unit_alpha(node) is expected


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_output_of_a_batch_norm_is_computed_exactly(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm3d(101, dtype=dtype)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 101, 3, 5, 7, dtype=dtype).contiguous(memory_format=memory_format).requires_grad_()
    y = norm(x)
    record = batch_norm_record(y.grad_fn)
    assert torch.equal(record.output(x.detach()), y.detach())


@pytest.mark.parametrize("affine", [True, False])
def test_statistics_of_a_batch_norm_are_in_the_graph(affine: bool) -> None:
    x = torch.randn(4, 3, 2, 2, 2, dtype=torch.float64).requires_grad_()
    norm = nn.BatchNorm3d(3, eps=1e-3, affine=affine, dtype=torch.float64)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    node = norm(x).grad_fn
    assert node.name() in NORM_NODES
    record = batch_norm_record(node)
    torch.testing.assert_close(record.mean, x.detach().mean((0, 2, 3, 4)))
    deviation = (x.detach().var((0, 2, 3, 4), correction=0) + norm.eps).sqrt()
    torch.testing.assert_close(record.scale, (norm.weight.detach() if affine else 1) / deviation)
    assert torch.equal(record.shift, norm.bias) if affine else record.shift is None
    assert batch_norm_record(norm.eval()(x).grad_fn) is None


def test_settings_and_positions_of_max_pooling_are_in_the_graph() -> None:
    x = torch.randn(2, 3, 5, 7, 6, requires_grad=True)
    sizes = (2, 3, 3), (1, 2, 2), (1, 1, 1), (1, 1, 2)
    y, expected = nn.functional.max_pool3d(x, *sizes, ceil_mode=True, return_indices=True)
    assert y.grad_fn.name() == POOL_NODE
    record = max_pool_record(y.grad_fn)
    assert record.address == expected.data_ptr()
    for found, value in zip(record.compute(x.detach()), (y.detach(), expected), strict=True):
        assert torch.equal(found, value)


@pytest.mark.skipif(not has_onednn_product(), reason="PyTorch without oneDNN")
def test_onednn_multiplies_matrices() -> None:
    a, b, bias = torch.randn(7, 5), torch.randn(5, 11), torch.randn(11)
    torch.testing.assert_close(onednn_product(a, b, bias), a @ b + bias)


def test_transformed_calls_are_found() -> None:
    assert not is_transformed()
    found = []
    torch.func.vmap(lambda x: found.append(is_transformed()) or x)(torch.zeros(2))
    with torch.autograd.forward_ad.dual_level():
        found.append(is_transformed())
    with FlopCounterMode(display=False):
        found.append(is_transformed())
    assert found == [True, True, True]
    assert not is_transformed()
