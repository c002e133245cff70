"""`farfield export`: a checkpoint for other programs to run, or for other people to have."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from farfield.atomic_output import atomic_output
from farfield.checkpoints.checkpoint import load_network, read_checkpoint
from farfield.checkpoints.content_hash import network_hash
from farfield.checkpoints.hub_folder import write_folder
from farfield.clip_spec import ClipSpec
from farfield.commands.console import quiet_libraries, report_skipped_files
from farfield.curation.folder_scan import SkippedFiles
from farfield.data.manifest import VideoRecord, read_manifest
from farfield.errors import FarfieldError, VideoError
from farfield.exporters.export import COMPARE_CLIPS, TOLERANCE, ExportReport, check_options, export_model
from farfield.exporters.parity import ParityVideo, central_clip, spread
from farfield.inference.video_inputs import find_videos
from farfield.models.network import ActionNet
from farfield.reports.model_card import check_report, find_report, model_card, read_report


def export(
    checkpoint: str,
    out: str,
    *,
    to_folder: bool = False,
    clips: str | list[str] | None = None,
    include_preprocessing: bool = False,
    int8: bool = False,
    num_calibration_clips: int = 128,
    num_compare_clips: int = COMPARE_CLIPS,
    tolerance: float = TOLERANCE,
    report: str | None = None,
    json: bool = False,
) -> int:
    """Writes a checkpoint's network as ONNX, OpenVINO or PyTorch's torch.export, or as a folder to publish.

    Batch norms are folded into convolutions. The file describes itself: `farfield predict --checkpoint model.onnx`
    needs nothing else. It is run and compared with the network, on random clips of several batch sizes and lengths and
    on the videos given, and appears only if probabilities and logits are within the tolerance.

    Args:
        checkpoint: a .ckpt file, or a folder that was exported.
        out: the file to write, its suffix the format: .onnx, .xml (OpenVINO, with a .bin beside it) or .pt2
            (torch.export); with --to_folder, the folder. It must not exist.
        to_folder: write model.safetensors, config.json, labels.txt and a model card, README.md.
        clips: a video, a folder, a pattern or a manifest (.csv), or a list of them, as [a.mp4,b.mp4]: central clips
            of some of the videos are compared on, too. With a manifest's labels, the accuracy in 8 bits is measured.
        include_preprocessing: the graph takes uint8 RGB frames (b t h w c) and normalises them itself, for programs
            without farfield. Else it takes what the network takes: normalised clips (b 3 t h w).
        int8: 8-bit weights and activations, for .xml. Their ranges are chosen on clips, and what it costs is
            measured on clips; the tolerance does not apply to it.
        num_calibration_clips: at most so many clips, spread evenly, choose those ranges.
        num_compare_clips: at most so many clips, spread evenly, are compared on, and tell what 8 bits cost.
        tolerance: the largest difference of a probability, and of a logit relative to the largest one.
        report: report.json of `farfield test`, for the model card; null for <run>/test/report.json, where it is of this
            checkpoint.
        json: print the report as JSON.
    """
    quiet_libraries()
    if to_folder:
        if clips or include_preprocessing or int8:
            raise FarfieldError(
                "--to_folder writes the network as it is: --clips, --include_preprocessing and --int8 "
                "are for .onnx, .xml and .pt2. Leave them out."
            )
        about = _publish(checkpoint, Path(out), report)
        print(json_format.dumps(about, indent=2) if json else _published(about))
        return 0
    if report is not None:
        raise FarfieldError("--report is for the model card. Add --to_folder, or leave it out.")
    check_options(
        Path(out),
        int8=int8,
        any_clips=bool(clips),
        num_calibration_clips=num_calibration_clips,
        num_compare_clips=num_compare_clips,
        tolerance=tolerance,
    )
    network = load_network(checkpoint)
    given = _videos([clips] if isinstance(clips, str) else clips or [], network.labels)
    used = set(spread(len(given), num_compare_clips)) | set(spread(len(given), num_calibration_clips) if int8 else ())
    written = export_model(
        network,
        out,
        include_preprocessing=include_preprocessing,
        int8=int8,
        videos=_readable([given[i] for i in sorted(used)], network.clip),
        num_calibration_clips=num_calibration_clips,
        num_compare_clips=num_compare_clips,
        tolerance=tolerance,
    )
    written = replace(written, given_videos=len(given))
    print(json_format.dumps(_as_dict(written), indent=2) if json else _as_text(written))
    return 0


def _videos(clips: list[str], labels: list[str]) -> list[ParityVideo]:
    manifests = [given for given in clips if given.lower().endswith(".csv")]
    found = [ParityVideo(Path(path), VideoRecord(path, "")) for path in _others(clips, manifests)]
    for given in manifests:
        manifest = read_manifest(given)
        targets = manifest.targets(labels)
        found += [ParityVideo(manifest.path(i), manifest[i], int(targets[i])) for i in range(len(manifest))]
    return found


def _readable(videos: list[ParityVideo], spec: ClipSpec) -> list[ParityVideo]:
    """Those that can be decoded; the others are named, before anything is exported."""
    good = []
    for video in tqdm(videos, "clips", unit="video", delay=1, leave=False):
        try:
            central_clip(video, spec)
            good.append(video)
        except VideoError as error:
            print(f"farfield export: left out: {error}", file=sys.stderr)
    if videos and not good:
        raise FarfieldError(f"none of the {len(videos)} clips that were to be compared on can be read.")
    return good


def _others(clips: list[str], manifests: list[str]) -> list[str]:
    rest = [given for given in clips if given not in manifests]
    skipped = SkippedFiles()
    found = find_videos(rest, skipped=skipped) if rest else []
    report_skipped_files(skipped, can_list=False)
    return found


def _publish(checkpoint: str, out: Path, report: str | None) -> dict[str, Any]:
    network = load_network(checkpoint)
    weights = network_hash(checkpoint)
    path = Path(report) if report is not None else find_report(checkpoint, weights)
    measured = None if path is None else read_report(path)
    if measured is not None:
        check_report(measured, network, str(path), weights)
    data = None if Path(checkpoint).is_dir() else read_checkpoint(checkpoint)["farfield"].get("data")
    card = model_card(network, out.name, data=data, report=measured)
    with atomic_output(out) as partial:
        write_folder(network, partial, card)
        _must_be_the_same(network, load_network(partial), out)
        sizes = {each.name: each.stat().st_size for each in sorted(partial.iterdir())}
    return {"out": str(out), "files": sizes, "report": None if path is None else str(path)}


def _must_be_the_same(network: ActionNet, again: ActionNet, out: Path) -> None:
    ours, theirs = network.state_dict(), again.state_dict()
    if network.config != again.config or any(not value.equal(theirs[name]) for name, value in ours.items()):
        raise FarfieldError(f"{out} was not written: read back, it is not the network that was written.")


def _published(about: dict[str, Any]) -> str:
    lines = [f"{about['out']}: a folder to publish, read back and the same to the last bit"]
    lines += [f"  {name:<18} {size:,} bytes" for name, size in about["files"].items()]
    figures = about["report"] or "none: there is no report of farfield test of these weights"
    return "\n".join([*lines, f"  figures            {figures}"])


def _as_dict(report: ExportReport) -> dict[str, Any]:
    worst = report.worst
    return {
        "out": str(report.out),
        "bytes": report.bytes,
        "input": report.description.input,
        "takes_frames": report.description.takes_frames,
        "any_batch": report.description.any_batch,
        "any_length": report.description.any_length,
        "opset": report.description.opset,
        "largest_difference": {"probabilities": worst.probabilities, "logits": worst.logits},
        "tolerance": report.tolerance,
        "compared_clips": report.compared_videos,
        "given_clips": report.given_videos,
        "compared": [asdict(each) for each in report.differences],
        "int8": None if report.accuracy is None else asdict(report.accuracy),
        "notes": report.notes,
    }


_SHOWN = 10  # of the batches compared, those that differ most


def _as_text(report: ExportReport) -> str:
    about, worst, accuracy = report.description, report.worst, report.accuracy
    float_net = "" if accuracy is None else " before quantisation"
    lines = [
        f"{report.out}: {report.bytes:,} bytes, takes {about.input}",
        f"  input       {'uint8 RGB frames, normalised inside' if about.takes_frames else 'normalised clips'}",
        f"  batch       {'any number of clips' if about.any_batch else 'one clip'}",
        f"  time        {'any length' if about.any_length else f'{about.clip.num_frames} frames'}",
        f"  compared    on {len(report.differences)} batches{float_net}: probabilities within "
        f"{worst.probabilities:.1e}, logits within {worst.logits:.1e} of the largest; tolerance {report.tolerance:g}",
    ]
    if report.given_videos:
        lines.append(f"              {report.compared_videos} of the {report.given_videos} clips given are among them")
    shown = sorted(report.differences, key=lambda each: -each.logits)[:_SHOWN]
    lines += [f"              {each.clips}: {each.probabilities:.1e}, {each.logits:.1e}" for each in shown]
    if len(report.differences) > len(shown):
        lines.append(f"              and {len(report.differences) - len(shown)} with smaller differences (all: --json)")
    if accuracy is not None:
        lines += [
            f"  8 bits      on {accuracy.videos} videos, against the network: the same class for "
            f"{100 * accuracy.agreement:.1f}%; probabilities differ by {accuracy.mean:.1e} on average, by "
            f"{accuracy.largest:.1e} at most. The tolerance does not apply.",
        ]
        if accuracy.top1 is not None and accuracy.top1_int8 is not None:
            lines.append(
                f"  top-1       {100 * accuracy.top1:.1f}% of the network, {100 * accuracy.top1_int8:.1f}% in 8 bits, "
                "one central clip a video"
            )
    return "\n".join([*lines, *(f"  note        {note}" for note in report.notes)])
