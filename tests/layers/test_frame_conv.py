from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from farfield import build_model
from farfield.layers import FrameConv3d, convolve_frames

CONVOLUTIONS = [
    nn.Conv3d(4, 6, 1),
    nn.Conv3d(4, 6, (1, 3, 5), padding=(0, 1, 2), bias=False),
    nn.Conv3d(4, 6, (1, 3, 2), stride=(1, 2, 3), padding=(0, 2, 1), groups=2),
    nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 2, 3), dilation=(1, 2, 3)),
]


@pytest.mark.parametrize("conv", CONVOLUTIONS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_is_pytorchs_convolution(conv: nn.Conv3d, memory_format: torch.memory_format) -> None:
    conv = copy.deepcopy(conv).double()
    layer = FrameConv3d(conv)
    assert layer.weight is conv.weight
    assert list(layer.state_dict()) == list(conv.state_dict())
    x = torch.randn(2, 4, 3, 7, 11, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    torch.testing.assert_close(layer(x), conv(x), rtol=1e-12, atol=1e-12)
    few = torch.randn(1, 4, 2, 5, 3, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    assert torch.autograd.gradcheck(layer, (few,))  # which runs the layer twice for each of these numbers


def test_keeps_channels_last_without_a_copy() -> None:
    conv = nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 1, 1)).to(memory_format=torch.channels_last_3d)
    x = torch.randn(2, 4, 3, 7, 11).to(memory_format=torch.channels_last_3d)
    assert FrameConv3d(conv)(x).is_contiguous(memory_format=torch.channels_last_3d)
    assert x.transpose(1, 2).flatten(0, 1).data_ptr() == x.data_ptr()
    assert FrameConv3d(conv).weight[:, :, 0].is_contiguous(memory_format=torch.channels_last)


def hooked() -> nn.Conv3d:
    conv = nn.Conv3d(4, 6, 1)
    conv.register_forward_hook(lambda *_: None)
    return conv


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv3d(4, 6, (3, 1, 1)),
        nn.Conv3d(4, 6, 1, stride=(2, 1, 1)),
        nn.Conv3d(4, 6, 1, padding=(1, 0, 0)),
        nn.Conv3d(4, 6, (1, 3, 3), padding="same"),
        nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 1, 1), padding_mode="replicate"),
        weight_norm(nn.Conv3d(4, 6, 1)),
        hooked(),
    ],
)
def test_leaves_other_convolutions_as_they_are(conv: nn.Module) -> None:
    network = nn.Sequential(conv)
    assert convolve_frames(network)[0] is conv
    with pytest.raises(ValueError, match=r"cannot run as a 2D convolution of frames. .* kernel 1, stride 1"):
        FrameConv3d(conv)  # type: ignore[arg-type]


def test_finds_them_in_networks() -> None:
    network = build_model("tiny", num_classes=3).eval()
    x = torch.randn(1, 3, 6, 32, 40)
    expected = network(x)
    of_frames = {name for name, m in network.named_modules() if type(m) is nn.Conv3d and m.kernel_size[0] == 1}
    assert of_frames
    convolve_frames(network)
    assert {name for name, module in network.named_modules() if isinstance(module, FrameConv3d)} == of_frames
    torch.testing.assert_close(network(x), expected)
