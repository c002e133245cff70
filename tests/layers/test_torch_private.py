"""PyTorch's private names in `farfield.layers.torch_private` still exist and mean the same."""

from __future__ import annotations

import pytest
from torch import nn

from farfield.layers.torch_private import (
    BatchNormBase,
    ConvBase,
    child_slots,
    has_forward_hooks,
    is_compiled,
    resolved_padding,
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
