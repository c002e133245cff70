"""Split a network into the part that processes each frame separately, and the rest.

Windows of a long video overlap. Up to the first layer that mixes frames, a frame's features are the same in every
window with this frame, so they can be computed once (`farfield/timelines/shared_frames.py`).

The layers that do not mix frames are grouped into *levels*. The first level computes one feature map from each frame.
In C2D, a pooling over pairs of frames follows, and then more layers that mix no frames. This pooling and these layers
are the second level, which computes one map from each pair of maps of the first level. A map thus belongs to a *group*
of consecutive frames.

In this table, a bar marks the end of a level. The layers after the last bar are the rest:

    C2D              stem res2 | pool res3 res4 res5 | head                     levels of 1 and 2 frames
    C2D with nl5     stem res2 | pool res3[0] res3[1] | non-local block ...     levels of 1 and 2 frames
    Slow             stem res2 res3 | res4 res5 head                            one level, of 1 frame
    I3D, SlowFast    no level: their first convolutions span several frames
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.layers import FrameConv3d, FrozenBatchNorm3d
from farfield.layers.dense_conv import DenseConv3d
from farfield.layers.frame_conv import spans_one_frame
from farfield.layers.torch_private import BatchNormBase, has_forward_hooks, is_compiled
from farfield.models.backbones import Backbone
from farfield.models.insertion import WithBlock
from farfield.models.network import ActionNet

POSITIONWISE = (nn.Identity, nn.Dropout, nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Sigmoid, FrozenBatchNorm3d)
"""Types of layers that, in evaluation, compute each output position from only the same input position."""
POOLS = (nn.MaxPool3d, nn.AvgPool3d)
PROBE_SIDE_PX = 32


@dataclass(frozen=True)
class FrameLevel:
    """Layers that compute one feature map from each group of frames.

    Attributes:
        layers: the layers, in order. Those of the second and later levels start with a pooling over time.
        group: number of frames, or of maps of the previous level, that one map is computed from. This is the length of
            the pooling over time, and 1 in the first level.
        span: number of frames that one map is computed from, through all levels.
    """

    layers: tuple[nn.Module, ...]
    group: int
    span: int

    def __call__(self, x: Float[Tensor, "1 c t h w"]) -> Float[Tensor, "1 c2 n h2 w2"]:
        """Compute one map for each of n = t / `group` groups. The groups are concatenated along t.

        The groups are not moved to the batch axis, because t could then be 1, and PyTorch may not recognise
        channels_last_3d memory if t is 1.
        """
        for layer in self.layers:
            x = layer(x)
        return x


@dataclass(frozen=True)
class FrameLevels:
    """A network's levels, and the layers of its backbone that follow them.

    Attributes:
        levels: the levels, in order.
        rest: the backbone's other layers, in order.
    """

    levels: tuple[FrameLevel, ...]
    rest: tuple[nn.Module, ...]

    def features(self, maps: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t2 h2 w2"]:
        """Compute the backbone's features: run the layers after the levels on maps from the last level."""
        for layer in self.rest:
            maps = layer(maps)
        return maps


class _Part(NamedTuple):
    """One of the parts of a backbone that run in sequence: a layer, a residual block or an inserted block."""

    module: nn.Module
    is_inserted: bool


def frame_levels(network: ActionNet) -> FrameLevels | None:
    """Split a network into levels, whose layers do not mix frames, and the rest. The network is put in evaluation mode.

    A layer belongs to a level if all modules in it are of types that process each frame separately. A forward pass then
    checks this: NaN in one frame of a small clip must not change the feature maps of the other frames.

    Returns:
        The levels and the rest. None if the first residual block or a layer before it mixes frames, or if the check
        fails. Also None for a network that has several pathways, has no residual blocks, is compiled, or has forward
        hooks (which would not run for every window).
    """
    levels = find_levels(network)
    if levels is None or levels == _CHECKED.get(network):
        return levels
    if not _keep_frames_apart(levels, network):
        return None
    _CHECKED[network] = levels
    return levels


_CHECKED: WeakKeyDictionary[ActionNet, FrameLevels] = WeakKeyDictionary()
"""Levels of networks that a forward pass has already checked."""


def find_levels(network: ActionNet) -> FrameLevels | None:
    """Split a network by the types of its modules, as `frame_levels` does, but without the check by a forward pass."""
    network.eval()
    backbone = network.backbone
    if type(backbone) is not Backbone or is_compiled(network) or any(has_forward_hooks(m) for m in network.modules()):
        return None
    parts = [*_parts(backbone.trunk), *(_Part(block, True) for block in backbone.top_blocks())]
    levels: list[FrameLevel] = []
    done = 0
    layers: list[nn.Module] = []
    group = span = 1
    for i, part in enumerate([*parts, None]):
        if part is not None and not part.is_inserted and _keeps_frames(part.module):
            layers.append(part.module)
            continue
        if len(layers) <= (group > 1):  # nothing, or only the pooling
            break
        levels.append(FrameLevel(tuple(layers), group, span))
        done = i
        group = 1 if part is None else _pooled_frames(part.module)
        if part is None or group == 1:
            break
        span *= group
        layers = [part.module]
    blocks = {block.residual if isinstance(block, WithBlock) else block for block in _blocks(backbone)}
    if not any(layer in blocks for level in levels for layer in level.layers):
        return None
    return FrameLevels(tuple(levels), tuple(module for module, _ in parts[done:]))


def _blocks(backbone: Backbone) -> list[nn.Module]:
    return [block for blocks in backbone.stages.values() for block in blocks]


def _parts(module: nn.Module) -> Iterator[_Part]:
    """Yield the parts of a trunk, or of a module in it, in the order in which they run."""
    if isinstance(module, WithBlock):
        yield from _parts(module.residual)
        yield _Part(module.inserted, True)
    elif type(module) is nn.Sequential:
        for child in module:
            yield from _parts(child)
    elif children := _pytorchvideo_chain(module):
        for child in children:
            yield from _parts(child)
    else:
        yield _Part(module, False)


def _pytorchvideo_chain(module: nn.Module) -> Sequence[nn.Module]:
    """Return the modules that a PyTorchVideo container runs in sequence; an empty tuple for any other module."""
    if not type(module).__module__.startswith("pytorchvideo."):  # networks without it must not import it: it is slow
        return ()
    from pytorchvideo.models.net import Net
    from pytorchvideo.models.resnet import ResStage

    names = {Net: "blocks", ResStage: "res_blocks"}
    return tuple(getattr(module, names[type(module)])) if type(module) in names else ()


def _keeps_frames(module: nn.Module) -> bool:
    """Return whether every layer (module without children) in `module` processes frames separately in evaluation."""
    return all(_layer_keeps_frames(each) for each in module.modules() if next(each.children(), None) is None)


def _layer_keeps_frames(layer: nn.Module) -> bool:
    if isinstance(layer, BatchNormBase):
        return layer.running_mean is not None  # without, it normalises with the statistics of the clips at hand
    if isinstance(layer, POOLS):
        return (_time(layer.kernel_size), _time(layer.stride), _time(layer.padding)) == (1, 1, 0)
    if isinstance(layer, nn.ZeroPad3d):
        return layer.padding[4:] == (0, 0)
    if isinstance(layer, DenseConv3d):
        return (layer.kernel_size[0], layer.stride[0], layer.padding[0]) == (1, 1, 0)
    return isinstance(layer, (FrameConv3d, *POSITIONWISE)) or spans_one_frame(layer)


def _pooled_frames(module: nn.Module) -> int:
    """Return the length of a pooling over time whose windows neither overlap nor leave gaps; 1 for other modules."""
    if not isinstance(module, POOLS) or module.ceil_mode or _time(module.padding) > 0:
        return 1
    if isinstance(module, nn.MaxPool3d) and _time(module.dilation) > 1:
        return 1
    length = _time(module.kernel_size)
    return length if length == _time(module.stride) else 1


def _time(size: int | Sequence[int]) -> int:
    return size if isinstance(size, int) else size[0]


@torch.inference_mode()
def _keep_frames_apart(levels: FrameLevels, network: ActionNet) -> bool:
    """Return whether the map of each group of frames stays the same when another group in the clip is NaN."""
    shape = 3 * levels.levels[-1].span, PROBE_SIDE_PX, PROBE_SIDE_PX, 3
    noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    x = noise.to(network.device, network.dtype).permute(0, 4, 1, 2, 3)
    for level in levels.levels:
        alone = [level(group) for group in x.split(level.group, dim=2)]
        spoilt = x.clone()
        spoilt[:, :, level.group : 2 * level.group] = torch.nan  # the second group
        together = level(spoilt).split(1, dim=2)
        if len(together) != len(alone) or not all(
            _close(found, expected) for i, (found, expected) in enumerate(zip(together, alone, strict=True)) if i != 1
        ):
            return False
        x = torch.cat(alone, dim=2)
    return True


def _close(found: Tensor, expected: Tensor) -> bool:
    """Return whether features are equal up to rounding, relative to the largest value; False if any value is NaN."""
    tolerance = torch.finfo(expected.dtype).eps ** 0.5 * float(expected.abs().max())
    return torch.allclose(found, expected, rtol=0, atol=tolerance)
