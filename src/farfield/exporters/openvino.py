"""Conversion of an ONNX model to OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farfield.errors import FarfieldError
from farfield.optional_dependencies import require_packages
from farfield.runtimes.metadata import KEY
from farfield.runtimes.openvino_weights import FINGERPRINT, fingerprint


def openvino_model(model: Any, description: str) -> Any:
    """Convert an ONNX model to an OpenVINO model with metadata.

    Args:
        model: ONNX model.
        description: metadata to store in the model: an `ExportMetadata` as JSON.

    Raises:
        FarfieldError: if OpenVINO is not installed, or rejects an operator of the model.
    """
    with require_packages("openvino"):
        import openvino
    try:
        converted = openvino.Core().read_model(model.SerializeToString())
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        reason = reason[reason.find("While validating") :][:200] if "While validating" in reason else reason[-200:]
        raise FarfieldError(
            f"OpenVINO cannot convert the network. Export it as .onnx instead. OpenVINO's message ends: {reason}"
        ) from error
    return with_metadata(converted, description)


def with_metadata(model: Any, description: str) -> Any:
    """Set an OpenVINO model's metadata, replacing any that it has, and return the model.

    Args:
        model: OpenVINO model.
        description: an `ExportMetadata` as JSON.
    """
    model.set_rt_info(description, [KEY, "description"])
    return model


def write_openvino(model: Any, path: Path) -> None:
    """Write an OpenVINO model as .xml, with its weights in a .bin file beside it, without changing their precision.

    The .xml holds a fingerprint of the .bin, by which `runtimes.openvino_weights` knows that they belong together.
    """
    import openvino

    openvino.save_model(model, path, compress_to_fp16=False)
    model.set_rt_info(fingerprint(path.with_suffix(".bin")), FINGERPRINT)
    openvino.save_model(model, path, compress_to_fp16=False)
