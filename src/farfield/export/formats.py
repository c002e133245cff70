"""The files that a graph is written to. Each holds its description, and is for a runtime of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from farfield.errors import FarfieldError
from farfield.export.description import KEY
from farfield.export.pt2 import write_pt2
from farfield.export.trace import quiet

OPSET = 18
"""Of ONNX: the one that PyTorch's exporter writes by itself."""

RUNTIMES = {
    "onnxruntime": "export",
    "onnx": "export",
    "onnxscript": "export",
    "openvino": "openvino",
    "nncf": "openvino",
}
"""The packages that write and run exported files, and the extra of farfield's that brings each."""


@contextmanager
def needs(*packages: str) -> Iterator[None]:
    """Says which extra is missing where an import fails.

    Raises:
        FarfieldError: in place of the import's error.
    """
    try:
        yield
    except ImportError as error:
        missing = next((name for name in packages if name in str(error)), packages[0])
        raise FarfieldError(
            f'this needs the package {missing}, which is not installed: pip install "farfield[{RUNTIMES[missing]}]"'
        ) from error


def onnx_model(program: ExportedProgram, description: str) -> Any:
    """A graph as ONNX, in memory, checked by ONNX's own rules.

    Raises:
        FarfieldError: where a package is missing, or an operator has no counterpart in ONNX.
    """
    with needs("onnxscript", "onnx"):
        import onnx
        import onnxscript  # noqa: F401  # PyTorch's exporter is written in it
    try:
        with quiet(), redirect_stdout(io.StringIO()):
            made = torch.onnx.export(
                program,
                (),
                dynamo=True,
                input_names=["clips"],
                output_names=["logits"],
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # whatever the exporter met in the graph
        reason = " ".join(str(error).strip().split("\n\n")[0].split())[:300]
        raise FarfieldError(
            f"the network cannot be written as ONNX: {reason} Try .pt2, PyTorch's own format."
        ) from error
    assert made is not None
    model = made.model_proto
    for holder in (model.graph, *model.functions):
        for node in holder.node:  # without the places of our source in them
            del node.metadata_props[:]
            node.doc_string = ""
    onnx.helper.set_model_props(model, {KEY: description})
    onnx.checker.check_model(model)
    return model


def write_onnx(model: Any, path: Path) -> None:
    """Writes one file with its weights inside."""
    path.write_bytes(model.SerializeToString())


def openvino_model(model: Any, description: str) -> Any:
    """ONNX as OpenVINO's graph.

    Raises:
        FarfieldError: where OpenVINO is missing, or reads an operator otherwise than ONNX means it.
    """
    with needs("openvino"):
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


__all__ = ["OPSET", "described", "needs", "onnx_model", "openvino_model", "write_onnx", "write_openvino", "write_pt2"]
