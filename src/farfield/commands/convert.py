"""`farfield convert`: convert other projects' checkpoints to farfield's, and back."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Any, Literal

from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.commands.console import quiet_libraries
from farfield.errors import FarfieldError


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
    """Convert another project's checkpoint to farfield's, or a farfield checkpoint to PyTorchVideo's or PySlowFast's.

    Checkpoints of PySlowFast, PyTorchVideo, MMAction2, torchvision, Caffe2 and Hugging Face can be converted to
    farfield's. The origin of a file is detected from the names of its weights. Settings that the weights do not
    determine are read from the config in the file, or must be given as options. If a weight is missing, unexpected or
    of another shape, nothing is written. Prefixes that wrappers (torch.compile, DDP, a LightningModule) put before the
    names are removed. No code from the file is executed.

    Args:
        input: checkpoint to convert; for Hugging Face, a folder, or a name on huggingface.co.
        out: output file; it must not exist.
        to: project that the output is for. With farfield, the input is a checkpoint of another project. With
            pytorchvideo or slowfast (PySlowFast), the input is a farfield checkpoint of a network that the chosen
            project can build, too; of the options below, only json then has an effect.
        labels: file of class names, such as a text file with one name per line, in the order of the scores. null keeps
            the names in a Hugging Face folder. Other checkpoints have no names: with null, PySlowFast's networks for
            Charades get Charades' class codes, networks of 400 classes get Kinetics-400's names, and all others get
            numbers.
        all_keys: print every weight with its new name and shape.
        json: print the full report as JSON.
        options: the fields of `ConversionOptions`, each of which is an option of the command.
    """
    # Imported late, because they import PyTorch: --help answers without it.
    from farfield.checkpoints.checkpoint import is_farfield_checkpoint, load_network, save_model, write_checkpoint
    from farfield.checkpoints.converters.convert_file import convert_file
    from farfield.checkpoints.converters.hugging_face import convert_hugging_face
    from farfield.checkpoints.converters.reverse_conversion import to_pyslowfast, to_pytorchvideo
    from farfield.checkpoints.hugging_face_folder import is_hugging_face
    from farfield.commands.conversion_summary import conversion_summary, network_summary
    from farfield.curation.class_names import read_class_names

    quiet_libraries()
    if Path(out).exists():
        raise FarfieldError(f"{out} exists already. Choose another name, or remove it first.")
    if to != "farfield":
        network = load_network(input)
        write_checkpoint({"pytorchvideo": to_pytorchvideo, "slowfast": to_pyslowfast}[to](network), out)
        print(json_format.dumps({"out": out, "to": to}) if json else f"{out}: {to}, {network_summary(network)}")
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
    print(conversion_summary(network, report, out))
    return 0
