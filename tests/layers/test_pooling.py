import torch

from farfield.layers import GlobalAvgPool3d


def test_is_the_mean_over_positions_as_loops() -> None:
    x = torch.randn(2, 3, 5, 7, 11, dtype=torch.float64)
    expected = [[sum(channel.flatten().tolist()) / (5 * 7 * 11) for channel in clip] for clip in x]
    pooled = GlobalAvgPool3d()(x)
    torch.testing.assert_close(pooled, torch.tensor(expected, dtype=torch.float64))
    kept = GlobalAvgPool3d(keepdim=True)(x)
    assert kept.shape == (2, 3, 1, 1, 1)
    torch.testing.assert_close(kept, torch.nn.AdaptiveAvgPool3d(1)(x))
    torch.testing.assert_close(kept.flatten(1), pooled)


def test_gradient_is_spread_evenly() -> None:
    x = torch.randn(1, 2, 3, 2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(GlobalAvgPool3d(), (x,))
    GlobalAvgPool3d()(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1 / 30))
