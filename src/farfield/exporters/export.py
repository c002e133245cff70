"""A network to a file for other programs, compared with the network before the file counts."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from farfield.atomic_output import atomic_output, refuse_existing
from farfield.errors import FarfieldError
from farfield.exporters.describe_export import describe_export
from farfield.exporters.onnx import OPSET, onnx_model, write_onnx
from farfield.exporters.openvino import described, openvino_model, write_openvino
from farfield.exporters.parity import (
    BATCHES,
    ParityDifference,
    ParityVideo,
    on_random_clips,
    on_videos,
    other_lengths,
    spread,
)
from farfield.exporters.quantization import Accuracy, measure_accuracy, quantize
from farfield.exporters.trace import Traced, trace
from farfield.models.network import ActionNet
from farfield.runtimes.exported_network import LOADERS, load_exported
from farfield.runtimes.metadata import ExportMetadata
from farfield.runtimes.torch_export_archive import write_pt2

TOLERANCE = 1e-4

COMPARE_CLIPS = 64
"""Clips of a collection to compare on, unless told otherwise: a wrong graph shows on the first, a rare input on few."""


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares with the network.

    Attributes:
        out: the file.
        bytes: of it, with the file of its weights where they are apart.
        description: what the file says of itself.
        differences: of the float graph, on every batch that was compared.
        tolerance: that they are within.
        accuracy: of the 8-bit network, on the videos that were compared on; None for a float one.
        compared_videos: how many of the videos given were compared on.
        given_videos: how many were given.
        notes: what a user should know.
    """

    out: Path
    bytes: int
    description: ExportMetadata
    differences: list[ParityDifference]
    tolerance: float
    accuracy: Accuracy | None = None
    compared_videos: int = 0
    given_videos: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def worst(self) -> ParityDifference:
        """The largest of each difference, over all batches."""
        return ParityDifference(
            "all",
            0,
            max(each.probabilities for each in self.differences),
            max(each.logits for each in self.differences),
        )


def export_model(
    network: ActionNet,
    out: str | Path,
    *,
    include_preprocessing: bool = False,
    int8: bool = False,
    videos: Sequence[ParityVideo] = (),
    num_calibration_clips: int = 128,
    num_compare_clips: int = COMPARE_CLIPS,
    tolerance: float = TOLERANCE,
) -> ExportReport:
    """Writes a network for another runtime: ONNX (.onnx), OpenVINO (.xml) or PyTorch's torch.export (.pt2).

    The graph takes any number of clips, and clips of any length where the network has no say in it. It is run in its
    runtime and compared with the network, on random clips and on those of the videos; only then does the file appear.

    Args:
        network: on the CPU; it is put in evaluation mode.
        out: the file, which must not exist.
        include_preprocessing: the graph takes uint8 RGB frames (b t h w c) and normalises them itself.
        int8: weights and activations of 8 bits, calibrated on the videos. OpenVINO's only.
        videos: of which some central clips are compared on, too.
        num_calibration_clips: at most so many of the videos, spread evenly over them, choose the 8 bits' ranges.
        num_compare_clips: at most so many of the videos, spread evenly over them, are compared on, and tell what 8 bits
            cost.
        tolerance: the largest difference of a probability, and of a logit relative to the largest, that is accepted.
            An 8-bit network is measured instead; its float graph is held to the tolerance.

    Raises:
        FarfieldError: for a file that exists, a suffix without a format, a network that has no graph, a missing
            package, or differences above the tolerance. Nothing is left behind.
    """
    out = Path(out)
    check_options(
        out,
        int8=int8,
        any_clips=bool(videos),
        num_calibration_clips=num_calibration_clips,
        num_compare_clips=num_compare_clips,
        tolerance=tolerance,
    )
    network = network.to("cpu").eval()
    attempt = functools.partial(
        _attempt,
        network,
        out,
        takes_frames=include_preprocessing,
        int8=int8,
        videos=videos,
        num_calibration_clips=num_calibration_clips,
        num_compare_clips=num_compare_clips,
        tolerance=tolerance,
    )
    # A transformer's graph for any length takes ONNX's optimiser more than ten times as long, and holds for one.
    why_one = "" if network.backbone.stage_specs else "a transformer's windows or positions are made for it"
    if not why_one:
        try:
            return attempt(any_length=True)
        except _HoldsForOneLength as reason:
            why_one = str(reason)
    report = attempt(any_length=False)
    report.notes.insert(0, f"only clips of {network.clip.num_frames} frames: {why_one}.")
    return report


def check_options(
    out: Path, *, int8: bool, any_clips: bool, num_calibration_clips: int, num_compare_clips: int, tolerance: float
) -> None:
    """Refuses what makes no sense, before anything is read or computed. The arguments are those of `export_model`.

    Raises:
        FarfieldError: for a file that exists, a suffix without a format, or options that do not go together.
    """
    if out.suffix not in LOADERS:
        raise FarfieldError(
            f"{out} has no suffix of a format: {', '.join(LOADERS)}. For a folder to publish: --to_folder."
        )
    if int8 and out.suffix != ".xml":
        raise FarfieldError(f"8 bits are OpenVINO's here, whose files end in .xml; out is {out}.")
    if int8 and not any_clips:
        raise FarfieldError("8 bits need clips to choose their ranges by, and to be measured on. Give --clips.")
    for name, count in (("num_calibration_clips", num_calibration_clips), ("num_compare_clips", num_compare_clips)):
        if count < 1:
            raise FarfieldError(f"{name} is {count}; it must be at least 1.")
    if not tolerance >= 0:
        raise FarfieldError(f"tolerance is {tolerance}; it must be at least 0.")
    refuse_existing(out, *([out.with_suffix(".bin")] if out.suffix == ".xml" else []))


class _HoldsForOneLength(Exception):
    """A graph that should have been for clips of any length is right at one only."""


def _attempt(
    network: ActionNet,
    out: Path,
    *,
    takes_frames: bool,
    any_length: bool,
    int8: bool,
    videos: Sequence[ParityVideo],
    num_calibration_clips: int,
    num_compare_clips: int,
    tolerance: float,
) -> ExportReport:
    compared = [videos[i] for i in spread(len(videos), num_compare_clips)]
    traced = trace(network, takes_frames=takes_frames, any_length=any_length)
    if any_length and not traced.any_length:
        raise _HoldsForOneLength("something in the network has a size that the frames decide")
    lengths = other_lengths(network.clip.num_frames) if traced.any_length else []
    with atomic_output(out) as partial, tempfile.TemporaryDirectory() as elsewhere:
        # OpenVINO goes on reading the float graph's weights from its file while the 8-bit one's are written.
        written = Path(elsewhere, out.name) if int8 else partial
        description = _write(network, traced, written)
        exported = load_exported(written)
        differences = _compare(network, exported, lengths, tolerance)
        differences += on_videos(network, exported, compared)
        _must_agree(differences, tolerance, out)
        accuracy = None
        if int8:
            description = describe_export(network, traced, opset=OPSET, int8=True)
            model = quantize(written, network.clip, takes_frames, videos, num_calibration_clips)
            write_openvino(described(model, description.to_json()), partial)
            accuracy = measure_accuracy(network, load_exported(partial), compared)
        size = sum(each.stat().st_size for each in partial.parent.iterdir())
    return ExportReport(out, size, description, differences, tolerance, accuracy, len(compared), len(videos))


def _compare(network: ActionNet, exported: Any, lengths: Sequence[int], tolerance: float) -> list[ParityDifference]:
    """The differences on random clips.

    Raises:
        _HoldsForOneLength: where the graph is for clips of any length and fails, or is right at the network's own only.
    """
    compared = on_random_clips(network, exported, lengths)
    try:
        own = list(islice(compared, len(BATCHES)))
    except FarfieldError as error:
        if not lengths:
            raise
        raise _HoldsForOneLength("its graph for any length fails") from error
    if not lengths or not all(each.within(tolerance) for each in own):
        return own
    try:
        others = list(compared)
    except FarfieldError as error:
        raise _HoldsForOneLength("its graph fails at others") from error
    if not others:
        raise _HoldsForOneLength("the network itself takes no other")
    if not all(each.within(tolerance) for each in others):
        raise _HoldsForOneLength("its graph is wrong at others")
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


def _must_agree(differences: Sequence[ParityDifference], tolerance: float, out: Path) -> None:
    for each in differences:
        if not each.within(tolerance):
            raise FarfieldError(
                f"{out} was not written: on {each.clips} its probabilities are up to {each.probabilities:.1e} from the "
                f"network's, its logits {each.logits:.1e} of the largest; the tolerance is {tolerance:g}. "
                "Raise --tolerance if that is good enough."
            )
