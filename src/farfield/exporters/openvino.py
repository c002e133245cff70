"""Convert a graph to OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farfield.errors import FarfieldError
from farfield.optional_dependencies import require_packages
from farfield.runtimes.metadata import KEY


def openvino_model(model: Any, description: str) -> Any:
    """ONNX as OpenVINO's graph.

    Raises:
        FarfieldError: where OpenVINO is missing, or reads an operator otherwise than ONNX means it.
    """
    with require_packages("openvino"):
        import openvino
    try:
        converted = openvino.Core().read_model(model.SerializeToString())
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        reason = reason[reason.find("While validating") :][:200] if "While validating" in reason else reason[-200:]
        raise FarfieldError(f"OpenVINO cannot take the network: {reason} Export it as .onnx.") from error
    return described(converted, description)


def described(model: Any, description: str) -> Any:
    """OpenVINO's graph with its description, in place of the one that it had."""
    model.set_rt_info(description, [KEY, "description"])
    return model


def write_openvino(model: Any, path: Path) -> None:
    """Writes the graph as .xml, and its weights beside it as .bin, in the precision that they have."""
    import openvino

    openvino.save_model(model, path, compress_to_fp16=False)
