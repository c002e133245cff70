from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from farfield.layers.dense_conv import DenseConv3d

STEMS = [
    nn.Conv3d(3, 5, (5, 7, 7), stride=(1, 2, 2), padding=(2, 3, 3)),
    nn.Conv3d(3, 5, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
    nn.Conv3d(2, 5, (3, 5, 4), stride=(2, 3, 2), padding=(1, 2, 1)),
    nn.Conv3d(2, 5, (2, 2, 3), stride=(3, 4, 1), padding=(0, 1, 0)),
    nn.Conv3d(2, 5, (3, 16, 16), stride=(2, 16, 16), padding=(1, 0, 0)),
]


@pytest.mark.parametrize("conv", STEMS)
@pytest.mark.parametrize("size", [(7, 23, 19), (5, 32, 36), (6, 17, 31)])
def test_is_pytorchs_convolution(conv: nn.Conv3d, size: tuple[int, ...]) -> None:
    conv = copy.deepcopy(conv).double()
    x = torch.randn(2, conv.in_channels, *size, dtype=torch.float64)
    expected = conv(x)
    for given in (x, x.to(memory_format=torch.channels_last_3d)):
        torch.testing.assert_close(DenseConv3d(conv)(given), expected, rtol=1e-12, atol=1e-12)


def test_dense_form_has_stride_1_and_many_channels() -> None:
    dense = DenseConv3d(STEMS[0])
    assert dense.weight.shape == (5, 5 * 2 * 2 * 3, 1, 4, 4)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv3d(4, 6, 3, groups=2),
        nn.Conv3d(4, 6, 3, dilation=(1, 2, 1)),
        nn.Conv3d(4, 6, 3, padding="same"),
        nn.Conv3d(4, 6, 3, padding="valid"),
        nn.Conv3d(4, 6, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_refuses_what_it_cannot_compute(conv: nn.Conv3d) -> None:
    with pytest.raises(ValueError, match=r"has no space-to-depth form\. Give .* numbers as padding"):
        DenseConv3d(conv)
