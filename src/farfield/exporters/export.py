"""Export a network to a file (ONNX, OpenVINO or torch.export) or to a folder for publishing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from farfield.argument_types import checked_arguments
from farfield.curation.folder_scan import SkippedFiles
from farfield.errors import FarfieldError
from farfield.exporters.export_options import COMPARE_CLIPS, TOLERANCE, ExportOptions
from farfield.memory_errors import out_of_memory_as_ours
from farfield.progress import progress_bars
from farfield.video.decoder_names import Decoder

if TYPE_CHECKING:
    from farfield.exporters.export_file import ExportReport
    from farfield.exporters.publish import FolderReport
    from farfield.models.network import ActionNet

log = logging.getLogger("farfield")


@out_of_memory_as_ours("Export on a machine with more memory, or a network for smaller clips.")
@checked_arguments
def export(
    model: str | Path | ActionNet,
    out: str | Path,
    *,
    to_folder: bool = False,
    clips: str | Path | Sequence[str | Path] = (),
    include_preprocessing: bool = False,
    int8: bool = False,
    num_calibration_clips: int = 128,
    num_compare_clips: int = COMPARE_CLIPS,
    tolerance: float = TOLERANCE,
    decoder: Decoder = "pyav",
    report: str | Path | None = None,
    progress: bool = True,
) -> ExportReport | FolderReport:
    """Export a network to ONNX (.onnx), OpenVINO (.xml), torch.export (.pt2), or a folder for publishing.

    A folder holds the network unchanged. In a file, batch norms are folded into convolutions. A file also holds the
    labels and clip settings, so it can be loaded in place of a checkpoint. Before a file is written, its graph is
    compared with the network on random clips of several batch sizes and lengths, and on the given videos. The file is
    written only if the differences of probabilities and of logits are within the tolerance.

    Args:
        model: a checkpoint, a folder that `to_folder` wrote, or a network from `build_model` or
            `load_model(for_training=True)`.
        out: the file to write, whose suffix chooses the format: .onnx, .xml (OpenVINO, with a .bin beside it) or .pt2
            (torch.export). With `to_folder`, the folder to write. `out` must not exist.
        to_folder: write a folder with model.safetensors, config.json, labels.txt and a model card, README.md.
        clips: videos, folders, patterns or manifests (.csv). The exported graph and the network are compared on the
            central clip of each video. With int8, the labels in a manifest are used to measure the accuracy.
        include_preprocessing: make the graph take uint8 RGB frames (b t h w c) and normalise them itself, for programs
            without farfield. Otherwise the graph takes normalised clips (b 3 t h w), as the network does.
        int8: quantise weights and activations to 8 bits; for .xml only. `clips` are used to choose the ranges and to
            measure the loss of accuracy. The tolerance applies to the graph before quantisation.
        num_calibration_clips: maximum number of clips to choose the 8-bit ranges on, spread evenly over `clips`.
        num_compare_clips: maximum number of clips on which scores are compared and 8-bit accuracy is measured, spread
            evenly over `clips`.
        tolerance: the largest accepted difference of a probability. Also the largest accepted difference of a logit,
            divided by the largest absolute logit; for a multilabel network, this divisor is at least 1.
        decoder: "pyav" or "decord".
        report: path of a report.json of `farfield test`, for a folder's model card. None uses test/report.json in the
            checkpoint's run folder, if that report was measured on this checkpoint.
        progress: show progress bars.

    Raises:
        FarfieldError: if `out` exists or has an unknown suffix, options are incompatible, a package is missing, the
            network cannot be converted, or the exported graph differs from the network by more than the tolerance. No
            files are left behind.

    Example:
        report = farfield.export("best.ckpt", "model.onnx")
        print(report.worst.logits)  # 3.1e-07
    """
    # Imported late, because they import PyTorch: `farfield export --help` reads only this function's signature.
    from farfield.checkpoints.checkpoint import plain_network
    from farfield.exporters.export_file import check_output, export_model
    from farfield.exporters.publish import publish_folder
    from farfield.exporters.reference_clips import decode_reference_clips, find_reference_videos, spread

    given = [str(clips)] if isinstance(clips, str | Path) else [str(each) for each in clips]
    if to_folder:
        if given or include_preprocessing or int8:
            raise FarfieldError(
                "to_folder writes the network unchanged. Leave out clips, include_preprocessing and int8: they are for "
                ".onnx, .xml and .pt2."
            )
        return publish_folder(model, Path(out), report)
    if report is not None:
        raise FarfieldError(
            "'report' is only used for the model card of a folder. Set 'to_folder', or leave out 'report'."
        )
    options = ExportOptions(include_preprocessing, int8, num_calibration_clips, num_compare_clips, tolerance)
    check_output(Path(out), options, any_clips=bool(given))
    network = plain_network(model)
    network.refuse_folded("exported")
    skipped = SkippedFiles()
    videos = find_reference_videos(given, network.labels, task=network.task, skipped=skipped)
    if skipped.counts:
        log.info("left out: %s", skipped.summary())
    used = set(spread(len(videos), num_compare_clips)) | set(spread(len(videos), num_calibration_clips) if int8 else ())
    with progress_bars(progress):
        decoded = decode_reference_clips([videos[i] for i in sorted(used)], network.clip, decoder=decoder)
        written = export_model(network, out, options, clips=decoded)
    return replace(written, given_videos=len(videos))
