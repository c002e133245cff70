"""Convert a video encoder with a classifier, saved by Hugging Face's `transformers`, to a farfield network."""

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
    """Convert a model of Hugging Face's `transformers` to a farfield network in evaluation mode.

    Args:
        path: folder that `transformers` saved, or the model's name on huggingface.co.
        labels: class names that replace those in the folder; None keeps them.
        options: conversion options, of which only `clip` may be set; None for no options. By default, the clip settings
            are those of the folder and, where the folder lacks a setting, of the model's paper. `clip` overrides both.

    Raises:
        FarfieldError: if the folder cannot be read, is not of a supported family, or has no classifier, or if an option
            other than `clip` is set.
    """
    options = options or ConversionOptions()
    for each in fields(options):
        if each.name != "clip" and getattr(options, each.name):
            raise FarfieldError(
                f"{each.name} is {getattr(options, each.name)!r}, but the folder {path} already defines the network. "
                f"Leave {each.name} out."
            )
    found = read_hugging_face(path)
    found.require_classifier()
    network = build_network(found, labels=labels, clip=options.clip)
    notes = [f"transformers {found.version} computes the network: pip install 'farfield[hf]'", *found.notes]
    return network, ConversionReport(f"transformers ({found.origin})", found.names, notes=notes)
