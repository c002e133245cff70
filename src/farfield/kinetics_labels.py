"""Class names of Kinetics-400, for choosing subsets, and for checkpoints that do not name their 400 classes."""

from __future__ import annotations


def kinetics400_labels() -> list[str]:
    """Return the 400 class names in alphabetical order, the order in which published networks number the classes."""
    from torchvision.models.video import R3D_18_Weights  # imported late: it takes a second

    return list(R3D_18_Weights.KINETICS400_V1.meta["categories"])
