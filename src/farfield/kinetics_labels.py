"""Class names of Kinetics-400, for subsets and converted checkpoints."""

from __future__ import annotations


def kinetics400_labels() -> list[str]:
    """Return the 400 class names in alphabetical order. All projects number the classes in this order."""
    from torchvision.models.video import R3D_18_Weights  # imported late: it takes a second

    return list(R3D_18_Weights.KINETICS400_V1.meta["categories"])
