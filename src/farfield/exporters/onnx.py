"""Conversion of a traced graph to ONNX."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from farfield.errors import FarfieldError
from farfield.exporters.trace import silence_exporter_logs
from farfield.memory_errors import is_out_of_memory
from farfield.optional_dependencies import require_packages
from farfield.runtimes.metadata import KEY

OPSET = 18
"""ONNX opset version: the default of PyTorch's exporter."""


def onnx_model(program: ExportedProgram, description: str) -> Any:
    """Convert a graph to an ONNX model in memory, and validate it with ONNX's checker.

    Args:
        program: graph from clips to logits.
        description: metadata to store in the model: an `ExportMetadata` as JSON.

    Raises:
        FarfieldError: if a package is missing, or an operator has no counterpart in ONNX.
    """
    with require_packages("onnxscript", "onnx"):
        import onnx
        import onnxscript  # noqa: F401  # PyTorch's exporter is written in it
    try:
        with silence_exporter_logs(), redirect_stdout(io.StringIO()):
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
    except Exception as error:  # the exporter's exceptions are many and undocumented
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).strip().split("\n\n")[0].split())[:300]
        raise FarfieldError(
            f"the network cannot be written as ONNX: {reason} Try .pt2, PyTorch's own format."
        ) from error
    assert made is not None
    model = made.model_proto
    for holder in (model.graph, *model.functions):
        for node in holder.node:  # remove paths and lines of our source code
            del node.metadata_props[:]
            node.doc_string = ""
    onnx.helper.set_model_props(model, {KEY: description})
    onnx.checker.check_model(model)
    return model


def write_onnx(model: Any, path: Path) -> None:
    """Write an ONNX model to one file that includes its weights."""
    path.write_bytes(model.SerializeToString())
