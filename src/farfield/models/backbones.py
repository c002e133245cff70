"""Backbones by name: PyTorchVideo's and torchvision's builders, with our batch norm inside and the head taken off.

`BACKBONES` is a plain dict from a name to a function without arguments that builds a `Backbone`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from farfield.clip_spec import ClipSpec
from farfield.layers import BatchNorm3d, replace_modules

STAGES = ("res2", "res3", "res4", "res5")


@dataclass(frozen=True)
class Stage:
    """One stage: where its residual blocks are inside the trunk, and how many channels each gives out."""

    path: str
    channels: int


class Backbone(nn.Module):
    """A trunk that turns clips into features: (b 3 t h w) -> (b c t' h' w').

    Args:
        trunk: the network without its head.
        stages: for "res2" .. "res5" where the residual blocks are.
        clip: the clips that the network was designed for.
    """

    def __init__(self, trunk: nn.Module, stages: dict[str, Stage], clip: ClipSpec) -> None:
        super().__init__()
        self.trunk = trunk
        self.stage_specs = stages
        self.clip = clip

    @property
    def stages(self) -> dict[str, list[nn.Module]]:
        """The residual blocks of each stage, in order."""
        return {name: list(self.blocks(name)) for name in self.stage_specs}

    def blocks(self, stage: str) -> nn.ModuleList | nn.Sequential:
        """The container of a stage's residual blocks; what is put into it takes part in the forward pass."""
        container = self.trunk.get_submodule(self.stage_specs[stage].path)
        assert isinstance(container, nn.ModuleList | nn.Sequential)
        return container

    @property
    def out_channels(self) -> int:
        return self.stage_specs["res5"].channels

    def forward(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t2 h2 w2"]:
        return self.trunk(clips)


def replace_batch_norm(network: nn.Module) -> None:
    """Swaps every `nn.BatchNorm3d` inside for ours, in place, keeping parameters and statistics.

    For builders that take no norm factory (torchvision's video networks).
    """
    replace_modules(network, lambda module: _ours(module) if type(module) is nn.BatchNorm3d else None)


def _ours(norm: nn.BatchNorm3d) -> BatchNorm3d:
    ours = BatchNorm3d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    ours.load_state_dict(norm.state_dict())
    return ours.train(norm.training)


def c2d_r50() -> Backbone:
    """C2D: a 2D ResNet-50 over frames; time is only pooled, once, after res2. Wang et al., CVPR 2018, table 1."""
    from pytorchvideo.models.hub import c2d_r50 as build

    return _pytorchvideo(build(norm=BatchNorm3d), first_stages=(1, 3, 4, 5))


def i3d_r50() -> Backbone:
    """I3D: ResNet-50 inflated to 3x1x1 kernels in every other block. Wang et al., CVPR 2018, section 4."""
    from pytorchvideo.models.hub import i3d_r50 as build

    return _pytorchvideo(build(norm=BatchNorm3d), first_stages=(1, 3, 4, 5))


def slow_r50() -> Backbone:
    """The Slow pathway alone, 8 frames at stride 8. Feichtenhofer et al., "SlowFast Networks", ICCV 2019."""
    from pytorchvideo.models.hub import slow_r50 as build

    return _pytorchvideo(build(norm=BatchNorm3d), first_stages=(1, 2, 3, 4))


def r3d_18() -> Backbone:
    """R3D-18, all kernels 3x3x3. Tran et al., "A Closer Look at Spatiotemporal Convolutions", CVPR 2018."""
    from torchvision.models.video import r3d_18 as build

    network = build()
    replace_batch_norm(network)
    trunk = nn.Sequential()
    for name in ("stem", "layer1", "layer2", "layer3", "layer4"):  # all but the pooling and the classifier
        trunk.add_module(name, network.get_submodule(name))
    stages = {name: Stage(f"layer{i + 1}", 64 * 2**i) for i, name in enumerate(STAGES)}
    clip = ClipSpec(  # torchvision's preset for R3D_18_Weights.KINETICS400_V1
        num_frames=16,
        crop_px=112,
        target_fps=15,
        short_side_px=128,
        mean=(0.43216, 0.394666, 0.37645),
        std=(0.22803, 0.22145, 0.216989),
        num_clips=5,
        num_crops=1,
    )
    return Backbone(trunk, stages, clip)


def tiny() -> Backbone:
    """An I3D-like network small enough to train on two CPU cores in minutes.

    Two bottleneck blocks a stage; temporal kernels of 5 in the stem, as I3D's, and of 3 in the first block of each
    stage; no temporal stride. Its temporal receptive field is 13 frames: 1 + 4 + 4 * 2.
    """
    return _tiny(stem_kernel=5, block_kernel=3)


def tiny_c2d() -> Backbone:
    """`tiny` without temporal kernels: it sees one frame at a time, and the head averages what it saw."""
    return _tiny(stem_kernel=1, block_kernel=1)


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "c2d_r50": c2d_r50,
    "i3d_r50": i3d_r50,
    "slow_r50": slow_r50,
    "r3d_18": r3d_18,
    "tiny": tiny,
    "tiny_c2d": tiny_c2d,
}


def _pytorchvideo(network: nn.Module, *, first_stages: Sequence[int]) -> Backbone:
    """Takes the head off a PyTorchVideo R50; `first_stages` are the indices of res2..res5 in its `blocks`."""
    blocks = network.get_submodule("blocks")
    assert isinstance(blocks, nn.ModuleList)
    del blocks[-1]
    stages = {
        name: Stage(f"blocks.{index}.res_blocks", 256 * 2**i)
        for i, (name, index) in enumerate(zip(STAGES, first_stages, strict=True))
    }
    return Backbone(network, stages, ClipSpec(num_frames=8, crop_px=224, frame_stride=8))


def _tiny(*, stem_kernel: int, block_kernel: int) -> Backbone:
    from pytorchvideo.models.net import Net
    from pytorchvideo.models.resnet import create_bottleneck_block, create_res_stage
    from pytorchvideo.models.stem import create_res_basic_stem

    kt = block_kernel
    widths = (32, 64, 128, 256)
    stem = create_res_basic_stem(
        in_channels=3,
        out_channels=16,
        conv_kernel_size=(stem_kernel, 5, 5),
        conv_stride=(1, 2, 2),
        conv_padding=(stem_kernel // 2, 2, 2),
        norm=BatchNorm3d,
    )
    blocks = [stem]
    dim_in = 16
    for i, dim_out in enumerate(widths):
        blocks.append(
            create_res_stage(
                depth=2,
                dim_in=dim_in,
                dim_inner=dim_out // 2,  # wide, since temporal kernels work inside
                dim_out=dim_out,
                bottleneck=create_bottleneck_block,
                conv_a_kernel_size=[(kt, 1, 1), (1, 1, 1)],
                conv_a_stride=(1, 1, 1),
                conv_a_padding=[(kt // 2, 0, 0), (0, 0, 0)],
                conv_b_stride=(1, 1, 1) if i == 0 else (1, 2, 2),
                norm=BatchNorm3d,
            )
        )
        dim_in = dim_out
    trunk = Net(blocks=nn.ModuleList(blocks))
    stages = {
        name: Stage(f"blocks.{i + 1}.res_blocks", width)
        for i, (name, width) in enumerate(zip(STAGES, widths, strict=True))
    }
    return Backbone(trunk, stages, ClipSpec(num_frames=8, crop_px=56, frame_stride=6, num_clips=2, num_crops=1))
