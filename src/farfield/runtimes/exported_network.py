"""Load exported files as networks, and run them.

    .onnx   onnxruntime        .xml (and .bin)   OpenVINO        .pt2   PyTorch

All three runtimes run on the CPU. They compute in float32, unless the file is int8 or OpenVINO is set to bfloat16. They
execute only the graph, and no other code from the file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from farfield.errors import FarfieldError
from farfield.layers.dense_conv import has_matrix_units
from farfield.memory_errors import is_out_of_memory
from farfield.models.operating_point import OperatingPoint, set_operating_points
from farfield.optional_dependencies import require_packages
from farfield.runtimes.dense_stem import make_stem_dense
from farfield.runtimes.metadata import KEY, ExportMetadata, read_description
from farfield.runtimes.openvino_weights import check_weights
from farfield.runtimes.signal_stack import keep_signal_stack
from farfield.runtimes.torch_export_archive import read_pt2

Run = Callable[[Tensor], Tensor]
"""Function from the graph's input to logits."""


class ExportedNet:
    """Exported network with the interface of an `ActionNet` in evaluation mode. Created by `load_exported`.

    Attributes:
        labels: class names, in the order of the scores.
        clip: sampling, size and normalisation of the input.
        task: task of the network: "single_label", "multilabel" or "multi_head", see `farfield.task`.
        config: `NetworkOptions` of the exported network, as a dict.
        operating_point: probability thresholds of the classes, for videos and clips; None if none were chosen.
        timeline_operating_point: probability thresholds of the classes, for timelines; None if none were chosen.
        description: metadata of the file.
        path: path of the file.
        device: the CPU.
        dtype: data type of the input clips; the graph may compute in another data type.
    """

    device = torch.device("cpu")
    dtype = torch.float32
    operating_point: OperatingPoint | None
    timeline_operating_point: OperatingPoint | None

    def __init__(self, description: ExportMetadata, run: Run, path: Path) -> None:
        self.description = description
        self.labels = description.labels
        self.clip = description.clip
        self.task = description.task
        self.config = description.model
        set_operating_points(self, vars(description), path)
        self.path = path
        self._run = run

    def eval(self) -> ExportedNet:
        """Return the network itself, which is always in evaluation mode."""
        return self

    def __call__(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b classes"]:
        """Score clips that are normalised as `clip` specifies, see `ActionNet.forward`.

        If the graph takes frames and normalises them itself, the exact uint8 frames are first recovered from the clips.

        Raises:
            ValueError: if the clips are not a floating-point tensor (b 3 t h w).
            FarfieldError: for clips of a size that the file does not accept.
        """
        if clips.ndim != 5 or clips.shape[1] != 3 or not clips.is_floating_point():
            raise ValueError(
                f"a network needs clips (b 3 t h w) of floating-point numbers, normalised as network.clip specifies; "
                f"given {tuple(clips.shape)} of {clips.dtype}."
            )
        self._check_size(clips.shape[2], clips.shape[3], clips.shape[4])
        given = self.frames_of(clips) if self.description.takes_frames else clips.float()
        parts = [given] if self.description.any_batch else given.split(1)
        try:
            logits = [self._run(part.contiguous()) for part in parts]
        except Exception as error:  # of any runtime, about sizes: the file itself was loaded
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:300]
            raise FarfieldError(f"{self.path} cannot take clips of {tuple(clips.shape)}: {reason}") from error
        scores = torch.cat(logits)
        if scores.shape != (len(clips), len(self.labels)):  # a graph for one length may return anything for another
            raise FarfieldError(
                f"{self.path} cannot score clips of {clips.shape[2]} frames: its scores have shape "
                f"{tuple(scores.shape)} instead of {(len(clips), len(self.labels))}. Export a checkpoint for clips of "
                f"{clips.shape[2]} frames."
            )
        return scores

    def frames_of(self, clips: Float[Tensor, "b 3 t h w"]) -> UInt8[Tensor, "b t h w c"]:
        """Undo the normalisation: return the uint8 frames from which the clips were made."""
        mean, std = (clips.new_tensor(values).view(3, 1, 1, 1) for values in (self.clip.mean, self.clip.std))
        frames = ((clips * std + mean) * 255).round().clamp(0, 255)
        return frames.to(torch.uint8).permute(0, 2, 3, 4, 1)

    def _check_size(self, t: int, height: int, width: int) -> None:
        """Raise `FarfieldError` if the graph does not accept clips of `t` frames of `height` x `width` pixels."""
        side = self.clip.test_side_px
        if (height, width) != (side, side):
            raise FarfieldError(
                f"{self.path} takes clips of {side} x {side} pixels; given {height} x {width}. Resize or crop the "
                f"clips, or export a checkpoint for clips of {height} x {width} pixels."
            )
        if not self.description.any_length and t != self.clip.num_frames:
            raise FarfieldError(
                f"{self.path} takes clips of exactly {self.clip.num_frames} frames; given {t}. Give "
                f"{self.clip.num_frames} frames, or export a checkpoint for clips of {t} frames."
            )


def load_exported(path: str | Path, *, num_threads: int | None = None, precision: str = "float32") -> ExportedNet:
    """Load a file that `farfield export` wrote.

    Args:
        path: .onnx, .xml (with its .bin beside it) or .pt2 file.
        num_threads: number of threads; None for PyTorch's number of threads. Ignored for .pt2 files, which always use
            PyTorch's number.
        precision: precision of the computation: "float32"; for .xml files also "bfloat16".

    Raises:
        FarfieldError: if the file is missing or damaged, has an unknown suffix, or was not written by farfield; if the
            precision is not supported; or if the runtime is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in LOADERS:
        raise FarfieldError(f"{path} is not an exported network. Known suffixes: {', '.join(LOADERS)}.")
    if not path.is_file():
        raise FarfieldError(f"there is no exported network at {path}. Check the path.")
    if precision not in PRECISIONS[suffix]:
        raise FarfieldError(
            f"{path} supports precision {' or '.join(PRECISIONS[suffix])}; given {precision!r}. Give a supported "
            "precision, or load the checkpoint, which supports every precision."
        )
    text, start = LOADERS[suffix](path, num_threads or torch.get_num_threads(), precision)
    description = read_description(text, path)
    return ExportedNet(description, start(), path)


def _onnx(path: Path, num_threads: int, precision: str) -> tuple[str | None, Callable[[], Run]]:
    with require_packages("onnxruntime"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 4  # errors are raised as exceptions
    session = _read(path, lambda: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))
    return session.get_modelmeta().custom_metadata_map.get(KEY), lambda: _run_onnx(session)


def _run_onnx(session: Any) -> Run:
    name = session.get_inputs()[0].name
    return lambda clips: torch.from_numpy(session.run(None, {name: clips.numpy()})[0])


def _openvino(path: Path, num_threads: int, precision: str) -> tuple[str | None, Callable[[], Run]]:
    with require_packages("openvino"):
        import openvino
    if not path.with_suffix(".bin").is_file():
        raise FarfieldError(
            f"{path} needs its weights, {path.with_suffix('.bin').name}, in the same folder. Copy that file too."
        )
    core = openvino.Core()
    model = _read(path, lambda: core.read_model(path))
    check_weights(model, path)
    place = [KEY, "description"]
    text = str(model.get_rt_info(place).value) if model.has_rt_info(place) else None
    return text, lambda: run_openvino(_read(path, lambda: compile_openvino(model, num_threads, precision)))


def compile_openvino(model: Any, num_threads: int, precision: str = "float32") -> Any:
    """Compile an OpenVINO graph for the CPU. The graph may be changed in place.

    The precision is always set, since OpenVINO uses bfloat16 on some processors by default.
    """
    import openvino

    if precision == "bfloat16" and has_matrix_units():
        make_stem_dense(model)

    properties = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": num_threads,
    }
    with keep_signal_stack():
        return openvino.Core().compile_model(model, "CPU", properties)


def run_openvino(compiled: Any) -> Run:
    request = compiled.create_infer_request()
    return lambda clips: torch.from_numpy(np.array(request.infer([clips.numpy()])[compiled.output(0)]))


def _pt2(path: Path, num_threads: int, precision: str) -> tuple[str | None, Callable[[], Run]]:
    program, text = read_pt2(path)

    def start() -> Run:
        module = program.module()

        @torch.inference_mode()
        def run(clips: Tensor) -> Tensor:
            return module(clips)

        return run

    return text, start


def _read(path: Path, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # of any type, depending on the damage
        reason = " ".join(str(error).split())[:200]
        raise FarfieldError(
            f"{path} cannot be read: it is damaged, or not a {path.suffix} file ({reason}). Export the checkpoint "
            "again."
        ) from error


LOADERS: dict[str, Callable[[Path, int, str], tuple[str | None, Callable[[], Run]]]] = {
    ".onnx": _onnx,
    ".xml": _openvino,
    ".pt2": _pt2,
}
"""For each suffix, the function that reads a file, given (path, number of threads, precision).

It returns the metadata as JSON (None if there is none), and a function that prepares the graph and returns its `Run`.
"""
PRECISIONS = {".onnx": ("float32",), ".xml": ("float32", "bfloat16"), ".pt2": ("float32",)}
"""For each suffix, the precisions that its runtime supports."""
