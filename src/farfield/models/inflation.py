"""Inflate image networks (torchvision's ImageNet ResNets, EfficientNet-Lite0) to video networks.

A 2D kernel is repeated kt times along time and divided by kt. On a video of one repeated frame, the video network then
gives the image network's output for that frame (Carreira and Zisserman, CVPR 2017, section 2.3; Wang et al., CVPR 2018,
section 3). The outputs differ near the ends of the clip, where kernels reach into the zero padding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from farfield.errors import FarfieldError
from farfield.models.backbones import Backbone
from farfield.models.efficientnet_lite_weights import BACKBONE as EFFICIENTNET_LITE
from farfield.models.efficientnet_lite_weights import backbone_key, is_efficientnet_lite
from farfield.models.network_weight_names import to_network

RESNETS = ("c2d_r50", "c2d_r101", "i3d_r50", "i3d_r101", "slow_r50", "slow_r101")
INFLATABLE = (*RESNETS, EFFICIENTNET_LITE)


def is_image_network(state: Mapping[str, Any]) -> bool:
    """Return whether `state` has weights of an image network that `inflate` takes."""
    return is_image_resnet(state) or is_efficientnet_lite(state)


def is_image_resnet(state: Mapping[str, Any]) -> bool:
    """Return whether `state` has weights of a 2D ResNet, under torchvision's names."""
    first = state.get("conv1.weight")
    return isinstance(first, Tensor) and first.ndim == 4 and "layer1.0.conv1.weight" in state


def plain_name(name: str) -> str | None:
    """Translate torchvision's name of a ResNet's weight to farfield's plain name; None for the classifier.

    For example, "layer1.0.conv1.weight" becomes "res2.0.branch2.conv_a.weight". `network_weight_names.py` translates
    plain names to the keys of a network's state dict.
    """
    if match := re.fullmatch(r"(conv1|bn1)\.(\w+)", name):
        return f"stem.{'norm' if match[1] == 'bn1' else 'conv'}.{match[2]}"
    if match := re.fullmatch(r"layer([1-4])\.(\d+)\.(conv|bn)([123])\.(\w+)", name):
        kind = "norm" if match[3] == "bn" else "conv"
        return f"res{int(match[1]) + 1}.{match[2]}.branch2.{kind}_{'abc'[int(match[4]) - 1]}.{match[5]}"
    if match := re.fullmatch(r"layer([1-4])\.(\d+)\.downsample\.([01])\.(\w+)", name):
        return f"res{int(match[1]) + 1}.{match[2]}.branch1_{'norm' if match[3] == '1' else 'conv'}.{match[4]}"
    return None


def inflate(state: dict[str, Tensor], backbone: Backbone, *, name: str, source: Any) -> dict[str, Tensor]:
    """Inflate an image network's 2D weights to a state dict for a video backbone.

    The backbone may already have inserted blocks. The resulting state dict has no weights of these blocks, and its keys
    are named as in the backbone without them.

    Args:
        state: state dict of torchvision's ResNet-50 or ResNet-101, or of EfficientNet-Lite0.
        backbone: C2D, I3D or Slow of the same depth, or EfficientNet-Lite0.
        name: name of the backbone, for messages.
        source: origin of the weights, for messages.

    Raises:
        FarfieldError: if the backbone is of another type, or its depth or width differs from the image network's.
    """
    is_resnet = is_image_resnet(state)
    known = RESNETS if is_resnet else (EFFICIENTNET_LITE,)
    if name not in known:
        raise FarfieldError(
            f"{source} are weights of an image network, which cannot be inflated to {name}. Choose "
            f"{'one of the backbones ' if is_resnet else 'the backbone '}{', '.join(known)}."
        )
    kind = "ResNet of the same depth and width" if is_resnet else "file of EfficientNet-Lite0"
    wanted = {key.replace(".residual.", "."): value.shape for key, value in backbone.state_dict().items()}
    inflated: dict[str, Tensor] = {}
    for own, value in state.items():
        key = _resnet_key(own, backbone) if is_resnet else backbone_key(own)
        if key is None:
            continue
        if key not in wanted:
            raise FarfieldError(
                f"the weights {source} have an entry {own}, which {name} does not have. Give the weights of a {kind}."
            )
        shape = wanted[key]
        if value.ndim == 4 and len(shape) == 5:
            value = value.unsqueeze(2).expand(-1, -1, shape[2], -1, -1) / shape[2]
        if value.shape != shape:
            raise FarfieldError(
                f"{source} has {own} of shape {tuple(value.shape)}; {name} needs {tuple(shape)}. Give a {kind}."
            )
        inflated[key] = value
    missing = [key for key in wanted if key not in inflated and ".inserted." not in key and "num_batches" not in key]
    if missing:
        raise FarfieldError(
            f"{source} lacks weights of {name}: {len(missing)} in all, e.g. {missing[0]}. Give a {kind}."
        )
    return inflated


def _resnet_key(name: str, backbone: Backbone) -> str | None:
    """Translate torchvision's name of a weight to the key in the backbone's state dict; None for the classifier."""
    plain = plain_name(name)
    return None if plain is None else to_network(plain, backbone).removeprefix("backbone.")
