"""Copies on the meta device, and those that compute shapes only."""

from __future__ import annotations

import torch
from torch import nn

from farfield.layers import BatchNorm3d, NonLocalBlock3d
from farfield.layers.meta_copy import meta_copy
from farfield.layers.shape_copy import shape_copy


def network() -> nn.Module:
    shared = nn.ReLU(inplace=True)
    stem = nn.Sequential(nn.Conv3d(3, 8, (1, 3, 5), stride=(1, 2, 3)), BatchNorm3d(8), shared)
    return nn.Sequential(stem, NonLocalBlock3d(8), nn.Conv3d(8, 7, 1), shared, nn.Sigmoid())


def test_a_shape_copy_has_the_shapes_and_names_of_the_original() -> None:
    original = network()
    copy = shape_copy(original)
    clips = torch.empty(2, 3, 5, 17, 29)
    assert copy(clips.to("meta")).shape == original(clips).shape
    assert [name for name, _ in copy.named_modules()] == [name for name, _ in original.named_modules()]
    assert not any(isinstance(module, nn.ReLU | BatchNorm3d) for module in copy.modules())
    assert (original.training, copy.training) == (True, False)


def test_hooks_of_a_copy_are_its_own() -> None:
    original = network()
    called = []
    original[0].register_forward_hook(lambda *_: called.append("copied"))
    copy = meta_copy(original)
    copy[2].register_forward_hook(lambda *_: called.append("of the copy"))
    copy[0][0].register_forward_pre_hook(lambda *_: called.append("of the copy's convolution"))
    copy.eval()(torch.empty(2, 3, 5, 17, 29, device="meta"))
    assert called == ["of the copy's convolution", "copied", "of the copy"]
    called.clear()
    original.eval()(torch.zeros(2, 3, 5, 17, 29))
    assert called == ["copied"]
    assert all(tensor.is_meta for tensor in copy.state_dict().values())
    assert not any(tensor.is_meta for tensor in original.state_dict().values())
