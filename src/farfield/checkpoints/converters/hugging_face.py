"""Convert a video encoder that Hugging Face's `transformers` saved, with its classifier, to a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.checkpoints.converters.convert_file import ConversionReport
from farfield.checkpoints.hugging_face import build_network, read_hugging_face
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet


def convert_hugging_face(
    path: str | Path, *, labels: Sequence[str] | None = None, options: ConversionOptions | None = None
) -> tuple[ActionNet, ConversionReport]:
    """Convert a folder of `transformers`, or a model on huggingface.co, to a network in evaluation mode.

    Args:
        path: the folder, or the model's name on huggingface.co.
        labels: class names in place of the folder's.
        options: `clip` overrides settings of the folder and of the publication. All other options do not apply. None
            for no options.

    Raises:
        FarfieldError: if the folder cannot be read, is not of a supported family, or has no classifier, or if an option
            does not apply.
    """
    options = options or ConversionOptions()
    for each in fields(options):
        if each.name != "clip" and getattr(options, each.name):
            raise FarfieldError(
                f"{each.name} is {getattr(options, each.name)!r}, but the folder {path} defines its network. Leave "
                f"{each.name} out."
            )
    found = read_hugging_face(path)
    found.require_classifier()
    network = build_network(found, labels=labels, clip=options.clip)
    notes = [f"transformers {found.version} computes the network: pip install 'farfield[hf]'", *found.notes]
    return network, ConversionReport(f"transformers ({found.origin})", found.names, notes=notes)
