"""torchvision's video networks: the 18-layer ResNets, S3D, and transformers.

The transformers have layers in place of stages, so that no blocks can be inserted into them.

Clip settings are those at which torchvision evaluated its Kinetics-400 weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.clip_spec import ClipSpec
from farfield.layers import BatchNorm3d, replace_modules
from farfield.models.backbones.backbone import STAGES, Backbone, Stage
from farfield.models.backbones.dilation import dilate


def r3d_18(*, dilated: bool = False) -> Backbone:
    """Build R3D-18, with 3x3x3 kernels. Tran et al., "A Closer Look at Spatiotemporal Convolutions", CVPR 2018."""
    return _resnet("r3d_18", dilated=dilated)


def mc3_18(*, dilated: bool = False) -> Backbone:
    """Build MC3-18, with 3x3x3 kernels up to res2 and 1x3x3 kernels after it. Tran et al., CVPR 2018."""
    return _resnet("mc3_18", dilated=dilated)


def r2plus1d_18(*, dilated: bool = False) -> Backbone:
    """Build R(2+1)D-18, with every 3x3x3 kernel factorised into 1x3x3 and 3x1x1. Tran et al., CVPR 2018."""
    return _resnet("r2plus1d_18", dilated=dilated)


def s3d() -> Backbone:
    """Build S3D, an Inception network with separable 3D kernels.

    Xie et al., "Rethinking Spatiotemporal Feature Learning", ECCV 2018.

    A stage holds the layers of one resolution. Stage res2 has the two convolutions between the first and the second
    pooling. Stages res3, res4 and res5 each follow a pooling, and have two, five and two Inception blocks.
    """
    network = _build("s3d")
    replace_batch_norm(network)
    stages = {
        "res2": Stage.within("features", (64, 192), first=2),
        "res3": Stage.within("features", (256, 480), first=5),
        "res4": Stage.within("features", (512, 512, 512, 528, 832), first=8),
        "res5": Stage.within("features", (832, 1024), first=14),
    }
    clip = ClipSpec(num_frames=128, crop_px=224, target_fps=15, num_clips=1, num_crops=1, **_PIXELS)
    trunk = nn.Sequential()
    trunk.add_module("features", network.features)
    return Backbone(trunk, stages, clip, out_channels=1024)


def mvit_v1_b() -> Backbone:
    """Build MViT-B, a transformer of 16 layers, as a baseline. Fan et al., ICCV 2021.

    Its position embeddings are made for clips of 16 frames of 224 x 224 pixels.
    """
    return _mvit("mvit_v1_b")


def mvit_v2_s() -> Backbone:
    """Build MViTv2-S, a transformer of 16 layers, as a baseline. Li et al., CVPR 2022.

    Its position embeddings are made for clips of 16 frames of 224 x 224 pixels.
    """
    return _mvit("mvit_v2_s")


def swin3d_t() -> Backbone:
    """Build Video Swin-T, a transformer of 12 layers, as a baseline; see `_swin`. Liu et al., CVPR 2022."""
    return _swin("swin3d_t")


def swin3d_s() -> Backbone:
    """Build Video Swin-S, a transformer of 24 layers, as a baseline; see `_swin`. Liu et al., CVPR 2022."""
    return _swin("swin3d_s")


def swin3d_b() -> Backbone:
    """Build Video Swin-B, a transformer of 24 layers, as a baseline; see `_swin`. Liu et al., CVPR 2022.

    Its channels are 4/3 of those of Video Swin-S.
    """
    return _swin("swin3d_b")


_PIXELS: dict = {"mean": (0.43216, 0.394666, 0.37645), "std": (0.22803, 0.22145, 0.216989)}


def replace_batch_norm(network: nn.Module) -> None:
    """Replace every `nn.BatchNorm3d` by farfield's `BatchNorm3d`, in place, keeping parameters and statistics.

    This function is for networks whose builders have no option for the norm, such as torchvision's.
    """
    replace_modules(network, lambda module: _to_farfield(module) if type(module) is nn.BatchNorm3d else None)


def _to_farfield(norm: nn.BatchNorm3d) -> BatchNorm3d:
    ours = BatchNorm3d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    ours.load_state_dict(norm.state_dict())
    return ours.train(norm.training)


def _resnet(name: str, *, dilated: bool) -> Backbone:
    network = _build(name)
    replace_batch_norm(network)
    trunk = nn.Sequential()
    for name in ("stem", "layer1", "layer2", "layer3", "layer4"):  # all but the pooling and the classifier
        trunk.add_module(name, network.get_submodule(name))
    stages = {name: Stage.within(f"layer{i + 1}", (64 * 2**i,) * 2) for i, name in enumerate(STAGES)}
    clip = ClipSpec(num_frames=16, crop_px=112, target_fps=15, short_side_px=128, num_clips=5, num_crops=1, **_PIXELS)
    backbone = Backbone(trunk, stages, clip, out_channels=512)
    return dilate(backbone) if dilated else backbone


def _mvit(name: str) -> Backbone:
    clip = ClipSpec(num_frames=16, crop_px=224, target_fps=7.5, num_clips=5, num_crops=1)
    network = _build(name)
    return _transformer(network, [f"blocks.{i}" for i in range(len(network.blocks))], clip)


def _swin(name: str) -> Backbone:
    """Build a Video Swin transformer.

    The patch mergings, which reduce the resolution, belong to the layers before them.

    Clips of less than 193 px have less than 7 x 7 positions in the last two layers. Their attention windows shrink
    then, but torchvision 0.29.1 looks up the biases of relative positions as in whole windows (the first rows and
    columns of `relative_position_index`): at 192 px, 98.5% of the pairs of positions get the bias of another offset.
    """
    network = _build(name)
    clip = ClipSpec(
        num_frames=32,
        crop_px=224,
        target_fps=15,
        num_clips=12,
        num_crops=1,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    layers = [
        f"features.{i}.{j}"
        for i, blocks in enumerate(network.features)
        if isinstance(blocks, nn.Sequential)
        for j in range(len(blocks))
    ]
    backbone = _transformer(network, layers, clip)
    backbone.smallest_side_px = 193
    return backbone


def _transformer(network: Any, layers: Sequence[str], clip: ClipSpec) -> Backbone:
    """Remove a transformer's classifier, and wrap the rest; `layers` are the module paths of its layers."""
    channels = next(p for name, p in network.head.named_parameters() if name.endswith("weight")).shape[1]
    network.head = nn.Identity()
    paths = [f"network.{path}" for path in layers]
    return Backbone(_AsMap(network), {}, clip, out_channels=channels, has_map=False, layers=paths)


def _build(name: str) -> Any:
    from torchvision.models import get_model  # late: it takes a second to import

    return get_model(name)


class _AsMap(nn.Module):
    """Wrap a network so that its one vector per clip becomes a feature map: (b 3 t h w) -> (b c 1 1 1)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c 1 1 1"]:
        features: torch.Tensor = self.network(clips)
        return features[:, :, None, None, None]
