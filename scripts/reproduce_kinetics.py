"""Measure published Kinetics-400 accuracies again, by the published number of clips and crops.

scripts/reproduce_kinetics.sh VIDEOS --annotations val.csv --out runs/kinetics400
scripts/reproduce_kinetics.sh VIDEOS --annotations val.csv --out runs/kinetics400 --networks all --devices 8
scripts/reproduce_kinetics.sh VIDEOS --annotations val.csv --out runs/kinetics400 --networks i3d_r50+nl5 \
    --weights i3d_r50+nl5=I3D_NLN_8x8_R50.pyth

VIDEOS holds the validation videos, and val.csv is Kinetics' list of them; without --annotations, VIDEOS has a folder
for each class, whose name may have underscores for spaces (abseiling, air_drumming). Networks are those of
farfield.models.published_results, which also holds the published accuracies. Weights are downloaded from PyTorchVideo
or torchvision unless --weights names a file. The test of each network is in OUT/NETWORK/test, the table in OUT/table.md
and OUT/table.json. If it was stopped, the same command resumes after the networks that are done.

This script has not been run on Kinetics-400 itself; tests run it on generated videos.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from farfield import build_model, save_model
from farfield.atomic_write import write_text_atomically
from farfield.checkpoints.converters.pytorchvideo_and_torchvision import PYTORCHVIDEO, TORCHVISION
from farfield.checkpoints.pretrained import find_weights
from farfield.curation.index import index_videos
from farfield.data.manifest import read_manifest, write_manifest
from farfield.errors import FarfieldError, nearest
from farfield.kinetics_labels import kinetics400_labels
from farfield.models.published_results import PUBLISHED, PublishedResult, published_figures


@dataclass(frozen=True)
class Row:
    """A network's row of the table. Accuracies are in per cent; those that were not measured are None.

    Attributes:
        network: backbone, and "+" and the preset of inserted blocks.
        views: clips x crops of each video.
        top1: measured accuracy.
        interval: its 95% interval (Wilson's).
        published: published accuracy.
        source: where it is published.
        videos: number of tested videos.
        missing: number of listed videos that the folder lacks, or that could not be read.
        error: why nothing was measured; None if it was.
    """

    network: str
    views: str
    top1: float | None
    interval: tuple[float, float] | None
    published: float
    source: str
    videos: int
    missing: int
    error: str | None = None


def network_names() -> dict[str, tuple[str, str | None]]:
    """Return the backbone and the preset of inserted blocks of each network that has a published accuracy, by name."""
    return {
        backbone if insert is None else f"{backbone}+{insert}": (backbone, insert) for backbone, insert in PUBLISHED
    }


def index_once(options: argparse.Namespace) -> int:
    """Write OUT/videos.csv unless an earlier run has; return the number of listed videos that are missing.

    Raises:
        FarfieldError: if OUT was made from other videos, or the videos cannot be indexed.
    """
    record, manifest = options.out / "videos.json", options.out / "videos.csv"
    annotations = None if options.annotations is None else str(options.annotations.absolute())
    asked = {"videos": str(options.videos.absolute()), "annotations": annotations}
    if record.is_file() and manifest.is_file():
        known = json.loads(record.read_text())
        if {name: known.get(name) for name in asked} != asked:
            raise FarfieldError(f"{options.out} holds results of other videos. Give another --out.")
        return len(known["missing"])
    found = index_videos(
        options.videos,
        manifest,
        format="folders" if annotations is None else "kinetics",
        annotations=annotations,
        subset=None if annotations is None else "val",
        num_workers=options.num_workers,
    )
    write_json(record, asked | {"missing": [{"path": path, "reason": reason} for path, reason in found.failures]})
    return len(found.failures)


def choose_videos(out: Path, num_videos: int | None, seed: int) -> Path:
    """Return the manifest of all videos, or write one of `num_videos` random ones.

    Labels with underscores for spaces, such as MMAction2's folder names, are replaced in the manifest.

    Raises:
        FarfieldError: for a class that is not one of Kinetics-400's.
    """
    path = out / "videos.csv"
    manifest = read_manifest(path)
    names = {label: class_of(label) for label in manifest.labels}
    if any(label != name for label, name in names.items()):
        write_manifest(path, [replace(row, label=class_of(row.label)) for row in manifest])
        manifest = read_manifest(path)
    if num_videos is None or num_videos >= len(manifest):
        return path
    chosen = sorted(random.Random(seed).sample(range(len(manifest)), num_videos))
    subset = out / f"videos_{num_videos}_{seed}.csv"
    write_manifest(subset, [manifest[row] for row in chosen])
    return subset


def class_of(label: str) -> str:
    """Return the class of Kinetics-400 that a label names; the label may have underscores for spaces.

    Raises:
        FarfieldError: if there is no such class.
    """
    known = kinetics400_labels()
    for name in (label, label.replace("_", " ")):
        if name in known:
            return name
    raise FarfieldError(f"{label!r} is not a class of Kinetics-400. {nearest(label, known)}")


def write_network(name: str, weights: str, path: Path) -> None:
    """Write the published network as a checkpoint.

    Raises:
        FarfieldError: if the weights cannot be read, or belong to another network or to other classes.
    """
    backbone, insert = network_names()[name]
    config = find_weights(weights, backbone).config or {}
    labels = kinetics400_labels()
    if sorted(config.get("labels") or []) != sorted(labels):
        raise FarfieldError(
            f"{weights} has no classifier of Kinetics-400's 400 classes. Give the published checkpoint."
        )
    if bool(config["insert"]) != bool(insert):
        raise FarfieldError(f"{weights} is not {name}: its inserted blocks are {config['insert']}.")
    network = build_model(backbone, labels=labels, weights=weights, insert=insert)
    if published_figures(network) != PUBLISHED[backbone, insert]:
        raise FarfieldError(
            f"{weights} is not the published {name}: its clips or options differ. Give the published checkpoint."
        )
    save_model(network, path)


def measure(name: str, weights: str, manifest: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Test a network, or return the result of an earlier test of the same weights and videos.

    Raises:
        FarfieldError: if the weights do not fit, or the test fails.
    """
    published = PUBLISHED[network_names()[name]]
    folder = options.out / name
    asked = {"weights": weights, "manifest": manifest.name, "views": published.views}
    record = folder / "result.json"
    if record.is_file() and (known := json.loads(record.read_text()))["asked"] == asked:
        return known
    folder.mkdir(parents=True, exist_ok=True)
    write_network(name, weights, folder / "network.ckpt")
    clips, crops = published.views.split(" x ")
    words = ["test", "--checkpoint", folder / "network.ckpt", "--data.manifest", manifest, "--out", folder / "test"]
    words += ["--num_clips", clips, "--num_crops", crops, "--data.batch_size", options.batch_size]
    words += ["--view_batch_size", options.view_batch_size, "--accelerator", options.accelerator]
    words += ["--devices", options.devices, "--precision", options.precision, "--decoder", options.decoder]
    if options.num_workers is not None:
        words += ["--data.num_workers", options.num_workers]
    command = [sys.executable, "-m", "farfield", *map(str, words)]
    if subprocess.run(command, stdout=sys.stderr).returncode:  # a process of its own: memory, and one for each device
        raise FarfieldError(f"the test of {name} failed; its message is above.")
    report = json.loads((folder / "test" / "report.json").read_text())
    result = {
        "asked": asked,
        "top1": report["top1"],
        "videos": report["videos"],
        "undecodable": len(report["undecodable_videos"]),
    }
    write_json(record, result)
    return result


def row_of(name: str, weights: dict[str, str], manifest: Path, missing: int, options: argparse.Namespace) -> Row:
    """Measure a network and compare it with its published accuracy."""
    published: PublishedResult = PUBLISHED[network_names()[name]]
    fixed: dict[str, Any] = {"published": published.top1, "source": published.source, "views": published.views}
    try:
        found = measure(name, weights.get(name) or zoo_of(name), manifest, options)
    except FarfieldError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return Row(name, **fixed, top1=None, interval=None, videos=0, missing=missing, error=str(error))
    low, high = (100 * found["top1"][end] for end in ("low", "high"))
    total = missing + found["undecodable"]
    return Row(
        name, **fixed, top1=100 * found["top1"]["value"], interval=(low, high), videos=found["videos"], missing=total
    )


def zoo_of(name: str) -> str:
    """Return the model zoo that publishes a network's weights.

    Raises:
        FarfieldError: if they must be given as a file.
    """
    backbone, insert = network_names()[name]
    if insert is None and backbone in PYTORCHVIDEO:
        return "pytorchvideo"
    if insert is None and backbone in TORCHVISION:
        return "torchvision"
    raise FarfieldError(f"the weights of {name} cannot be downloaded here. Give their file: --weights {name}=FILE.")


def table(rows: Sequence[Row]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| network | views | top-1 | 95% interval | published | difference | videos | missing |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.top1 is None or row.interval is None:
            ours = "not measured | | " + f"{row.published:.2f}% | "
        else:
            low, high = row.interval
            ours = f"{row.top1:.2f}% | {low:.2f} to {high:.2f} | {row.published:.2f}% | {row.top1 - row.published:+.2f}"
        lines.append(f"| `{row.network}` | {row.views} | {ours} | {row.videos} | {row.missing} |")
    sources = dict.fromkeys(row.source for row in rows)
    lines += [
        "",
        f"Published: {', '.join(sources)}. Missing videos are those that the folder lacks or that are damaged.",
    ]
    return "\n".join(lines)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    write_text_atomically(path, json.dumps(content, indent=2) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line, and check the names of networks."""
    names = network_names()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("videos", type=Path, help="folder of the validation videos, named ID_START_END.mp4, or a folder for each class")
    add("--annotations", type=Path, help="Kinetics' CSV of the validation videos; without it, folders are classes")
    add("--out", type=Path, required=True, help="folder of the results")
    add("--networks", nargs="+", default=["slow_r50"], help=f"all, or some of: {', '.join(names)}")
    add(
        "--weights", nargs="+", default=[], metavar="NETWORK=FILE", help="published checkpoints that are not downloaded"
    )
    add("--num_videos", type=int, help="test on this many random videos; default: all")
    add("--seed", type=int, default=0, help="chooses the random videos")
    add("--accelerator", default="auto", help="as of farfield test; so are the next six")
    add("--devices", type=int, default=1)
    add("--precision", default="32-true")
    add("--decoder", default="pyav")
    add("--batch_size", type=int, default=1, help="videos in a batch")
    add("--view_batch_size", type=int, default=16, help="views in a forward pass")
    add("--num_workers", type=int, help="decoding processes")
    add("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args(arguments)
    if options.networks == ["all"]:
        options.networks = list(names)
    weights = dict(each.partition("=")[::2] for each in options.weights)
    for name in (*options.networks, *weights):
        if name not in names:
            parser.error(f"there is no published accuracy of {name!r}. {nearest(name, names)}")
    for name, file in weights.items():
        if not Path(file).is_file():
            parser.error(f"there is no file {file!r} of weights of {name}. Write --weights NETWORK=FILE.")
    if options.num_videos is not None and options.num_videos < 1:
        parser.error(f"--num_videos is {options.num_videos}; it must be at least 1.")
    options.weights = {name: str(Path(file).absolute()) for name, file in weights.items()}
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if all networks were measured, 1 if some were not, 2 if the videos cannot be used."""
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        missing = index_once(options)
        manifest = choose_videos(options.out, options.num_videos, options.seed)
    except FarfieldError as error:
        print(f"reproduce_kinetics: {error}", file=sys.stderr)
        return 2
    rows = [row_of(name, options.weights, manifest, missing, options) for name in options.networks]
    write_json(options.out / "table.json", [asdict(row) for row in rows])
    write_text_atomically(options.out / "table.md", table(rows) + "\n")
    print(json.dumps([asdict(row) for row in rows], indent=2) if options.json else table(rows))
    return int(any(row.error for row in rows))


if __name__ == "__main__":
    sys.exit(main())
