"""Networks to run, from whatever file holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.checkpoints.checkpoint import load_network
from farfield.clip_spec import ClipSpec
from farfield.device import find_device
from farfield.errors import FarfieldError, nearest
from farfield.precision import Precision


class InferenceModel(Protocol):
    """What inference needs of a network: a checkpoint's and an exported one alike."""

    labels: list[str]
    clip: ClipSpec

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def eval(self) -> Any: ...

    def __call__(self, clips: Float[Tensor, "b 3 t h w"], /) -> Float[Tensor, "b classes"]: ...


EXPORTED_SUFFIXES = (".onnx", ".xml", ".pt2")


def load_model(path: str | Path, *, device: str = "auto", precision: Precision = "float32") -> InferenceModel:
    """Loads a network to run it: a checkpoint, a published folder, or an exported file.

    A checkpoint's batch norms are folded into its convolutions: the same scores, to rounding, in less time.

    Args:
        path: .ckpt, a folder that `farfield export` wrote, .onnx, .xml (OpenVINO) or .pt2 (torch.export).
        device: auto, cpu, cuda, cuda:1, ...
        precision: of weights and features. "bfloat16" keeps 3 digits of each number and is about twice as fast on
            processors that have it (GPUs since Ampere, AVX512-BF16, AMX); "float16" is for GPUs. An exported file
            computes in float32, but for OpenVINO's, which can do "bfloat16".

    Raises:
        FarfieldError: for a file that cannot be read, a device that is not there, an exported network elsewhere than
            on the CPU, or a precision that it cannot have.
    """
    if precision not in get_args(Precision):
        raise FarfieldError(f"precision is {precision!r}. {nearest(precision, get_args(Precision))}")
    chosen = find_device(device)
    if Path(path).suffix.lower() in EXPORTED_SUFFIXES and not Path(path).is_dir():
        from farfield.runtimes.exported_network import load_exported  # late: an extra

        if device not in ("auto", "cpu"):
            raise FarfieldError(f"{path} runs on the CPU; device is {device!r}. Give its checkpoint to run it there.")
        return load_exported(Path(path), precision=precision)
    from farfield.models.inference_optimization import optimize_for_inference

    return optimize_for_inference(load_network(path).to(chosen), getattr(torch, precision))
