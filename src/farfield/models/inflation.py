"""Image networks into video networks: torchvision's ImageNet ResNets into C2D, I3D and Slow.

A 2D kernel becomes kt copies of itself along time, each divided by kt, so that the network gives on a video of one
repeated frame what the image network gives on that frame (Carreira and Zisserman, CVPR 2017, section 2.3; Wang et al.,
CVPR 2018, section 3). Where a kernel reaches over the ends of the clip, the zeros there break this for frames nearby.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from farfield.errors import FarfieldError
from farfield.models.backbones import Backbone
from farfield.models.weight_names import to_network

INFLATABLE = ("c2d_r50", "c2d_r101", "i3d_r50", "i3d_r101", "slow_r50", "slow_r101")


def is_image_resnet(state: Mapping[str, Any]) -> bool:
    """Whether these are the weights of a 2D ResNet with torchvision's names."""
    first = state.get("conv1.weight")
    return isinstance(first, Tensor) and first.ndim == 4 and "layer1.0.conv1.weight" in state


def plain_name(name: str) -> str | None:
    """torchvision's name of a weight as a plain one (see peers/names.py); None for the classifier."""
    if match := re.fullmatch(r"(conv1|bn1)\.(\w+)", name):
        return f"stem.{'norm' if match[1] == 'bn1' else 'conv'}.{match[2]}"
    if match := re.fullmatch(r"layer([1-4])\.(\d+)\.(conv|bn)([123])\.(\w+)", name):
        kind = "norm" if match[3] == "bn" else "conv"
        return f"res{int(match[1]) + 1}.{match[2]}.branch2.{kind}_{'abc'[int(match[4]) - 1]}.{match[5]}"
    if match := re.fullmatch(r"layer([1-4])\.(\d+)\.downsample\.([01])\.(\w+)", name):
        return f"res{int(match[1]) + 1}.{match[2]}.branch1_{'norm' if match[3] == '1' else 'conv'}.{match[4]}"
    return None


def inflate(state: dict[str, Tensor], backbone: Backbone, *, name: str, source: Any) -> dict[str, Tensor]:
    """Weights for a backbone's own keys, blocks inserted into it aside.

    Args:
        state: torchvision's ResNet-50 or ResNet-101, with its names.
        backbone: C2D, I3D or Slow of as many layers.
        name: the backbone's, for messages.
        source: the weights', for messages.

    Raises:
        FarfieldError: for a backbone that is none of these, or an image network of another depth or width.
    """
    if name not in INFLATABLE:
        raise FarfieldError(
            f"{source} are weights of an image network; {name} cannot be made from them. Those that can: "
            f"{', '.join(INFLATABLE)}."
        )
    wanted = {key.replace(".residual.", "."): value.shape for key, value in backbone.state_dict().items()}
    inflated: dict[str, Tensor] = {}
    for own, value in state.items():
        plain = plain_name(own)
        if plain is None:
            continue
        key = to_network(plain, backbone).removeprefix("backbone.")
        if key not in wanted:
            raise FarfieldError(f"{source} has {own}, for which {name} has no place: it is of another depth.")
        shape = wanted[key]
        if value.ndim == 4 and len(shape) == 5:
            value = value.unsqueeze(2).expand(-1, -1, shape[2], -1, -1) / shape[2]
        if value.shape != shape:
            raise FarfieldError(f"{source} has {own} of shape {tuple(value.shape)}; {name} needs {tuple(shape)}.")
        inflated[key] = value
    missing = [key for key in wanted if key not in inflated and ".inserted." not in key and "num_batches" not in key]
    if missing:
        raise FarfieldError(
            f"{source} lacks {len(missing)} weights of {name}, as {missing[0]}: it is of another depth."
        )
    return inflated
