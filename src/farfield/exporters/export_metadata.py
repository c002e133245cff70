"""Metadata of an exported network."""

from __future__ import annotations

from importlib.metadata import version

from farfield.exporters.trace import Traced
from farfield.models.network import ActionNet
from farfield.models.operating_point import operating_points_to_dict
from farfield.runtimes.metadata import ExportMetadata


def describe_export(network: ActionNet, traced: Traced, *, opset: int | None, int8: bool = False) -> ExportMetadata:
    """Collect the metadata that an exported file stores about its network and graph.

    Args:
        network: the exported network.
        traced: its graph.
        opset: ONNX opset that the graph was converted with; None for a .pt2 file.
        int8: whether the graph is quantised to 8 bits.
    """
    return ExportMetadata(
        labels=list(network.labels),
        clip=network.clip,
        model=network.config,
        takes_frames=traced.takes_frames,
        any_batch=traced.any_batch,
        any_length=traced.any_length,
        int8=int8,
        opset=opset,
        farfield=version("farfield"),
        **operating_points_to_dict(network),
    )
