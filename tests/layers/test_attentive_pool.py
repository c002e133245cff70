"""Attentive pooling against PyTorch's own transformer layer and multi-head attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.layers import AttentivePool3d

CHANNELS, HEADS = 24, 4


def random_pool(depth: int) -> AttentivePool3d:
    torch.manual_seed(0)
    pool = AttentivePool3d(CHANNELS, num_heads=HEADS, depth=depth).double()
    for parameter in pool.parameters():
        nn.init.normal_(parameter, std=0.3)
    return pool


def packed(module: nn.Module, what: str) -> Tensor:
    return torch.cat([getattr(getattr(module, f"to_{name}"), what) for name in ("query", "key", "value")])


def torch_layer(block: nn.Module) -> nn.TransformerEncoderLayer:
    """Build PyTorch's pre-norm layer with a block's weights."""
    layer = nn.TransformerEncoderLayer(
        CHANNELS, HEADS, 4 * CHANNELS, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).double()
    attention = block.attention
    layer.load_state_dict(
        {
            "self_attn.in_proj_weight": packed(attention, "weight"),
            "self_attn.in_proj_bias": packed(attention, "bias"),
            "self_attn.out_proj.weight": attention.project.weight,
            "self_attn.out_proj.bias": attention.project.bias,
            "linear1.weight": block.mlp.inner.weight,
            "linear1.bias": block.mlp.inner.bias,
            "linear2.weight": block.mlp.out.weight,
            "linear2.bias": block.mlp.out.bias,
            **{
                f"{name}.{what}": getattr(getattr(block, name), what)
                for name in ("norm1", "norm2")
                for what in ("weight", "bias")
            },
        }
    )
    return layer


@pytest.mark.parametrize("depth", [1, 3])
def test_it_equals_pytorchs_layers(depth: int) -> None:
    pool = random_pool(depth)
    x = torch.randn(2, CHANNELS, 2, 3, 3, dtype=torch.float64)
    tokens = x.flatten(2).transpose(1, 2)
    for block in pool.blocks:
        tokens = torch_layer(block)(tokens)
    last = pool.last
    tokens = last.norm1(tokens)
    found, _ = F.multi_head_attention_forward(
        pool.query.expand(-1, 2, -1), tokens.transpose(0, 1), tokens.transpose(0, 1), CHANNELS, HEADS,
        packed(last, "weight"), packed(last, "bias"), None, None, False, 0.0,
        torch.eye(CHANNELS, dtype=torch.float64), None,
    )  # fmt: skip
    z = pool.query + found.transpose(0, 1)
    expected = z + last.mlp(last.norm2(z))
    torch.testing.assert_close(pool(x), expected[:, 0], rtol=1e-12, atol=1e-12)


def test_a_larger_depth_draws_smaller_weights_for_later_blocks() -> None:
    torch.manual_seed(0)
    pool = AttentivePool3d(256, depth=4)
    deviations = [float(block.mlp.out.weight.detach().std()) for block in (*pool.blocks, pool.last)]
    assert deviations == pytest.approx([0.02 / place**0.5 for place in (1, 2, 3, 4)], rel=0.02)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_heads": 5}, "number of channels is 24"),
        ({"depth": 0}, "depth is 0"),
        ({"num_heads": 0}, "num_heads is 0"),
        ({"mlp_ratio": 0.04}, "at least 1 / 24"),
        ({"mlp_ratio": float("inf")}, "mlp_ratio is inf"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio is nan"),
    ],
)
def test_impossible_sizes_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        AttentivePool3d(CHANNELS, **{"num_heads": 4, **options})
