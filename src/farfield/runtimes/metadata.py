"""What an exported file says of itself: all that is needed to use it, as JSON inside the file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError
from farfield.untrusted_json import JsonError, parse_json

FORMAT = 1
KEY = "farfield"
"""The description's name in the file: ONNX's metadata, OpenVINO's rt_info, an extra file of PyTorch's archive."""


@dataclass(frozen=True)
class ExportMetadata:
    """What an exported network is.

    Attributes:
        labels: class names, in the order of the scores.
        clip: what the network wants of a clip; its height and width are `clip.test_side_px`.
        model: the arguments of `build_model` of the network that it was.
        takes_frames: its input are uint8 RGB frames (b t h w c); else normalised clips (b 3 t h w).
        any_batch: the input's first axis may have any length; else it is 1.
        any_length: the axis of time may have any length that the network takes; else it is `clip.num_frames`.
        int8: weights and activations have 8 bits.
        opset: of ONNX, which OpenVINO's come from, too; None for PyTorch's.
        farfield: the version that wrote it.
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

    @property
    def input(self) -> str:
        """The input's axes, for people: "float32 b 3 8 224 224", with letters for those that may have any length."""
        side = self.clip.test_side_px
        b, t = "b" if self.any_batch else 1, "t" if self.any_length else self.clip.num_frames
        return f"uint8 {b} {t} {side} {side} 3" if self.takes_frames else f"float32 {b} 3 {t} {side} {side}"

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self), "clip": self.clip.to_dict()})


def read_description(text: str | None, path: Path) -> ExportMetadata:
    """Reads what `to_json` wrote, checking every value.

    Raises:
        FarfieldError: for none, or one that is damaged or of another format.
    """
    if not text:
        raise FarfieldError(
            f"{path} does not say which labels and clips its network has: farfield export did not write it. "
            "Export the checkpoint again."
        )
    damaged = f"{path} describes its network in a way that this version cannot read"
    try:
        values = parse_json(text)
    except JsonError as error:
        raise FarfieldError(f"{damaged}: {error}.") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise FarfieldError(f"{damaged}: this version reads format {FORMAT}.")
    for name in ("takes_frames", "any_batch", "any_length", "int8"):
        if not isinstance(values.get(name), bool):
            raise FarfieldError(f"{damaged}: {name} is {values.get(name)!r}.")
    labels = values.get("labels")
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        raise FarfieldError(f"{damaged}: labels are no list of names.")
    try:
        return ExportMetadata(**{**values, "clip": ClipSpec.from_dict(values["clip"])})
    except FarfieldError as error:
        raise FarfieldError(f"{damaged}: {error}") from error
    except (TypeError, KeyError, ValueError) as error:
        raise FarfieldError(f"{damaged}: settings are missing, surplus, or of other types.") from error
