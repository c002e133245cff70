"""Kinetics-400's class names. A leaf: subsets and converted checkpoints name them."""

from __future__ import annotations


def kinetics400_labels() -> list[str]:
    """The 400 class names, sorted, as all projects number them."""
    from torchvision.models.video import R3D_18_Weights  # late: it takes a second to import

    return list(R3D_18_Weights.KINETICS400_V1.meta["categories"])
