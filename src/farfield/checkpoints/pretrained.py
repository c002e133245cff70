"""Weights to begin from: where they come from, and what of them a network takes over.

A network built for other classes keeps everything but the classifier. Where all of the new classes are among the old
ones, by name, their rows of the classifier are kept, too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor

from farfield.checkpoints.checkpoint import is_ours, network_state, read_checkpoint
from farfield.checkpoints.converters.convert_file import convert_file
from farfield.checkpoints.converters.pytorchvideo_and_torchvision import PYTORCHVIDEO, TORCHVISION, pytorchvideo_clip
from farfield.checkpoints.converters.restricted_unpickler import as_tensors, read_file
from farfield.checkpoints.converters.source_checkpoint import ConversionOptions
from farfield.checkpoints.state_dicts import find_network
from farfield.errors import FarfieldError, nearest
from farfield.models.inflation import INFLATABLE, inflate, is_image_resnet
from farfield.models.network import ActionNet, assemble

log = logging.getLogger("farfield")

ZOOS = ("imagenet", "pytorchvideo", "torchvision")


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights to begin from.

    Attributes:
        name: for messages.
        state: an `ActionNet`'s, or an image network's.
        config: the arguments of `build_model` that make the network they are of; None for an image network.
    """

    name: str
    state: dict[str, Tensor]
    config: dict[str, Any] | None


def find_weights(
    weights: str | Path,
    backbone: str,
    backbone_options: Mapping[str, Any] | None = None,
    block_options: Mapping[str, Any] | None = None,
) -> PretrainedWeights:
    """Reads weights by name or path.

    Args:
        weights: "imagenet", "pytorchvideo", "torchvision", or a file: ours, a peer's, or torchvision's ResNet.
        backbone: for which network, among those that a name may mean.
        backbone_options: what a peer's file may not tell of itself.
        block_options: likewise.

    Raises:
        FarfieldError: for a name or file that does not exist, does not fit or cannot be fetched.
    """
    if str(weights) in ZOOS:
        path = _fetch(_url(str(weights), backbone))
    else:
        path = Path(weights)
        if not path.is_file():
            raise FarfieldError(f"weights is {str(weights)!r}, which is no file. Give a path, or {', '.join(ZOOS)}.")
    options = {key: value for key, value in (backbone_options or {}).items() if key != "dilated"}
    answers = ConversionOptions(backbone=backbone, backbone_options=options, block_options=dict(block_options or {}))
    return _read(str(path), path.stat().st_mtime_ns, json.dumps(asdict(answers), default=str))


@lru_cache(maxsize=1)
def _read(name: str, _modified: int, answers: str) -> PretrainedWeights:
    """Reads a file once for all that ask of it: its clips, the data's, the network's."""
    path = Path(name)
    if is_ours(path):
        content = read_checkpoint(path)
        return PretrainedWeights(str(path), network_state(content, path), content["farfield"]["model"])
    content = read_file(path)
    if isinstance(content, Mapping) and "blobs" not in content:
        image = find_network(content, path)
        if is_image_resnet(image.values):
            _log_found(path, image.notes, [*image.ignored, *((name, "not of the network") for name in image.beside)])
            return PretrainedWeights(str(path), as_tensors(image.values, path), None)
    network, report = convert_file(path, answers=ConversionOptions(**json.loads(answers)))
    _log_found(path, report.notes, report.ignored)
    return PretrainedWeights(str(path), dict(network.state_dict()), network.config)


def _log_found(path: Path, notes: Iterable[str], ignored: Sequence[tuple[str, str]]) -> None:
    for note in notes:
        log.info("%s: %s", path, note)
    if ignored:
        some = ", ".join(name for name, _ in ignored[:5])
        log.info("%s: %d weights are left out: %s%s", path, len(ignored), some, ", ..." if len(ignored) > 5 else "")


def weights_clip(
    weights: str | Path,
    backbone: str,
    backbone_options: Mapping[str, Any] | None = None,
    block_options: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """The clips that go with weights, as a `ClipSpec`'s values; None for the backbone's own. Fetches nothing.

    Raises:
        FarfieldError: as `find_weights`.
    """
    if str(weights) == "pytorchvideo" and backbone in PYTORCHVIDEO:
        return pytorchvideo_clip(backbone)
    if str(weights) in ZOOS or not Path(weights).is_file():
        return None
    config = find_weights(weights, backbone, backbone_options, block_options).config
    if config is None:
        return None
    clip = config["clip"]
    return clip if config["backbone"] == backbone else {name: clip[name] for name in ("mean", "std")}


def take_over(network: ActionNet, source: PretrainedWeights) -> None:
    """Fills a network with weights, and says in the log what it did not take over.

    Raises:
        FarfieldError: where the weights are of another network.
    """
    if source.config is None:
        inflated = inflate(source.state, network.backbone, name=network.config["backbone"], source=source.name)
        given = {f"backbone.{key}": value for key, value in inflated.items()}
        said = f"inflated; the classifier of {len(network.labels)} classes is new"
    else:
        given = {key.replace(".residual.", "."): value for key, value in source.state.items()}
        said = _keep_classifier(given, source.config["labels"], network.labels)
    wanted = {key.replace(".residual.", "."): key for key in network.state_dict()}
    _must_fit(given, {plain: network.state_dict()[key] for plain, key in wanted.items()}, source, network)
    state = network.state_dict()
    with torch.no_grad():
        for key, value in given.items():
            state[wanted[key]].copy_(value)
    log.info("weights of %s: %s", source.name, said)
    fresh = _new_blocks(given, wanted)
    if fresh:
        log.info(
            "%d inserted blocks are new: until they are trained, the network computes what it did before", len(fresh)
        )


def _keep_classifier(given: dict[str, Tensor], old: Sequence[str], new: Sequence[str]) -> str:
    """Chooses the classifier's rows in `given`, or takes it out; returns what it did, for people.

    With it go the regions of object context that stand for the classes.
    """
    numbered = len(old) != len(new) and all(label.isdigit() for label in (*old, *new))  # numbers are no names
    rows = None if numbered else classifier_rows(old, new)
    regions = [key for key in given if ".inserted.regions." in key and len(given[key]) == len(old) != len(new)]
    for key in ("head.fc.weight", "head.fc.bias", *regions):
        if rows is None:
            given.pop(key, None)
        else:
            given[key] = given[key][rows]
    if rows is None:
        return f"the classifier of {len(old)} classes is replaced by a new one of {len(new)}"
    return f"of the classifier {'all' if len(rows) == len(old) else len(rows)} classes are kept"


def _new_blocks(given: Iterable[str], wanted: Iterable[str]) -> set[str]:
    """The inserted blocks of which the weights hold nothing."""
    old = {key.split(".inserted.")[0] for key in given if ".inserted." in key}
    return {key.split(".inserted.")[0] for key in wanted if ".inserted." in key} - old


def _must_fit(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: PretrainedWeights, network: ActionNet
) -> None:
    extra = [key for key in given if key not in wanted]
    other = [key for key in given if key in wanted and given[key].shape != wanted[key].shape]
    new = tuple(f"{block}.inserted." for block in _new_blocks(given, wanted))
    may_be_new = ("head.fc.", ".inserted.regions.", "num_batches_tracked")
    missing = [
        key
        for key in wanted
        if key not in given and not key.startswith(new) and not any(part in key for part in may_be_new)
    ]
    if blocks := {key.split(".inserted.")[0] for key in extra if ".inserted." in key}:
        raise FarfieldError(
            f"the weights of {source.name} have blocks where this network has none ({len(blocks)}). Insert the same: "
            f"insert={source.config and source.config['insert']}."
        )
    if extra or other or missing:
        theirs = "" if source.config is None else f" ({source.config['backbone']})"
        raise FarfieldError(
            f"the weights of {source.name} are of another network{theirs} than {network.config['backbone']}: "
            f"{len(extra)} have no place, {len(other)} are of other shapes, {len(missing)} are missing, as "
            f"{(extra or other or missing)[0]}."
        )


def classifier_rows(old: Sequence[str], new: Sequence[str]) -> list[int] | None:
    """Where each new class is among the old ones, by name; None unless all are, each once.

    Where names differ, case and underscores do not count.
    """
    exact = {label: i for i, label in enumerate(old)}
    loose: dict[str, int | None] = {}
    for i, label in enumerate(old):
        loose[_plain(label)] = None if _plain(label) in loose else i
    rows = [exact.get(label, loose.get(_plain(label))) for label in new]
    found = [row for row in rows if row is not None]
    return found if len(set(found)) == len(new) else None


def restrict_labels(network: ActionNet, labels: Sequence[str]) -> ActionNet:
    """The same network for some of its classes: scores are the whole network's, restricted to them.

    Raises:
        FarfieldError: for a class that the network does not have, with the nearest.
    """
    rows = classifier_rows(network.labels, labels)
    if rows is None:
        known = {_plain(label) for label in network.labels}
        unknown = next((label for label in labels if _plain(label) not in known), None)
        if unknown is None:
            raise FarfieldError(
                f"the labels {list(labels)[:20]} do not name {len(labels)} different classes of the network."
            )
        raise FarfieldError(f"the network has no class {unknown!r}. {nearest(unknown, network.labels)}")
    state = dict(network.state_dict())
    for key in ("head.fc.weight", "head.fc.bias"):
        state[key] = state[key][rows]
    restricted = assemble(**network.config | {"labels": list(labels)})
    restricted.load_state_dict(state)
    device, dtype = network.head.fc.weight.device, network.head.fc.weight.dtype
    return restricted.to(device=device, dtype=dtype).train(network.training)


def _plain(label: str) -> str:
    return str(label).replace("_", " ").casefold()


def _url(zoo: str, backbone: str) -> str:
    known: Sequence[str]
    if zoo == "imagenet":
        from torchvision.models import ResNet50_Weights, ResNet101_Weights

        if backbone in INFLATABLE:
            image = ResNet50_Weights if backbone.endswith("r50") else ResNet101_Weights
            return image.IMAGENET1K_V1.url
        known = INFLATABLE
    elif zoo == "torchvision":
        from torchvision.models import get_model_weights

        if backbone in TORCHVISION:
            return get_model_weights(backbone).KINETICS400_V1.url
        known = TORCHVISION
    else:
        if backbone in PYTORCHVIDEO:
            return _pytorchvideo_url(backbone)
        known = PYTORCHVIDEO
    raise FarfieldError(
        f"weights={zoo!r} has none for {backbone}; it has them for {', '.join(known)}. "
        "Give weights=None (null in a config) to begin from nothing, or a checkpoint."
    )


def _pytorchvideo_url(backbone: str) -> str:
    from pytorchvideo.models.hub import csn, r2plus1d, resnet, slowfast, x3d

    hub_name = {"slowfast_16x8_r101": "slowfast_16x8_r101_50_50"}.get(backbone, backbone)
    modules = (csn, r2plus1d, resnet, slowfast, x3d)
    return next(m.checkpoint_paths[hub_name] for m in modules if hub_name in m.checkpoint_paths)


def _fetch(url: str) -> Path:
    """The file behind a URL in torch hub's cache, fetched where it is not there yet."""
    path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[1])
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path))
        except (URLError, OSError) as error:
            raise FarfieldError(
                f"{url} cannot be fetched: {error}. Fetch it elsewhere, and give weights its path, or put it at {path}."
            ) from error
    return path
