from __future__ import annotations

import pytest
import torch
from torch import nn

from farfield.layers import PointwiseConv1d, PointwiseConv2d, PointwiseConv3d

CASES = [
    (PointwiseConv1d, nn.Conv1d, (11,)),
    (PointwiseConv2d, nn.Conv2d, (3, 7)),
    (PointwiseConv3d, nn.Conv3d, (3, 2, 5)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("ours", "theirs", "size"), CASES)
@pytest.mark.parametrize(("groups", "bias"), [(1, True), (1, False), (2, True), (2, False)])
def test_is_pytorchs_convolution(
    ours: type[nn.Module], theirs: type[nn.Module], size: tuple[int, ...], groups: int, bias: bool
) -> None:
    layer = ours(4, 6, groups=groups, bias=bias).double()
    other = theirs(4, 6, 1, groups=groups, bias=bias).double()
    other.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(layer(x), other(x), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(layer, (x,))
    assert isinstance(layer, theirs)


def test_gives_rows_without_a_copy() -> None:
    """channels_last in memory, whatever the input's format."""
    x = torch.randn(2, 4, 3, 2, 5)
    for given in (x, x.to(memory_format=torch.channels_last_3d)):
        assert PointwiseConv3d(4, 6)(given).is_contiguous(memory_format=torch.channels_last_3d)
