"""`farfield export`: export a checkpoint to a file for other programs, or to a folder for publishing."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from farfield.commands.console import quiet_libraries
from farfield.exporters.export import export as export_network
from farfield.options.parser import runs

if TYPE_CHECKING:
    from farfield.exporters.export_file import ExportReport
    from farfield.exporters.publish import FolderReport
    from farfield.exporters.quantization import Accuracy, MultilabelAccuracy


@runs(export_network, replaced=("model", "clips"))
def export(checkpoint: str, *, clips: str | list[str] | None = None, json: bool = False, **options: Any) -> int:
    """Export a checkpoint to a file for other programs, or to a folder for publishing.

    Args:
        checkpoint: a .ckpt file, a folder written by `--to_folder`, or the folder or name of a Hugging Face video
            encoder (docs/guides/encoders.md).
        clips: videos on which the exported network is compared with the checkpoint, in addition to random clips: a
            video, a folder, a pattern or a manifest (.csv), or a list of these, e.g. [a.mp4,b.mp4]. Of each video, one
            central clip is used, and at most num_compare_clips videos are compared. With int8, the labels of a manifest
            are also used to measure the accuracy before and after quantisation.
        json: print the report as JSON.
        options: further options, those of `farfield.export`, such as out (the file or folder to write) and
            num_compare_clips.
    """
    from farfield.exporters.publish import FolderReport  # late: it imports PyTorch

    quiet_libraries()
    written = export_network(checkpoint, clips=clips or (), **options)
    if isinstance(written, FolderReport):
        print(json_format.dumps(_folder_as_dict(written), indent=2) if json else _folder_as_text(written))
    else:
        print(json_format.dumps(_as_dict(written), indent=2) if json else _as_text(written))
    return 0


def _folder_as_dict(written: FolderReport) -> dict[str, Any]:
    report = None if written.report is None else str(written.report)
    return {"out": str(written.out), "files": written.files, "report": report}


def _folder_as_text(written: FolderReport) -> str:
    lines = [f"{written.out}: a folder for publishing; its weights were read back and are identical to the last bit"]
    lines += [f"  {name:<18} {size:,} bytes" for name, size in written.files.items()]
    figures = written.report or "none: there is no report of farfield test for these weights"
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
        **({} if worst.decisions is None else {"different_decisions": worst.decisions}),
        "tolerance": report.tolerance,
        "compared_clips": report.compared_videos,
        "given_clips": report.given_videos,
        "compared": [_known(asdict(each)) for each in report.differences],
        "int8": None if report.accuracy is None else asdict(report.accuracy),
        "notes": report.notes,
    }


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a `ParityDifference` that are not None. Only `decisions` may be None."""
    return {name: value for name, value in values.items() if value is not None}


_SHOWN = 10  # compared batches with the largest differences


def _as_text(report: ExportReport) -> str:
    about, worst, accuracy = report.description, report.worst, report.accuracy
    float_net = "" if accuracy is None else " before quantisation"
    lines = [
        f"{report.out}: {report.bytes:,} bytes, takes {about.input}",
        f"  input       {'uint8 RGB frames, normalised inside' if about.takes_frames else 'normalised clips'}",
        f"  batch       {'any number of clips' if about.any_batch else 'one clip'}",
        f"  time        {'any length' if about.any_length else f'{about.clip.num_frames} frames'}",
        f"  compared    on {len(report.differences)} batches{float_net}: probabilities within "
        f"{worst.probabilities:.1e}, logits within {worst.logits:.1e} of the largest logit; "
        f"tolerance {report.tolerance:g}",
    ]
    if worst.decisions is not None:
        lines.append(f"              decisions at the classes' thresholds that differ: {worst.decisions}")
    if report.given_videos:
        lines.append(f"              with {report.compared_videos} of the {report.given_videos} given clips")
    shown = sorted(report.differences, key=lambda each: -each.logits)[:_SHOWN]
    lines += [f"              {each.clips}: {each.probabilities:.1e}, {each.logits:.1e}" for each in shown]
    if len(report.differences) > len(shown):
        lines.append(f"              and {len(report.differences) - len(shown)} with smaller differences (all: --json)")
    if accuracy is not None:
        lines += _accuracy_lines(accuracy)
    return "\n".join([*lines, *(f"  note        {note}" for note in report.notes)])


def _accuracy_lines(accuracy: Accuracy | MultilabelAccuracy) -> list[str]:
    from farfield.exporters.quantization import Accuracy

    if isinstance(accuracy, Accuracy):
        same = f"the same class for {100 * accuracy.agreement:.1f}%"
        metric, before, after = "top-1 ", accuracy.top1, accuracy.top1_int8
    else:
        same = "neither finds a class in any video"
        if accuracy.agreement is not None:
            same = (
                f"of the {accuracy.found} pairs of video and class that either network finds, both find "
                f"{100 * accuracy.agreement:.1f}%"
            )
        metric, before, after = "mAP   ", accuracy.map, accuracy.map_int8
    lines = [
        f"  8 bits      on {accuracy.videos} videos, compared with the unquantised network: {same}; probabilities "
        f"differ by {accuracy.mean:.1e} on average, by {accuracy.largest:.1e} at most. The tolerance does not apply to "
        "8 bits.",
    ]
    if before is not None and after is not None:
        lines.append(
            f"  {metric}      {100 * before:.1f}% before quantisation, {100 * after:.1f}% in 8 bits, on one central "
            "clip per video"
        )
    return lines
