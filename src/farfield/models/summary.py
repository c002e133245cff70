"""Count a network's parameters, multiply-adds and activation memory, by stage and by inserted block.

Multiply-adds are counted as fvcore counts them. One multiply-add counts as 1. Convolutions, linear layers and matrix
products count, including those of attention. A norm layer in evaluation counts 2 per output element. Pooling, sums and
softmax do not count. The network runs on the meta device, so nothing is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from farfield.layers import FrozenBatchNorm3d
from farfield.layers.shape_copy import shape_copy
from farfield.models.insertion import WithBlock
from farfield.models.network import ActionNet

NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, FrozenBatchNorm3d),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)


@dataclass(frozen=True)
class Row:
    """Parameters, multiply-adds and activation memory of one part of a network.

    Attributes:
        part: name of the part, such as "stem", "res3", "res3[1] non_local" or "head". A network without stages has the
            parts "trunk" and "head".
        output: shape of the part's output for one clip: (c t h w), or (classes,) for the head.
        parameters: number of learned values.
        multiply_adds: multiply-adds for one clip.
        activation_bytes: total size, in bytes, of the outputs of the part's layers, for one clip in float32. In-place
            layers, identities and dropout do not count.
    """

    part: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int

    @property
    def is_inserted(self) -> bool:
        """Whether the part is an inserted block."""
        return "[" in self.part


@dataclass(frozen=True)
class Summary:
    """Parameters, multiply-adds and activation memory of a network for one clip.

    Attributes:
        clip: size (t h w) of the clip.
        rows: counts of each part, in the order of the network.
    """

    clip: tuple[int, int, int]
    rows: list[Row]

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        return sum(row.multiply_adds for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        return sum(row.activation_bytes for row in self.rows)


def summarise(network: ActionNet, *, num_frames: int | None = None, side_px: int | None = None) -> Summary:
    """Count a network's parameters, multiply-adds and activation memory for one clip in evaluation.

    Args:
        network: the network, which is not changed.
        num_frames: frames of the clip; None for `network.clip.num_frames`.
        side_px: height and width of the clip in pixels; None for the training size, `network.clip.crop_px`.
    """
    t, side = num_frames or network.clip.num_frames, side_px or network.clip.crop_px
    shapes = shape_copy(network).requires_grad_(False)  # the counter fails for a module given a view of a parameter
    part_of = _parts(shapes)
    from torch.utils.flop_counter import FlopCounterMode  # late: it imports Triton

    counted = FlopCounterMode(display=False)
    with counted, torch.no_grad(), _observe(shapes, network) as seen:
        shapes(torch.empty(1, 3, t, side, side, device="meta"))
    products = {name: sum(by_op.values()) // 2 for name, by_op in counted.get_flop_counts().items()}
    root = type(shapes).__name__
    names = list(dict.fromkeys(part_of.values()))
    outputs: dict[str, tuple[int, ...]] = {}
    parameters = dict.fromkeys(names, 0)
    for name, parameter in network.named_parameters():
        parameters[_part(name, part_of)] += parameter.numel()
    multiply_adds, activations = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for name, part in part_of.items():
        multiply_adds[part] += products.get(f"{root}.{name}", 0)
    for name, observed in seen.items():
        part = _part(name, part_of)
        multiply_adds[part] += observed.norm_multiply_adds
        activations[part] += observed.bytes
        outputs[part] = observed.shape
    rows = [
        Row(name, outputs.get(name, ()), parameters[name], multiply_adds[name], activations[name]) for name in names
    ]
    return Summary((t, side, side), rows)


@dataclass
class _Observed:
    shape: tuple[int, ...]
    bytes: int
    norm_multiply_adds: int


@contextmanager
def _observe(shapes: nn.Module, network: nn.Module) -> Iterator[dict[str, _Observed]]:
    """Record each layer's output size, and each norm's multiply-adds, while `shapes` runs in the `with` block.

    A layer is a module without children.

    Args:
        shapes: copy of the network by `shape_copy`, with `nn.Identity` in place of norms and activations.
        network: the original network. It does not run, but gives the original type of each layer.

    Yields:
        The record of each layer, by its name. The records are complete when `shapes` has run.
    """
    original = dict(network.named_modules())
    seen: dict[str, _Observed] = {}

    def record(name: str, module: nn.Module, output: Tensor | list[Tensor]) -> None:
        if isinstance(output, list):  # SlowFast's last fusion returns both pathways
            return
        is_norm = isinstance(module, NORMS)
        same = getattr(module, "inplace", False) or isinstance(module, nn.Identity | nn.Dropout)
        shape = tuple(output.shape[1:])
        size = 0 if same else 4 * output.numel()
        before = seen.get(name, _Observed(shape, 0, 0))
        products = 2 * output.numel() if is_norm else 0
        seen[name] = _Observed(shape, before.bytes + size, before.norm_multiply_adds + products)

    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: record(name, original[name], output))
        for name, module in shapes.named_modules()
        if next(module.children(), None) is None and not isinstance(module, nn.Sequential)  # no blocks on top
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _parts(network: ActionNet) -> dict[str, str]:
    """Return the part of the network that each layer belongs to: {name of the layer: name of the part, see `Row`}.

    The head, each inserted block, and a backbone without stages have one entry each, instead of one per layer.
    """
    backbone = network.backbone
    tops = {
        f"backbone.{name}.{i}": f"{name}[{i}] {network.config['block']}"
        for name in backbone.tops
        for i in range(len(backbone.top_blocks(name)))
    }
    if not backbone.stage_specs:
        return {"backbone": "trunk", **tops, "head": "head"}
    inserted = {}
    for stage, spec in backbone.stage_specs.items():
        for i, path in enumerate(spec.paths):
            if isinstance(backbone.blocks(stage)[i], WithBlock):
                inserted[f"{path}.inserted"] = f"{stage}[{i}] {network.config['block']}"
    layers = [name for name, module in backbone.trunk.named_modules() if next(module.children(), None) is None]
    fast = {path: stage for stage, spec in backbone.stage_specs.items() for path in spec.paths if stage[:4] == "fast"}
    parts: dict[str, str] = {}
    for name, place in backbone.places(layers).items():
        block = next((path for path in inserted if name.startswith(path + ".")), None)
        if block is not None:
            parts.setdefault(f"backbone.trunk.{block}", inserted[block])
            continue
        stage = next((stage for path, stage in fast.items() if name.startswith(path + ".")), place.stage)
        parts[f"backbone.trunk.{name}"] = stage
    return {**parts, **tops, "head": "head"}


def _part(name: str, part_of: dict[str, str]) -> str:
    """Return the part of the network that a parameter or layer belongs to.

    Args:
        name: name of the parameter or layer. If `part_of` has no such key, the innermost enclosing module that is a key
            is looked up instead.
        part_of: result of `_parts`.
    """
    while name:
        if name in part_of:
            return part_of[name]
        name = name.rpartition(".")[0]
    raise KeyError(name)
