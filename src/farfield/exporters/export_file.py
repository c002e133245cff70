"""Export of a network to a file. The file is kept only if its scores agree with those of the network."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from farfield.atomic_output import atomic_output, refuse_existing
from farfield.errors import FarfieldError
from farfield.exporters.export_metadata import describe_export
from farfield.exporters.export_options import ExportOptions
from farfield.exporters.onnx import OPSET, onnx_model, write_onnx
from farfield.exporters.openvino import openvino_model, with_metadata, write_openvino
from farfield.exporters.parity import BATCHES, ParityDifference, on_random_clips, on_reference_clips, other_lengths
from farfield.exporters.quantization import Accuracy, MultilabelAccuracy, measure_accuracy, quantize
from farfield.exporters.reference_clips import ReferenceClip, spread
from farfield.exporters.trace import Traced, trace
from farfield.models.network import ActionNet
from farfield.runtimes.exported_network import LOADERS, load_exported
from farfield.runtimes.metadata import ExportMetadata
from farfield.runtimes.torch_export_archive import write_pt2


@dataclass(frozen=True)
class ExportReport:
    """Exported file, and its parity with the network.

    Attributes:
        out: path of the file.
        bytes: size of the file in bytes, including the .bin file of an .xml.
        description: metadata stored in the file.
        differences: differences of the float graph from the network, one per compared batch.
        tolerance: the largest accepted difference of a probability. Also the largest accepted difference of a logit,
            divided by the largest absolute logit; for a multilabel network, this divisor is at least 1.
        accuracy: accuracy of the 8-bit network on the compared videos; None for a float network.
        compared_videos: number of videos whose central clips were compared.
        given_videos: number of videos that the user gave.
        notes: limitations of the file, as sentences.
    """

    out: Path
    bytes: int
    description: ExportMetadata
    differences: list[ParityDifference]
    tolerance: float
    accuracy: Accuracy | MultilabelAccuracy | None = None
    compared_videos: int = 0
    given_videos: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def worst(self) -> ParityDifference:
        """Return the largest differences over all batches, and the sum of `decisions` (see `ParityDifference`)."""
        decisions = [each.decisions for each in self.differences if each.decisions is not None]
        return ParityDifference(
            "all",
            0,
            max(each.probabilities for each in self.differences),
            max(each.logits for each in self.differences),
            sum(decisions) if decisions else None,
        )


def export_model(
    network: ActionNet, out: str | Path, options: ExportOptions | None = None, *, clips: Sequence[ReferenceClip] = ()
) -> ExportReport:
    """Export a network to a file in the format that the suffix of `out` names; see `export`.

    The graph takes any batch size if the network allows it, and any clip length if the network allows it.

    Args:
        network: network to export. It is moved to the CPU and put in evaluation mode.
        out: path of the file to write.
        options: options of the graph and the comparison; None for the defaults.
        clips: clips to compare scores on and, with int8, to calibrate the 8-bit ranges on.

    Raises:
        FarfieldError: see `export`.
    """
    out, options = Path(out), options or ExportOptions()
    check_output(out, options, any_clips=bool(clips))
    network.refuse_folded("exported")
    network = network.to("cpu").eval()
    # A transformer's graph for any length is right at one length only, and takes ONNX's optimiser over 10 times longer.
    reason = "" if network.backbone.stage_specs else "a transformer's windows or positions are for this length"
    if not reason:
        try:
            return _attempt(network, out, options, clips, any_length=True)
        except _FixedLengthOnlyError as error:
            reason = str(error)
    report = _attempt(network, out, options, clips, any_length=False)
    report.notes.insert(0, f"the file takes only clips of {network.clip.num_frames} frames: {reason}.")
    return report


def check_output(out: Path, options: ExportOptions, *, any_clips: bool) -> None:
    """Check the output path and the options before anything is read or computed.

    Raises:
        FarfieldError: if the file exists, its suffix is unknown, or int8 is requested without clips or for a suffix
            other than .xml.
    """
    if out.suffix not in LOADERS:
        raise FarfieldError(
            f"{out} has no suffix of an export format: {', '.join(LOADERS)}. Give one of these. To write a "
            "folder for publishing, set to_folder."
        )
    if options.int8 and out.suffix != ".xml":
        raise FarfieldError(f"int8 is for OpenVINO only, but out is {out}. Give a file that ends in .xml.")
    if options.int8 and not any_clips:
        raise FarfieldError("int8 needs clips to calibrate on and to measure the accuracy on. Give clips.")
    refuse_existing(out, *([out.with_suffix(".bin")] if out.suffix == ".xml" else []))


class _FixedLengthOnlyError(Exception):
    """Raised if an export with a dynamic clip length fails; an export with a fixed length may still succeed."""


def _attempt(
    network: ActionNet, out: Path, options: ExportOptions, clips: Sequence[ReferenceClip], *, any_length: bool
) -> ExportReport:
    compared = [clips[i] for i in spread(len(clips), options.num_compare_clips)]
    traced = trace(network, takes_frames=options.include_preprocessing, any_length=any_length)
    if any_length and not traced.any_length:
        raise _FixedLengthOnlyError("a layer of the network was built for this number of frames")
    lengths = other_lengths(network.clip.num_frames) if traced.any_length else []
    with atomic_output(out) as partial, tempfile.TemporaryDirectory() as elsewhere:
        # OpenVINO keeps reading the float graph's weights from its file while the 8-bit ones are written.
        written = Path(elsewhere, out.name) if options.int8 else partial
        description = _write(network, traced, written)
        exported = load_exported(written)
        differences = _compare(network, exported, lengths, options.tolerance)
        differences += on_reference_clips(network, exported, compared)
        _check_parity(differences, options.tolerance, out)
        accuracy = None
        if options.int8:
            description = describe_export(network, traced, opset=OPSET, int8=True)
            calibration = [clips[i] for i in spread(len(clips), options.num_calibration_clips)]
            model = quantize(written, network.clip, options.include_preprocessing, calibration)
            write_openvino(with_metadata(model, description.to_json()), partial)
            accuracy = measure_accuracy(network, load_exported(partial), compared)
        size = sum(each.stat().st_size for each in partial.parent.iterdir())
    return ExportReport(out, size, description, differences, options.tolerance, accuracy, len(compared), len(clips))


def _compare(network: ActionNet, exported: Any, lengths: Sequence[int], tolerance: float) -> list[ParityDifference]:
    """Compare the exported graph with the network on random clips.

    Args:
        network: the original network.
        exported: the exported graph.
        lengths: clip lengths to compare at after the network's own length; empty for a graph of one fixed length.
        tolerance: see `ExportReport.tolerance`.

    Raises:
        FarfieldError: if `lengths` is empty and the graph cannot be run.
        _FixedLengthOnlyError: if `lengths` is not empty, in any of three cases: the graph cannot be run, its scores at
            another length differ by more than `tolerance`, or the network accepts none of `lengths`.
    """
    compared = on_random_clips(network, exported, lengths)
    try:
        own = list(islice(compared, len(BATCHES)))
    except FarfieldError as error:
        if not lengths:
            raise
        raise _FixedLengthOnlyError("the graph that takes any number of frames cannot be run") from error
    if not lengths or not all(each.within(tolerance) for each in own):
        return own
    try:
        others = list(compared)
    except FarfieldError as error:
        raise _FixedLengthOnlyError("the graph fails at other lengths") from error
    if not others:
        raise _FixedLengthOnlyError("the network accepts only this length")
    if not all(each.within(tolerance) for each in others):
        raise _FixedLengthOnlyError("the graph's scores are wrong at other lengths")
    return own + others


def _write(network: ActionNet, traced: Traced, path: Path) -> ExportMetadata:
    if path.suffix == ".pt2":
        description = describe_export(network, traced, opset=None)
        write_pt2(traced.program, description.to_json(), path)
        return description
    description = describe_export(network, traced, opset=OPSET)
    model = onnx_model(traced.program, description.to_json())
    if path.suffix == ".onnx":
        write_onnx(model, path)
    else:
        write_openvino(openvino_model(model, description.to_json()), path)
    return description


def _check_parity(differences: Sequence[ParityDifference], tolerance: float, out: Path) -> None:
    for each in differences:
        if not each.within(tolerance):
            raise FarfieldError(
                f"{out} was not written: on {each.clips}, the exported probabilities differ from the network's by "
                f"up to {each.probabilities:.1e}, and the logits by up to {each.logits:.1e} of the largest logit; "
                f"the tolerance is {tolerance:g}. Raise tolerance if this is accurate enough."
            )
