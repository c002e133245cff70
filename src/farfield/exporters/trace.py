"""Tracing of a network to a graph with dynamic batch size and, if the network allows it, dynamic clip length."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import jaxtyping
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError
from farfield.exporters.operator_forms import graph_forms
from farfield.layers import fold_batch_norm
from farfield.memory_errors import is_out_of_memory
from farfield.models.network import ActionNet

TIME_AXIS = {False: 2, True: 1}
"""Time axis of the graph's input: 1 if the graph takes frames (b t h w c), 2 if it takes clips (b 3 t h w)."""


@dataclass(frozen=True)
class Traced:
    """Traced graph of a network.

    Attributes:
        program: graph from clips to logits.
        takes_frames: whether the input is uint8 frames (b t h w c); otherwise it is normalised clips (b 3 t h w).
        any_batch: whether the batch size is dynamic; otherwise it is 1.
        any_length: whether the clip length is dynamic, within the lengths that the network accepts.
    """

    program: ExportedProgram
    takes_frames: bool
    any_batch: bool
    any_length: bool


class WithNormalisation(nn.Module):
    """A network with the normalisation of its input. It takes uint8 RGB frames (b t h w c) and returns logits."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, spec: ClipSpec) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(spec.mean), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std), persistent=False)

    def forward(self, frames: UInt8[Tensor, "b t h w c"]) -> Float[Tensor, "b classes"]:
        return self.network(((frames.float() / 255 - self.mean) / self.std).permute(0, 4, 1, 2, 3))


def trace(network: ActionNet, *, takes_frames: bool = False, any_length: bool = True) -> Traced:
    """Trace a network to a graph for clips of the network's test size in pixels, with batch norms folded.

    Args:
        network: network to trace. It is moved to the CPU; a copy of it is folded.
        takes_frames: whether the graph takes uint8 frames and normalises them itself.
        any_length: try to make the clip length dynamic; False fixes the length to `network.clip.num_frames`.

    Raises:
        FarfieldError: if PyTorch cannot trace the network.
    """
    spec = network.clip
    t, side = spec.num_frames, spec.test_side_px
    clips = torch.randn(2, 3, t, side, side)
    with torch.no_grad():
        module: nn.Module = fold_batch_norm(network.to("cpu"), clips[:1].to("meta"))
    module = WithNormalisation(module, spec) if takes_frames else module
    example = torch.zeros(2, t, side, side, 3, dtype=torch.uint8) if takes_frames else clips
    time = TIME_AXIS[takes_frames]
    attempts = [{0, time}, {0}] if any_length else [{0}]
    reason = ""
    for axes in [*attempts, set[int]()]:
        given = example if 0 in axes else example[:1]
        try:
            program = _export(module, given, axes)
        except Exception as error:  # torch.export's exceptions are many and undocumented
            if is_out_of_memory(error):
                raise
            reason = " ".join((str(error).strip() or type(error).__name__).split("\n\n")[0].split())
            continue
        free = _free_axes(program)
        if axes and 0 not in free:  # the batch size was specialised to the example's two clips
            continue
        return Traced(program, takes_frames, 0 in free, time in free)
    raise FarfieldError(
        f"{network.config['backbone']} cannot be exported to a file, because PyTorch cannot trace it: "
        f"{reason.rstrip('.')}. Use the checkpoint, or set to_folder to write a folder."
    )


def _export(module: nn.Module, example: Tensor, axes: set[int]) -> ExportedProgram:
    shapes = {axis: Dim.DYNAMIC if axis in axes else Dim.STATIC for axis in range(example.ndim)}
    with torch.no_grad(), graph_forms(), without_shape_checks(), silence_exporter_logs():
        return torch.export.export(module, (example,), dynamic_shapes=(shapes,), strict=False)


def _free_axes(program: ExportedProgram) -> set[int]:
    [name] = program.graph_signature.user_inputs
    [node] = [node for node in program.graph.nodes if node.name == name]
    return {axis for axis, size in enumerate(node.meta["val"].shape) if not isinstance(size, int)}


@contextmanager
def without_shape_checks() -> Iterator[None]:
    """Disable the shape checks of jaxtyping's import hook. In a trace, the sizes that they compare would be static."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@contextmanager
def silence_exporter_logs() -> Iterator[None]:
    """Suppress the exporters' warnings, because users of a network can do nothing about them."""
    names = ("torch.export", "torch._export", "torch.onnx", "torch.fx", "onnxscript", "nncf")
    loggers = [logging.getLogger(name) for name in names]
    levels = [each.level for each in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for each in loggers:
                each.setLevel(logging.ERROR)
            yield
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)
