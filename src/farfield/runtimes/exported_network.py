"""Exported files, run: the same to whoever calls as the network itself.

    .onnx   onnxruntime        .xml (and .bin)   OpenVINO        .pt2   PyTorch

All run on the CPU, in float32 unless the file has 8 bits or OpenVINO is asked for bfloat16, and execute no code from
the file but its graph.
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
from farfield.optional_dependencies import require_packages
from farfield.runtimes.dense_stem import make_stem_dense
from farfield.runtimes.metadata import KEY, ExportMetadata, read_description
from farfield.runtimes.signal_stack import keep_signal_stack
from farfield.runtimes.torch_export_archive import read_pt2

Run = Callable[[Tensor], Tensor]
"""The graph's input to logits."""


class ExportedNet:
    """An exported network. Made by `load_exported`; to its callers what an `ActionNet` in evaluation mode is.

    Attributes:
        labels: class names, in the order of the scores.
        clip: what the network wants of a clip.
        config: the arguments of `build_model` of the network that was exported.
        description: all that the file says of itself.
        device: the CPU.
        dtype: of the clips that it takes, whatever it computes in.
    """

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, description: ExportMetadata, run: Run, path: Path) -> None:
        self.description = description
        self.labels = description.labels
        self.clip = description.clip
        self.config = description.model
        self.path = path
        self._run = run

    def eval(self) -> ExportedNet:
        """Itself: there is no other mode."""
        return self

    def __call__(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b classes"]:
        """Scores clips that are normalised as `clip` says; `softmax(-1)` makes them class probabilities.

        A file with the normalisation inside gets the frames that the clips were made of, exactly.

        Raises:
            FarfieldError: for clips of a size that the file does not take.
        """
        if clips.ndim != 5 or clips.shape[1] != 3 or not clips.is_floating_point():
            raise ValueError(
                f"a network needs clips (b 3 t h w) of floating-point numbers, normalised as network.clip says; given "
                f"{tuple(clips.shape)} of {clips.dtype}."
            )
        self._check_size(clips.shape[2], clips.shape[3], clips.shape[4])
        given = self.frames_of(clips) if self.description.takes_frames else clips.float()
        parts = [given] if self.description.any_batch else given.split(1)
        try:
            logits = [self._run(part.contiguous()) for part in parts]
        except MemoryError:
            raise
        except Exception as error:  # the runtimes', about sizes: the file itself has been read
            reason = " ".join(str(error).split())[:300]
            raise FarfieldError(f"{self.path} cannot take clips of {tuple(clips.shape)}: {reason}") from error
        scores = torch.cat(logits)
        if scores.shape != (len(clips), len(self.labels)):  # a graph of one length gives anything at another
            raise FarfieldError(f"{self.path} gives {tuple(scores.shape)} scores for clips of {tuple(clips.shape)}.")
        return scores

    def frames_of(self, clips: Float[Tensor, "b 3 t h w"]) -> UInt8[Tensor, "b t h w c"]:
        """The frames that normalised to these clips."""
        mean, std = (clips.new_tensor(values).view(3, 1, 1, 1) for values in (self.clip.mean, self.clip.std))
        frames = ((clips * std + mean) * 255).round().clamp(0, 255)
        return frames.to(torch.uint8).permute(0, 2, 3, 4, 1)

    def _check_size(self, t: int, height: int, width: int) -> None:
        side = self.clip.test_side_px
        if (height, width) != (side, side):
            raise FarfieldError(
                f"{self.path} takes clips of {side} x {side} pixels; given {height} x {width}. Export the checkpoint "
                "with the size that you need."
            )
        if not self.description.any_length and t != self.clip.num_frames:
            raise FarfieldError(
                f"{self.path} takes clips of {self.clip.num_frames} frames, no more and no less; given {t}. "
                "Give as many, or export a checkpoint of that length."
            )


def load_exported(path: str | Path, *, num_threads: int | None = None, precision: str = "float32") -> ExportedNet:
    """Reads a file that `farfield export` wrote.

    Args:
        path: .onnx, .xml (its .bin beside it) or .pt2.
        num_threads: of the runtime; None for as many as PyTorch has. A .pt2 runs with PyTorch's.
        precision: what it computes in: "float32", or for .xml "bfloat16".

    Raises:
        FarfieldError: for a file that is missing, damaged, of another kind or not written by farfield; a precision that
            it cannot have; or where the package that runs it is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in LOADERS:
        raise FarfieldError(f"{path} is no exported network. Known: {', '.join(LOADERS)}.")
    if not path.is_file():
        raise FarfieldError(f"there is no exported network at {path}.")
    if precision not in PRECISIONS[suffix]:
        raise FarfieldError(
            f"{path} computes in {' or '.join(PRECISIONS[suffix])}; precision is {precision!r}. A checkpoint can "
            "be run in any."
        )
    text, start = LOADERS[suffix](path, num_threads or torch.get_num_threads(), precision)
    description = read_description(text, path)
    return ExportedNet(description, start(), path)


def _onnx(path: Path, num_threads: int, precision: str) -> tuple[str | None, Callable[[], Run]]:
    with require_packages("onnxruntime"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 4  # what is wrong comes as an exception
    session = _read(path, lambda: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))
    return session.get_modelmeta().custom_metadata_map.get(KEY), lambda: _run_onnx(session)


def _run_onnx(session: Any) -> Run:
    name = session.get_inputs()[0].name
    return lambda clips: torch.from_numpy(session.run(None, {name: clips.numpy()})[0])


def _openvino(path: Path, num_threads: int, precision: str) -> tuple[str | None, Callable[[], Run]]:
    with require_packages("openvino"):
        import openvino
    if not path.with_suffix(".bin").is_file():
        raise FarfieldError(f"{path} has its weights in {path.with_suffix('.bin').name}, which is not beside it.")
    core = openvino.Core()
    model = _read(path, lambda: core.read_model(path))
    place = [KEY, "description"]
    text = str(model.get_rt_info(place).value) if model.has_rt_info(place) else None
    return text, lambda: run_openvino(_read(path, lambda: compile_openvino(model, num_threads, precision)))


def compile_openvino(model: Any, num_threads: int, precision: str = "float32") -> Any:
    """A graph of OpenVINO's, ready to run; the one given may change. Unasked, some machines would take bfloat16."""
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
    except Exception as error:  # whatever the runtime meets in a damaged file
        reason = " ".join(str(error).split())[:200]
        raise FarfieldError(f"{path} cannot be read: it is damaged, or of another kind ({reason}).") from error


LOADERS: dict[str, Callable[[Path, int, str], tuple[str | None, Callable[[], Run]]]] = {
    ".onnx": _onnx,
    ".xml": _openvino,
    ".pt2": _pt2,
}
"""Suffix to what reads the file: its description, and what starts its graph."""
PRECISIONS = {".onnx": ("float32",), ".xml": ("float32", "bfloat16"), ".pt2": ("float32",)}
"""Suffix to what its runtime can compute in."""
