"""Networks: backbones, block insertion, head, inflation, summary."""
