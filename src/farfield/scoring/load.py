"""Load a network from a checkpoint, a hub folder or an exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol, get_args, overload

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.argument_types import checked_arguments
from farfield.checkpoints.checkpoint import EXPORTED_SUFFIXES, load_network
from farfield.clip_spec import ClipSpec
from farfield.device import find_device
from farfield.errors import FarfieldError, nearest
from farfield.models.inference_optimization import optimize_for_inference
from farfield.models.network import ActionNet
from farfield.models.operating_point import OperatingPoint
from farfield.precision import Precision
from farfield.task import Task


class InferenceModel(Protocol):
    """Inference interface of all networks, whether loaded from a checkpoint or from an exported file."""

    labels: list[str]
    clip: ClipSpec
    config: dict[str, Any]
    operating_point: OperatingPoint | None
    timeline_operating_point: OperatingPoint | None

    @property
    def task(self) -> Task: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def eval(self) -> Any: ...

    def __call__(self, clips: Float[Tensor, "b 3 t h w"], /) -> Float[Tensor, "b classes"]: ...


@overload
def load_model(path: str | Path, *, for_training: Literal[True], device: str = "auto") -> ActionNet: ...
@overload
def load_model(
    path: str | Path, *, device: str = "auto", precision: Precision = "float32", for_training: bool = False
) -> InferenceModel: ...
@checked_arguments
def load_model(
    path: str | Path, *, device: str = "auto", precision: Precision = "float32", for_training: bool = False
) -> InferenceModel:
    """Load a network, by default optimised for inference.

    To save time, the optimisation folds a checkpoint's batch norms into its convolutions. This changes scores by
    rounding only. The optimised network can be neither trained nor saved.

    Args:
        path: a .ckpt file, a folder written by `farfield export --to_folder`, or an exported .onnx, .xml (OpenVINO) or
            .pt2 (torch.export) file.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
        precision: number format of weights and features. "bfloat16" has about 3 significant digits, and is about twice
            as fast on processors that support it (GPUs since Ampere, CPUs with AVX512-BF16 or AMX). "float16" is for
            GPUs. Exported files support only "float32", except that OpenVINO's .xml files also support "bfloat16".
        for_training: whether to return the network without the optimisation, as an `ActionNet` that can be trained,
            saved, converted and exported.

    Raises:
        FarfieldError: if the file cannot be read, the device does not exist, or the file cannot be used with this
            device, with this precision or for training.

    Example:
        >>> from farfield import build_model, load_model, save_model
        >>> save_model(build_model("tiny", num_classes=4), "tiny.ckpt")
        >>> load_model("tiny.ckpt").labels
        ['0', '1', '2', '3']
    """
    if precision not in get_args(Precision):
        raise FarfieldError(f"precision is {precision!r}. {nearest(precision, get_args(Precision))}")
    chosen = find_device(device)
    if is_exported(path):
        from farfield.runtimes.exported_network import load_exported  # late: needs an extra

        if for_training:
            raise FarfieldError(f"{path} is an exported network, which cannot be trained. Give the checkpoint.")
        if device not in ("auto", "cpu"):
            raise FarfieldError(
                f"device is {device!r}, but {path} is an exported network, which runs on the CPU only. Leave device "
                "out, or give the checkpoint instead."
            )
        return load_exported(Path(path), precision=precision)
    network = load_network(path).to(chosen)
    if not for_training:
        return optimize_for_inference(network, getattr(torch, precision), in_place=True)  # nothing else uses it
    if precision != "float32":
        raise FarfieldError(
            f"precision is {precision!r}; with for_training=True it must be 'float32'. Leave precision out."
        )
    return network


def is_exported(path: str | Path) -> bool:
    """Return whether a path has the suffix of an exported file (.onnx, .xml or .pt2) and is not a folder."""
    return Path(path).suffix.lower() in EXPORTED_SUFFIXES and not Path(path).is_dir()
