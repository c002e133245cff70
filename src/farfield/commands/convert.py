"""`farfield convert`: convert other projects' checkpoints to farfield's, and back."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Any, Literal

from farfield.checkpoints.checkpoint import is_farfield_checkpoint, load_network, save_model, write_checkpoint
from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.checkpoints.converters.convert_file import ConversionReport, convert_file
from farfield.checkpoints.converters.hugging_face import convert_hugging_face
from farfield.checkpoints.converters.reverse_conversion import to_pyslowfast, to_pytorchvideo
from farfield.checkpoints.hugging_face_folder import is_hugging_face
from farfield.clip_spec import ClipSpec
from farfield.commands.console import quiet_libraries
from farfield.curation.class_names import read_class_names
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.task import DEFAULT_TASK


def convert(
    input: str,
    out: str,
    *,
    to: Literal["farfield", "pytorchvideo", "slowfast"] = "farfield",
    labels: str | None = None,
    all_keys: bool = False,
    json: bool = False,
    **options: Any,
) -> int:
    """Convert a checkpoint of PySlowFast, PyTorchVideo, MMAction2, torchvision, Caffe2 or Hugging Face.

    The origin is detected from the names of the weights. Settings that the weights do not determine are read from the
    config in the file, or must be given as options. If a weight is missing, unexpected or of another shape, nothing is
    written. Prefixes of wrappers (torch.compile, DDP, a LightningModule) are removed from the names. No code from the
    file is executed.

    Args:
        input: checkpoint to convert; for Hugging Face, a folder, or a name on huggingface.co.
        out: output file; it must not exist.
        to: output format. farfield converts another project's checkpoint; pytorchvideo and slowfast convert a farfield
            checkpoint, if that project supports the network.
        labels: text file with one class name per line, in the order of the scores; null for Kinetics-400's class names
            if there are 400 classes, and numbers otherwise.
        all_keys: print every weight with its new name and shape.
        json: print the full report as JSON.
        options: the fields of `ConversionOptions`, each of which is an option of the command.
    """
    quiet_libraries()
    if Path(out).exists():
        raise FarfieldError(f"{out} exists already. Choose another name, or remove it first.")
    if to != "farfield":
        network = load_network(input)
        write_checkpoint({"pytorchvideo": to_pytorchvideo, "slowfast": to_pyslowfast}[to](network), out)
        print(json_format.dumps({"out": out, "to": to}) if json else f"{out}: {to}, {_shown(network)}")
        return 0
    if Path(input).is_file() and is_farfield_checkpoint(input):
        raise FarfieldError(f"{input} is already a farfield checkpoint. Use it without converting it.")
    names = None if labels is None else read_class_names(Path(labels))
    convert_any = convert_hugging_face if is_hugging_face(input) else convert_file
    network, report = convert_any(input, labels=names, options=ConversionOptions(**options))
    save_model(network, out)
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    if json:
        mapped = [{"from": old, "to": new, "shape": shapes[new]} for old, new in report.mapped.items()]
        about = {"out": out, "origin": report.origin, "model": network.config, "notes": report.notes}
        rest = {"missing": [], "unexpected": [], "set_to_zero": report.set_to_zero, "ignored": dict(report.ignored)}
        print(json_format.dumps({**about, "mapped": mapped, **rest}, indent=2))
        return 0
    if all_keys:
        for old, new in report.mapped.items():
            print(f"{old} -> {new} {tuple(shapes[new])}")
    print(_account(network, report, out))
    return 0


def _shown(network: ActionNet) -> str:
    config = network.config
    shown = {key: value for key, value in config["backbone_options"].items() if key != "config"}  # of hf: too long
    if "config" in config["backbone_options"]:
        shown["model_type"] = config["backbone_options"]["config"]["model_type"]
    options = "".join(f" {key}={value}" for key, value in shown.items())
    inserted = f", {config['block']} {config['block_options']} at {config['insert']}" if config["insert"] else ""
    task = "" if network.task == DEFAULT_TASK else f", {network.task}"
    return f"{config['backbone']}{options}{inserted}, {len(network.labels)} classes{task}"


def _account(network: ActionNet, report: ConversionReport, out: str) -> str:
    clip = network.clip
    windows = f", windows {network.config['head_windows']}" if network.config["head_windows"] else ""
    parameters = sum(p.numel() for p in network.parameters())
    lines = [
        f"{out}: from {report.origin}",
        f"  network   {_shown(network)}, {parameters:,} parameters",
        f"  head      {network.config['head']}{windows}",
        f"  clips     {_frames(clip)}, {clip.crop_px} px in training",
        f"  test      {clip.num_clips} clips x {clip.num_crops} crops of {clip.test_side_px} px, "
        f"short side {clip.test_short_side_px} px, {clip.views_aggregation} of the probabilities",
        f"  pixels    mean {_three(clip.mean)}, standard deviation {_three(clip.std)}",
        f"  weights   {len(report.mapped)} mapped, 0 missing, 0 unexpected, 0 of other shapes",
    ]
    if report.set_to_zero:
        lines.append(f"            {len(report.set_to_zero)} batch-norm counters are missing in the file: set to 0")
    for name, reason in report.ignored:
        lines.append(f"  ignored   {name}: {reason}")
    lines += [f"  note      {note}" for note in report.notes]
    return "\n".join(lines)


def _frames(clip: ClipSpec) -> str:
    rate = "" if clip.target_fps is None else f" at {clip.target_fps:g} frames per second"
    if clip.short_clip == "clamp":
        rate += ", short videos clamped"
    if clip.sampling == "segments":
        return f"{clip.num_frames} frames, one of each part of the video{rate} (segment_offsets {clip.segment_offsets})"
    return f"{clip.num_frames} frames at stride {clip.frame_stride}{rate}"


def _three(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
