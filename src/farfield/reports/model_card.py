"""The model card of a published folder: what the network is, how to use it, and what was measured, with the command.

It says what the checkpoint and its test report say, and nothing else: no licence, no accuracy that nobody measured.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from farfield.checkpoints.hub_folder import CONFIG, LABELS, WEIGHTS
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.models.summary import summarise
from farfield.untrusted_json import parse_json

METRICS = {"top1": "top-1", "top5": "top-5", "mean_class_accuracy": "mean class accuracy"}


def find_report(checkpoint: str | Path, weights: str) -> Path | None:
    """The test report beside a run's checkpoint, <run>/test/report.json; None where there is none of these weights.

    One that cannot be read counts as none, and is named on standard error: nobody asked for it.
    """
    folder = Path(checkpoint).absolute().parent
    run = folder.parent if folder.name == "checkpoints" else folder
    path = run / "test" / "report.json"
    if not path.is_file():
        return None
    try:
        return path if read_report(path).get("weights") == weights else None
    except FarfieldError as error:
        print(f"farfield export: left out: {error}", file=sys.stderr)
        return None


def read_report(path: str | Path) -> dict[str, Any]:
    """The content of a report that `farfield test` wrote.

    Raises:
        FarfieldError: for a file that is missing, or is none.
    """
    path = Path(path)
    if not path.is_file():
        raise FarfieldError(f"there is no test report at {path}. `farfield test` writes one, <run>/test/report.json.")
    try:
        content = parse_json(path.read_bytes())
        for name in METRICS:
            for value in ("value", "low", "high"):
                float(content[name][value])
        int(content["videos"])
        [each["label"] for each in content.get("classes", [])]
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise FarfieldError(f"{path} is no report of farfield test: {error!r}.") from error
    return content


def check_report(report: dict[str, Any], network: ActionNet, path: str | Path, weights: str) -> None:
    """Refuses the report of another network, or of this one before it was trained on.

    Args:
        report: of `farfield test`.
        network: what is published.
        path: where the report is, for messages.
        weights: the checkpoint's `network_hash`.

    Raises:
        FarfieldError: where backbone, blocks, classes or weights differ.
    """
    ours = {
        "weights": weights,
        "backbone": network.config["backbone"],
        "inserted": network.config["insert"],
        "classes": list(network.labels),
    }
    theirs = {
        "weights": report.get("weights"),
        "backbone": report.get("backbone"),
        "inserted": report.get("inserted"),
        "classes": [each.get("label") for each in report.get("classes", [])],
    }
    if "scored_among" in report:
        del ours["classes"]
    for name, value in ours.items():
        if theirs[name] != value:
            raise FarfieldError(
                f"{path} is of another network: its {name} {_short(theirs[name])}, the checkpoint's {_short(value)}. "
                "Test this one with farfield test, or leave --report out."
            )


def model_card(
    network: ActionNet,
    name: str,
    *,
    data: dict[str, Any] | None = None,
    report: dict[str, Any] | None = None,
) -> str:
    """Markdown with YAML in front, as model hubs read it.

    Args:
        network: what is published.
        name: of the folder.
        data: which videos it was trained on, as a checkpoint has it: {"train": {"manifest": ..., "hash": ..., ...}}.
        report: of `farfield test`; None for no figures.
    """
    clip, config = network.clip, network.config
    costs = summarise(network)
    rate = f" of the video at {clip.target_fps:g} frames per second" if clip.target_fps else ""
    frames = (
        f"{clip.num_frames} frames, one of each part of the video"
        if clip.sampling == "segments"
        else f"{clip.num_frames} frames at stride {clip.frame_stride}{rate}"
    )
    inserted = (
        f"{plain(_with(config['block'], config['block_options']))} at {plain(config['insert'])}"
        if config["insert"]
        else "none"
    )
    lines = [
        *_front(network, name, report),
        f"# {plain(name)}",
        "",
        f"Recognises {len(network.labels)} human actions in video. Made with farfield {version('farfield')}.",
        "",
        "| | |",
        "|---|---|",
        f"| backbone | {plain(_with(config['backbone'], config['backbone_options']))} |",
        f"| inserted | {inserted} |",
        f"| parameters | {costs.parameters:,} |",
        f"| multiply-adds | {costs.multiply_adds / 1e9:.3f} G, one clip of {' x '.join(map(str, costs.clip))} |",
        f"| clips | {frames}, {clip.test_side_px} x {clip.test_side_px} pixels, RGB |",
        f"| normalisation | pixels in [0, 1], mean {list(clip.mean)}, standard deviation {list(clip.std)} |",
        f"| test | {clip.num_clips} clips x {clip.num_crops} crops, short side {clip.test_short_side_px} pixels |",
        "",
        "## Use",
        "",
        "With farfield installed from its repository:",
        "",
        "```sh",
        f"farfield predict clip.mp4 --checkpoint {shlex.quote(_word(name))}",
        "```",
        "",
        "```python",
        "from farfield import load_model, predict",
        "",
        f"model = load_model({json.dumps(_word(name))})  # model.labels, model.clip",
        'predict("clip.mp4", model).ranking[0]  # RankedLabel(label=..., probability=...)',
        "```",
        "",
        f"Weights are in `{WEIGHTS}`, the network is described in `{CONFIG}`, the classes in `{LABELS}`.",
        "",
        *_data(data),
        *_measured(report),
        "## Classes",
        "",
        ", ".join(plain(label) for label in network.labels),
    ]
    return "\n".join(lines) + "\n"


def _front(network: ActionNet, name: str, report: dict[str, Any] | None) -> list[str]:
    """YAML; every text is quoted as JSON, which YAML reads."""
    lines = ["---", "library_name: farfield", "pipeline_tag: video-classification", "tags:", "- action-recognition"]
    if network.config["insert"] and network.config["block"] == "non_local":
        lines.append("- non-local")
    if report is not None and "scored_among" not in report:  # among fewer classes, it is no figure to compare
        metrics = [
            {"type": "accuracy", "name": shown, "value": round(100 * report[key]["value"], 2)}
            for key, shown in METRICS.items()
        ]
        result = {
            "task": {"type": "video-classification"},
            "dataset": {"type": "video", "name": Path(str(report.get("manifest", "videos"))).name},
            "metrics": metrics,
        }
        lines.append(f"model-index: {json.dumps([{'name': name, 'results': [result]}])}")
    return [*lines, "---", ""]


def _data(data: dict[str, Any] | None) -> list[str]:
    train = (data or {}).get("train")
    if not isinstance(train, dict):
        return []
    return [
        "## Training data",
        "",
        f"{plain(train.get('videos'))} videos of {plain(train.get('classes'))} classes, listed in "
        f"`{_code(Path(str(train.get('manifest'))).name)}`, content hash `{_code(train.get('hash'))}`.",
        "",
    ]


def _measured(report: dict[str, Any] | None) -> list[str]:
    if report is None:
        return ["## Accuracy", "", "Not measured: no test report came with the checkpoint.", ""]
    lines = ["## Accuracy", "", "| metric | value | 95% interval |", "|---|---|---|"]
    for key, shown in METRICS.items():
        e = report[key]
        lines.append(f"| {shown} | {100 * e['value']:.2f}% | {100 * e['low']:.2f}% to {100 * e['high']:.2f}% |")
    among = f" Scored among {plain(report['scored_among'])}." if "scored_among" in report else ""
    lines += [
        "",
        f"On {report['videos']} videos, {report.get('num_clips')} clips x {report.get('num_crops')} crops each, "
        f"manifest hash `{_code(report.get('manifest_hash'))}`.{among} Measured with",
        "",
        "```sh",
        _command(report),
        "```",
        "",
    ]
    return lines


def _command(report: dict[str, Any]) -> str:
    """What was typed, from what a report says of it."""
    words = ["farfield", "test", "--checkpoint", report.get("checkpoint"), "--data.manifest", report.get("manifest")]
    words += ["--data.root", report["root"]] if "root" in report else []
    words += ["--num_clips", report.get("num_clips"), "--num_crops", report.get("num_crops")]
    words += ["--precision", report["precision"]] if report.get("precision", "32-true") != "32-true" else []
    words += ["--restrict_labels"] if "scored_among" in report else []
    words += ["--calibrate_on", report["calibrated_on"]] if "calibrated_on" in report else []
    return " ".join(shlex.quote(_word(word)) for word in words)


def plain(text: object) -> str:
    """A text as Markdown and HTML show it, letter by letter: labels come from file names and from strangers.

    Only letters, digits, spaces and commas are left as they are, and within words "_", "-" and the points of numbers.
    """
    kept = r"(?<=[^\W_])[_-](?=[^\W_])|(?<=\d)\.(?=\d)|[^\W_]|[ ,]"
    one_line = " ".join(str(text).split())
    return re.sub(rf"({kept})|.", lambda m: m[1] or f"&#{ord(m[0])};", one_line)


def _code(text: object) -> str:
    """A text inside `...`."""
    return re.sub(r"[^\w.,=+-]", "_", str(text))


def _word(text: object) -> str:
    """A text inside a fenced block: one line, which cannot end the block."""
    return " ".join(str(text).split()).replace("```", "'''")


def _with(name: str, options: dict[str, Any]) -> str:
    return f"{name} {options}" if options else name


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 80 else text[:77] + "..."
