"""Base classes of backbones. A backbone is a trunk without a head, with its stages and default clip settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError, nearest

STAGES = ("res2", "res3", "res4", "res5")
TOP = "top"
"""Key in a `Placement` for blocks after the last stage, on the feature map that the head pools."""
TOPS = (TOP, f"fast_{TOP}")
"""Keys in a `Placement` for blocks after the last stage of the slow and of the fast pathway."""


@dataclass(frozen=True)
class Stage:
    """Module paths and numbers of channels of a stage's residual blocks.

    Attributes:
        paths: dotted module path of each block in the trunk.
        channels: number of output channels of each block.
    """

    paths: tuple[str, ...]
    channels: tuple[int, ...]

    @classmethod
    def within(cls, container: str, channels: Sequence[int], first: int = 0) -> Stage:
        """Create a `Stage` whose blocks are consecutive children of a container module.

        Args:
            container: dotted path of the container in the trunk.
            channels: number of output channels of each block. There is one block for each number.
            first: index of the first block in the container.
        """
        return cls(tuple(f"{container}.{first + i}" for i in range(len(channels))), tuple(channels))


class Place(NamedTuple):
    """Position of a parameter or module in a network.

    Modules between two residual blocks, such as SlowFast's fusions, belong to the earlier block. Blocks at the same
    depth of the slow and the fast pathway have the same position.

    Attributes:
        stage: "stem", or "res2" .. "res5"; in a network without stages "layer1", "layer2", ...
        layer: 0 for the stem, or the number of the residual block or layer, counted from 1 over all stages.
    """

    stage: str
    layer: int


class Backbone(nn.Module):
    """A trunk that turns clips into features: (b 3 t h w) -> (b c t' h' w').

    Args:
        trunk: network without its head.
        stages: the stages by name, "res2" .. "res5"; empty for a network without residual stages.
        clip: clip settings that the network was designed for.
        out_channels: number of feature channels, c.
        embedding: function that creates the module between pooling and classifier, (b c ...) -> (b c2 ...); None for no
            such module.
        head_channels: number of input channels of the classifier, c2; None if c2 = c.
        has_map: whether the features form a map over time and space; False for a network that pools them to (b c 1 1
            1).
        layers: for a network without residual stages, dotted module paths of its consecutive layers, such as those of a
            transformer. Freezing and layer-wise learning rates treat each of these layers as one unit.
    """

    num_pathways = 1
    tops: tuple[str, ...] = (TOP,)
    """For each pathway, the name of the attribute that holds the blocks after its last stage."""
    pooled_frames = 0
    """Number of frames in a time step after the pooling over time between res2 and res3, which drops frames at the end
    that fill no time step; 0 without such pooling."""
    smallest_side_px = 0
    """Height and width of clips below which weights from larger clips lose their meaning."""

    def __init__(
        self,
        trunk: nn.Module,
        stages: dict[str, Stage],
        clip: ClipSpec,
        *,
        out_channels: int,
        embedding: Callable[[], nn.Module] | None = None,
        head_channels: int | None = None,
        has_map: bool = True,
        layers: Sequence[str] = (),
    ) -> None:
        super().__init__()
        for conv in trunk.modules():
            if isinstance(conv, nn.Conv3d):  # torch.compile treats PyTorchVideo's numpy integers as variables
                conv.stride = tuple(int(step) for step in conv.stride)
        self.trunk = trunk
        self.stage_specs = stages
        self.clip = clip
        self.out_channels = out_channels
        self.make_embedding = embedding or nn.Identity
        self.head_channels = head_channels or out_channels
        self.has_map = has_map
        for name in self.tops:
            self.add_module(name, nn.Sequential())
        self.layer_paths = tuple(layers)

    @property
    def depth_names(self) -> list[str]:
        """Names of the network's parts in order of depth: "stem", then the stages or "layer1", "layer2", ...

        The list is empty for a network without stages and layers.
        """
        names = [name for name in self.stage_specs if not name.startswith("fast_")] or self.layer_names
        return ["stem", *names] if names else []

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers of a network without residual stages: "layer1", "layer2", ..."""
        return [f"layer{i + 1}" for i in range(len(self.layer_paths))]

    def layers(self) -> list[nn.Module]:
        """Return the layers of a network without residual stages, in order; an empty list for other networks."""
        return [self.trunk.get_submodule(path) for path in self.layer_paths]

    @property
    def stages(self) -> dict[str, list[nn.Module]]:
        """Residual blocks of each stage, in order."""
        return {name: self.blocks(name) for name in self.stage_specs}

    def stage(self, name: str) -> Stage:
        """Return a stage's module paths and numbers of channels.

        Raises:
            FarfieldError: if this network has no stage `name`.
        """
        if name not in self.stage_specs:
            known = nearest(name, self.stage_specs) if self.stage_specs else "This network has no stages."
            raise FarfieldError(f"there is no stage {name!r}. {known}")
        return self.stage_specs[name]

    def blocks(self, stage: str) -> list[nn.Module]:
        """Return a stage's residual blocks, each together with any block inserted after it."""
        return [self.trunk.get_submodule(path) for path in self.stage(stage).paths]

    def replace_block(self, stage: str, index: int, block: nn.Module) -> None:
        """Replace a residual block by another module."""
        self.trunk.set_submodule(self.stage(stage).paths[index], block)

    def top_blocks(self, name: str = TOP) -> nn.Sequential:
        """Return the blocks inserted after a pathway's last stage, in one `nn.Sequential` (empty if there are none).

        Args:
            name: "top" for the slow or only pathway, "fast_top" for the fast pathway.
        """
        blocks = getattr(self, name)
        assert isinstance(blocks, nn.Sequential)
        return blocks

    def places(self, names: Iterable[str]) -> dict[str, Place]:
        """Return the stage and layer of each named parameter or module of the trunk.

        Args:
            names: names of parameters or modules of the trunk. They must be in the trunk's order, because a name
                outside of all blocks gets the place of the name before it.
        """
        blocks = {
            path + ".": (stage, i) for stage, spec in self.stage_specs.items() for i, path in enumerate(spec.paths)
        }
        depths = itertools.accumulate(
            (len(self.stage_specs[s].paths) for s in STAGES if s in self.stage_specs), initial=0
        )
        before = dict(zip(STAGES, depths, strict=False))
        layers = {path + ".": Place(f"layer{i}", i) for i, path in enumerate(self.layer_paths, 1)}
        found: dict[str, Place] = {}
        last = Place("stem", 0)
        for name in names:
            block = next((place for path, place in blocks.items() if (name + ".").startswith(path)), None)
            if block is not None:
                stage = block[0].removeprefix("fast_")
                last = Place(stage, before[stage] + block[1] + 1)
            last = next((place for path, place in layers.items() if (name + ".").startswith(path)), last)
            found[name] = last
        return found

    def forward(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t2 h2 w2"]:
        return self.top_blocks()(self.trunk(clips))


class TwoPathwayBackbone(Backbone):
    """A backbone with a slow and a fast pathway: (b 3 t h w) -> [(b c1 t/alpha h' w'), (b c2 t h' w')].

    "res2" .. "res5" are the stages of the slow pathway, which receives the fast pathway's features; "fast_res2" ..
    "fast_res5" are those of the fast pathway. Arguments that are not listed are those of `Backbone`.

    Args:
        out_channels: number of feature channels of both pathways, c1 + c2.
        alpha: number of frames in the fast pathway per frame in the slow pathway.
    """

    num_pathways = 2
    tops = TOPS

    def __init__(
        self, trunk: nn.Module, stages: dict[str, Stage], clip: ClipSpec, *, out_channels: int, alpha: int
    ) -> None:
        super().__init__(trunk, stages, clip, out_channels=out_channels)
        self.alpha = alpha

    def forward(  # type: ignore[override]  # a list, since the pathways differ in time
        self, clips: Float[Tensor, "b 3 t h w"]
    ) -> list[Tensor]:
        """Compute the features of both pathways: [(b c1 t/alpha h' w'), (b c2 t h' w')].

        Raises:
            ValueError: if the number of frames is not divisible by alpha.
        """
        frames = clips.shape[2]
        if frames % self.alpha:
            raise ValueError(
                f"a two-pathway network needs a number of frames divisible by alpha={self.alpha}; given {frames}. "
                "Change the number of frames."
            )
        index = torch.tensor(slow_frames(frames, frames // self.alpha), device=clips.device)
        maps = self.trunk([clips.index_select(2, index), clips])  # a new list: the trunk writes into it
        return [self.top_blocks(name)(each) for name, each in zip(self.tops, maps, strict=True)]


def slow_frames(frames: int, count: int) -> list[int]:
    """Choose the indices of the slow pathway's `count` frames among `frames` frames, as PySlowFast does.

    The indices equal torch.linspace(0, frames - 1, count).long(), including its float32 rounding of positions that are
    almost whole numbers. For 8 of 32 frames they are 0, 4, 8, 13, 17, 22, 26, 31. The computation uses Python numbers
    instead of a tensor, so that a compiled network stays one graph.
    """
    last = frames - 1
    step = _to_float32(last / max(count - 1, 1))
    return [
        int(_to_float32(step * i if i < count // 2 or count == 1 else last - step * (count - 1 - i)))
        for i in range(count)
    ]


def _to_float32(number: float) -> float:
    """Round a number to float32."""
    mantissa, exponent = math.frexp(number)
    return math.ldexp(round(math.ldexp(mantissa, 24)), exponent - 24)
