"""Backbones by name, without heads. The convolutional backbones have farfield's batch norm.

From PyTorchVideo's builders: C2D, I3D, Slow, SlowFast (`resnets.py`) and CSN, R(2+1)D, X3D (`factorised.py`). From
torchvision's builders: R3D, MC3, R(2+1)D-18, S3D, MViTv2 and Video Swin (`torchvision_networks.py`). Built here:
EfficientNet-Lite0 applied to each frame (`efficientnet_lite.py`), and networks small enough to train on two CPU cores
(`tiny.py`). From `transformers`: encoders defined by a Hugging Face config (`hugging_face.py`).
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from farfield.models.backbones.backbone import STAGES, TOP, TOPS, Backbone, Stage, TwoPathwayBackbone
from farfield.models.backbones.efficientnet_lite import c2d_efficientnet_lite0
from farfield.models.backbones.factorised import csn_r101, r2plus1d_r50, x3d_l, x3d_m, x3d_s, x3d_xs
from farfield.models.backbones.hugging_face import hf
from farfield.models.backbones.resnets import (
    SLOWFAST_DEFAULTS,
    ResNetOptions,
    SlowFastOptions,
    c2d_r50,
    c2d_r101,
    i3d_r50,
    i3d_r101,
    slow_r50,
    slow_r101,
    slowfast_16x8_r101,
    slowfast_r50,
    slowfast_r101,
)
from farfield.models.backbones.tiny import tiny, tiny_c2d
from farfield.models.backbones.torchvision_networks import (
    mc3_18,
    mvit_v1_b,
    mvit_v2_s,
    r2plus1d_18,
    r3d_18,
    s3d,
    swin3d_b,
    swin3d_s,
    swin3d_t,
)

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "c2d_r50": c2d_r50,
    "c2d_r101": c2d_r101,
    "i3d_r50": i3d_r50,
    "i3d_r101": i3d_r101,
    "slow_r50": slow_r50,
    "slow_r101": slow_r101,
    "slowfast_r50": slowfast_r50,
    "slowfast_r101": slowfast_r101,
    "slowfast_16x8_r101": slowfast_16x8_r101,
    "csn_r101": csn_r101,
    "r2plus1d_r50": r2plus1d_r50,
    "x3d_xs": x3d_xs,
    "x3d_s": x3d_s,
    "x3d_m": x3d_m,
    "x3d_l": x3d_l,
    "r3d_18": r3d_18,
    "mc3_18": mc3_18,
    "r2plus1d_18": r2plus1d_18,
    "s3d": s3d,
    "mvit_v1_b": mvit_v1_b,
    "mvit_v2_s": mvit_v2_s,
    "swin3d_t": swin3d_t,
    "swin3d_s": swin3d_s,
    "swin3d_b": swin3d_b,
    "c2d_efficientnet_lite0": c2d_efficientnet_lite0,
    "tiny": tiny,
    "tiny_c2d": tiny_c2d,
}
"""Functions that build the backbones, by name. Each takes the backbone's options as keywords, e.g. `dilated=True`."""

BUILDERS: dict[str, Callable[..., Backbone]] = {**BACKBONES, "hf": hf}
"""The functions in `BACKBONES`, and `hf`, which needs a config besides the name."""


def option_defaults(backbone: str) -> dict[str, Any]:
    """Return the default value of each option of a backbone. The defaults give the published network."""
    parameters = inspect.signature(BUILDERS[backbone]).parameters
    if "options" not in parameters:
        return {name: parameter.default for name, parameter in parameters.items()}
    kind = SlowFastOptions if backbone in SLOWFAST_DEFAULTS else ResNetOptions
    return {field.name: field.default for field in dataclasses.fields(kind)} | SLOWFAST_DEFAULTS.get(backbone, {})


__all__ = [
    "BACKBONES",
    "BUILDERS",
    "STAGES",
    "TOP",
    "TOPS",
    "Backbone",
    "Stage",
    "TwoPathwayBackbone",
    "option_defaults",
]
