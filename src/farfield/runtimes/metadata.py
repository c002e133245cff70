"""Metadata of exported files, stored inside them as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError
from farfield.models.operating_point import OPERATING_POINTS
from farfield.task import DEFAULT_TASK, Task, least_classes
from farfield.untrusted_json import JsonError, parse_json

FORMAT = 1
KEY = "farfield"
"""Name of the entry that holds this metadata in ONNX's metadata_props, OpenVINO's rt_info and PyTorch's extra files."""


@dataclass(frozen=True)
class ExportMetadata:
    """Metadata of an exported network.

    Attributes:
        labels: class names, in the order of the scores.
        clip: sampling, size and normalisation of the input. The input is `clip.test_side_px` pixels high and wide.
        model: `NetworkOptions` of the exported network, as a dict.
        takes_frames: whether the input is uint8 RGB frames (b t h w c) instead of normalised clips (b 3 t h w).
        any_batch: whether the graph accepts any batch size; otherwise only 1.
        any_length: whether the graph accepts every number of frames that the network accepts; otherwise only
            `clip.num_frames`.
        int8: whether weights and activations are quantised to 8 bits.
        opset: ONNX opset of .onnx files and of .xml files, which are converted from ONNX; None for .pt2 files.
        farfield: version of farfield that wrote the file.
        operating_point: `OperatingPoint` for videos and clips, as a dict; None if no thresholds were chosen.
        timeline_operating_point: `OperatingPoint` for timelines, as a dict; None if no thresholds were chosen.
    """

    labels: list[str]
    clip: ClipSpec
    model: dict[str, Any]
    takes_frames: bool
    any_batch: bool
    any_length: bool
    int8: bool
    opset: int | None
    farfield: str
    operating_point: dict[str, Any] | None = None
    timeline_operating_point: dict[str, Any] | None = None

    @property
    def task(self) -> Task:
        """Task of the network. Files of early versions do not name the task; it is then "single_label"."""
        return self.model.get("task", DEFAULT_TASK)

    @property
    def input(self) -> str:
        """Type and shape of the input, for display, such as "float32 b 3 8 224 224". A letter stands for any size."""
        side = self.clip.test_side_px
        b, t = "b" if self.any_batch else 1, "t" if self.any_length else self.clip.num_frames
        return f"uint8 {b} {t} {side} {side} 3" if self.takes_frames else f"float32 {b} 3 {t} {side} {side}"

    def to_json(self) -> str:
        """Serialise the metadata."""
        content = {"format": FORMAT, **asdict(self), "clip": self.clip.to_dict()}
        for name in OPERATING_POINTS:
            if content[name] is None:
                del content[name]  # unknown to earlier versions, which can read the file without it
        return json.dumps(content)


def read_description(text: str | None, path: Path) -> ExportMetadata:
    """Parse and check the metadata that `ExportMetadata.to_json` wrote.

    Raises:
        FarfieldError: if the metadata is missing, damaged or of another format version.
    """
    again = "Export the checkpoint again."
    if not text:
        raise FarfieldError(
            f"{path} was not written by farfield export: it has no metadata with labels and clip settings. {again}"
        )
    damaged = f"{path} has metadata that this version of farfield cannot read"
    try:
        values = parse_json(text)
    except JsonError as error:
        raise FarfieldError(f"{damaged}: {error}. {again}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise FarfieldError(f"{damaged}: 'format' is not {FORMAT}. {again}")
    for name in ("takes_frames", "any_batch", "any_length", "int8"):
        if not isinstance(values.get(name), bool):
            raise FarfieldError(f"{damaged}: '{name}' is {values.get(name)!r}, not a boolean. {again}")
    labels = values.get("labels")
    model = values.get("model")
    task: Any = model.get("task", DEFAULT_TASK) if isinstance(model, dict) else None
    if task not in get_args(Task):
        raise FarfieldError(f"{damaged}: 'model' is not a dict with a known task. {again}")
    least = least_classes(task)
    if not isinstance(labels, list) or len(labels) < least or not all(isinstance(label, str) for label in labels):
        raise FarfieldError(f"{damaged}: 'labels' is not a list of {least} or more strings. {again}")
    try:
        return ExportMetadata(**{**values, "clip": ClipSpec.from_dict(values["clip"])})
    except FarfieldError as error:
        raise FarfieldError(f"{damaged}: {error} {again}") from error
    except (TypeError, KeyError, ValueError) as error:
        raise FarfieldError(f"{damaged}: fields are missing, unknown, or of the wrong type. {again}") from error
