import pytest
import torch

from farfield.layers import GlobalAvgPool3d, frame_mask


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


def test_masked_is_the_mean_of_each_clip_by_itself() -> None:
    """Clips of different lengths, padded to the longest with what must not count, not even as NaN."""
    clips = [torch.randn(3, t, 2, 5, dtype=torch.float64) for t in (4, 7, 1)]
    batch = torch.full((3, 3, 7, 2, 5), torch.nan, dtype=torch.float64)
    for row, clip in zip(batch, clips, strict=True):
        row[:, : clip.shape[1]] = clip
    mask = frame_mask(torch.tensor([4, 7, 1]), 7)
    assert mask.sum(1).tolist() == [4, 7, 1]
    pooled = GlobalAvgPool3d()(batch, mask)
    torch.testing.assert_close(pooled, torch.stack([clip.mean((1, 2, 3)) for clip in clips]))
    assert GlobalAvgPool3d(keepdim=True)(batch, mask).shape == (3, 3, 1, 1, 1)
    batch.requires_grad_()
    GlobalAvgPool3d()(batch, mask).sum().backward()
    assert torch.equal(batch.grad[0, :, 4:], torch.zeros(3, 3, 2, 5, dtype=torch.float64))
    torch.testing.assert_close(batch.grad[0, :, :4], torch.full((3, 4, 2, 5), 1 / 40, dtype=torch.float64))


def test_masked_positions_as_loops() -> None:
    x, mask = torch.randn(2, 3, 2, 5, 3, dtype=torch.float64), torch.rand(2, 2, 5, 3) > 0.4
    pooled = GlobalAvgPool3d()(x, mask)
    for b in range(2):
        for c in range(3):
            values = [v for v, m in zip(x[b, c].flatten().tolist(), mask[b].flatten().tolist(), strict=True) if m]
            assert abs(pooled[b, c].item() - sum(values) / len(values)) < 1e-12
    nothing = GlobalAvgPool3d()(x, torch.zeros_like(mask))
    assert torch.equal(nothing, torch.zeros_like(nothing))


def test_a_mask_of_another_shape_is_refused(types_unchecked: None) -> None:
    with pytest.raises(ValueError, match=r"mask needs shape \(b, t\) or .* \(2, 3, 4, 5, 6\); given \(2, 5\)"):
        GlobalAvgPool3d()(torch.randn(2, 3, 4, 5, 6), torch.ones(2, 5, dtype=torch.bool))
