"""Find pretrained weights and load them into a network.

The rows of the classifier are matched to the network's classes by name. If the weights lack one of these classes, the
network's classifier keeps its random initialisation, and all other weights are loaded.
"""

from __future__ import annotations

import inspect
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

from farfield.checkpoints.checkpoint import is_farfield_checkpoint, network_state, read_checkpoint
from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.checkpoints.converters.convert_file import convert_file
from farfield.checkpoints.converters.pytorchvideo_and_torchvision import PYTORCHVIDEO, TORCHVISION, pytorchvideo_clip
from farfield.checkpoints.converters.restricted_unpickler import as_tensors, read_file
from farfield.checkpoints.hub_folder import load_folder
from farfield.checkpoints.hugging_face import read_hugging_face
from farfield.checkpoints.hugging_face_folder import is_hugging_face
from farfield.checkpoints.state_dicts import find_network
from farfield.errors import FarfieldError
from farfield.layers import AttentivePool3d
from farfield.models import efficientnet_lite_weights
from farfield.models.class_subset import classifier_rows
from farfield.models.inflation import INFLATABLE, RESNETS, inflate, is_image_network
from farfield.models.network import ActionNet
from farfield.task import DEFAULT_TASK

log = logging.getLogger("farfield")

ZOOS = ("imagenet", "pytorchvideo", "torchvision")
ATTENTIVE_POOLS = "head.attentive_pools."
"""Prefix of the weights of an attentive head's pooling."""


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights to initialise a network from.

    Attributes:
        name: path of the file, for messages.
        state: state dict of an `ActionNet`, or of an image network.
        config: options of the network that the weights belong to, as in `NetworkOptions`; None for an image network.
        `config.labels` is None if the weights have no classifier.
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
    """Read pretrained weights from a model zoo, a file or a folder.

    Args:
        weights: a model zoo ("imagenet", "pytorchvideo", "torchvision"); the path of a farfield checkpoint, of a
            checkpoint that `farfield convert` reads, or of an image network (torchvision's ResNet, or
            EfficientNet-Lite0); the folder that `farfield export --to_folder` wrote; or a Hugging Face video encoder,
            given by its folder or its name on huggingface.co.
        backbone: name of the backbone to find weights for.
        backbone_options: backbone options of the network to initialise, needed if another project's file does not
            state them; None for no options.
        block_options: options of the non-local blocks, needed if another project's file does not state them; None for
            no options.

    Raises:
        FarfieldError: for a file or folder, if it does not exist or cannot be read or converted. For a model zoo, if
            the zoo has no weights for the backbone, the package with the weights is missing, or the download fails. For
            a Hugging Face model, if it cannot be read or is not of a supported family, or if `backbone` is not "hf".
    """
    if is_hugging_face(weights):
        return _of_hugging_face(weights, backbone, backbone_options or {})
    if str(weights) in ZOOS:
        path = _zoo_file(str(weights), backbone)
    else:
        path = Path(weights)
        if path.is_dir():
            network = load_folder(path)
            return PretrainedWeights(str(path), dict(network.state_dict()), network.config)
        if not path.is_file():
            raise FarfieldError(
                f"weights is {str(weights)!r}, which does not exist. Give the path of a file, or a model zoo: "
                f"{', '.join(ZOOS)}."
            )
    options = ConversionOptions(
        backbone=backbone,
        backbone_options={key: value for key, value in (backbone_options or {}).items() if key != "dilated"},
        block_options=dict(block_options or {}),
    )
    return _read(str(path), path.stat().st_mtime_ns, json.dumps(asdict(options), default=str))


def _of_hugging_face(weights: str | Path, backbone: str, options: Mapping[str, Any]) -> PretrainedWeights:
    """Read a Hugging Face video encoder.

    If `options` sets the backbone option `output` to another value than the checkpoint's, the checkpoint's head is
    dropped, since it was trained on another output of the encoder.
    """
    if backbone != "hf":
        raise FarfieldError(
            f"weights is {str(weights)!r}, a checkpoint of Hugging Face, but backbone is {backbone!r}. Set backbone to "
            "'hf'."
        )
    found = read_hugging_face(weights)
    _log_notes(Path(weights), found.notes, [])
    state, config = dict(found.state), dict(found.options)
    own = config["backbone_options"]
    if options.get("output", own["output"]) != own["output"]:
        config |= {"labels": None, "backbone_options": {**own, "output": options["output"]}}
        state = {name: value for name, value in state.items() if not name.startswith("head.")}
    return PretrainedWeights(str(weights), state, config)


@lru_cache(maxsize=1)
def _read(name: str, _modified: int, options: str) -> PretrainedWeights:
    """Read a weight file. The last result is cached, since weights and clip settings are read in separate calls.

    Args:
        name: path of the file.
        _modified: modification time of the file, so that a changed file is read again.
        options: `ConversionOptions` as JSON, for a file of another project.
    """
    path = Path(name)
    if is_farfield_checkpoint(path):
        content = read_checkpoint(path)
        return PretrainedWeights(str(path), network_state(content, path), content["farfield"]["model"])
    content = read_file(path)
    if isinstance(content, Mapping) and "blobs" not in content:
        image = find_network(content, path)
        if is_image_network(image.values):
            beside = [(name, "not part of the network") for name in image.beside]
            _log_notes(path, image.notes, [*image.ignored, *beside])
            return PretrainedWeights(str(path), as_tensors(image.values, path), None)
    network, report = convert_file(path, options=ConversionOptions(**json.loads(options)))
    _log_notes(path, report.notes, report.ignored)
    return PretrainedWeights(str(path), dict(network.state_dict()), network.config)


def _log_notes(path: Path, notes: Iterable[str], ignored: Sequence[tuple[str, str]]) -> None:
    for note in notes:
        log.info("%s: %s", path, note)
    if ignored:
        some = ", ".join(name for name, _ in ignored[:5])
        log.info(
            "%s: weights that are not used (%d): %s%s", path, len(ignored), some, ", ..." if len(ignored) > 5 else ""
        )


def weights_clip(
    weights: str | Path,
    backbone: str,
    backbone_options: Mapping[str, Any] | None = None,
    block_options: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Return the clip settings that weights were trained with, as a `ClipSpec`'s values.

    Nothing is downloaded, except a model given by its name on huggingface.co. The arguments are those of
    `find_weights`.

    Returns:
        Some or all values of `ClipSpec`; only mean and std if the weights belong to another backbone. None if no
        settings are known for the weights (for example, those of an image network), or if the file does not exist. The
        backbone's default settings then apply.

    Raises:
        FarfieldError: if an existing file cannot be read or converted. For a Hugging Face model, if `find_weights`
            raises it.
    """
    if str(weights) == "pytorchvideo" and backbone in PYTORCHVIDEO:
        return pytorchvideo_clip(backbone)
    if str(weights) in ZOOS or not (Path(weights).exists() or is_hugging_face(weights)):
        return None
    config = find_weights(weights, backbone, backbone_options, block_options).config
    if config is None:
        return None
    clip = config["clip"]
    return clip if config["backbone"] == backbone else {name: clip[name] for name in ("mean", "std")}


def load_pretrained(network: ActionNet, source: PretrainedWeights) -> None:
    """Load weights into a network, and log what was not loaded.

    Raises:
        FarfieldError: if the weights do not fit the network.
    """
    if source.config is None:
        inflated = inflate(source.state, network.backbone, name=network.config["backbone"], source=source.name)
        given = {f"backbone.{key}": value for key, value in inflated.items()}
        summary = f"inflated to 3D; the classifier ({len(network.labels)} classes) has new, random weights"
    else:
        given = {key.replace(".residual.", "."): value for key, value in source.state.items()}
        same_pooling = _has_same_pooling(source.config, network.config)
        summary = _match_classifier(given, source.config["labels"] or [], network, same_pooling=same_pooling)
        _log_other_task(network, source)
        if not same_pooling:
            given = {key: value for key, value in given.items() if not key.startswith(ATTENTIVE_POOLS)}
    state = network.state_dict()
    wanted = {key.replace(".residual.", "."): key for key in state}
    _check_fit(given, {plain: state[key] for plain, key in wanted.items()}, source, network)
    with torch.no_grad():
        for key, value in given.items():
            state[wanted[key]].copy_(value)
    log.info("weights of %s: %s", source.name, summary)
    if any(key.startswith(ATTENTIVE_POOLS) and key not in given for key in wanted):
        log.info("the attentive head's pooling has new, random weights")
    fresh = _new_blocks(given, wanted)
    if fresh:
        log.info("inserted blocks without pretrained weights: %d; each is the identity until it is trained", len(fresh))


def _has_same_pooling(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Return whether two networks' heads pool features in the same way: by an average, or by the same attention."""
    if "attentive" not in (theirs.get("head"), ours["head"]):
        return True
    if theirs.get("head") != ours["head"]:
        return False
    defaults = {name: each.default for name, each in inspect.signature(AttentivePool3d).parameters.items()}
    return {**defaults, **(theirs.get("head_options") or {})} == {**defaults, **ours["head_options"]}


def _log_other_task(network: ActionNet, source: PretrainedWeights) -> None:
    """Log a message if the weights were trained for another task than the network's.

    The classifier and the view aggregation may then not fit.
    """
    assert source.config is not None
    trained = source.config.get("task") or DEFAULT_TASK
    if trained != network.task:
        log.info(
            "%s was trained with the task '%s', but this network's task is '%s'. To keep the task of the weights, set "
            "model.task to '%s'. Check that clip.views_aggregation, which is '%s', suits the task",
            source.name,
            trained,
            network.task,
            trained,
            network.clip.views_aggregation,
        )


def _match_classifier(given: dict[str, Tensor], old: Sequence[str], network: ActionNet, *, same_pooling: bool) -> str:
    """Reduce the classifier in `given` to the network's classes, or remove it if `old` lacks one of these classes.

    If the weights have object-context blocks with one region per class, the regions' weights are also reduced to the
    network's classes, in the network's order, or removed if `old` lacks one of these classes. Exception: if the network
    has the same number of regions as the weights, but not the same classes, the regions' weights are kept unchanged.

    If `old` and the network have different numbers of classes, and all their class names are numbers ("0", "1", ...),
    these names are placeholders. In this case, `old` counts as lacking the network's classes.

    Args:
        given: weights to load, by state-dict key; changed in place.
        old: class names of the weights.
        network: network that the weights are loaded into.
        same_pooling: whether both networks pool features in the same way. Otherwise the classifier is removed, because
            it was trained on other features.

    Returns:
        A summary for the log.
    """
    new = network.labels
    sizes = {key.replace(".residual.", "."): len(value) for key, value in network.state_dict().items() if value.ndim}
    numbered = len(old) != len(new) and all(label.isdigit() for label in (*old, *new))  # placeholders, not names
    rows = None if numbered else classifier_rows(old, new)
    regions = [key for key in given if ".inserted.regions." in key and len(given[key]) == len(old)]
    if len(old) != len(new):
        regions = [key for key in regions if sizes.get(key) != len(old)]
    elif rows is None:  # as many regions, of other classes
        regions = []
    classifier = ("head.fc.weight", "head.fc.bias")
    removed = [*classifier, *regions] if rows is None else [] if same_pooling else classifier
    for key in (*classifier, *regions):
        if key in removed:
            given.pop(key, None)
        else:
            given[key] = given[key][rows]
    if rows is None or not same_pooling:
        if not old:
            return f"they have no classifier; the network's classifier of {len(new)} classes has new, random weights"
        return f"the classifier of {len(old)} classes is replaced by a new one of {len(new)} classes"
    return f"the classifier's rows of {'all' if len(rows) == len(old) else len(rows)} classes are kept"


def _new_blocks(given: Iterable[str], wanted: Iterable[str]) -> set[str]:
    """Return the names of the network's inserted blocks that have no weights in `given`."""
    old = {key.split(".inserted.")[0] for key in given if ".inserted." in key}
    return {key.split(".inserted.")[0] for key in wanted if ".inserted." in key} - old


def _check_fit(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: PretrainedWeights, network: ActionNet
) -> None:
    """Raise if weights are missing, unexpected or misshapen. New blocks and the classifier may lack weights."""
    extra = [key for key in given if key not in wanted]
    other = [key for key in given if key in wanted and given[key].shape != wanted[key].shape]
    new = tuple(f"{block}.inserted." for block in _new_blocks(given, wanted))
    may_be_new = ["head.fc.", ".inserted.regions.", "num_batches_tracked"]
    if source.config is not None and not source.config["labels"]:
        may_be_new.append("head.embedding.")
    if not any(key.startswith(ATTENTIVE_POOLS) for key in given):
        may_be_new.append(ATTENTIVE_POOLS)
    missing = [
        key
        for key in wanted
        if key not in given and not key.startswith(new) and not any(part in key for part in may_be_new)
    ]
    if blocks := {key.split(".inserted.")[0] for key in extra if ".inserted." in key}:
        raise FarfieldError(
            f"the weights of {source.name} have inserted blocks (number: {len(blocks)}) that this network lacks. Build "
            f"the network with the same blocks: insert={source.config and source.config['insert']}."
        )
    if extra or other or missing:
        theirs = "" if source.config is None else f" ({source.config['backbone']})"
        raise FarfieldError(
            f"the weights of {source.name}{theirs} do not fit {network.config['backbone']}: {len(extra)} are "
            f"unexpected, {len(other)} are of another shape and {len(missing)} are missing. One of these weights is "
            f"{(extra or other or missing)[0]}. Give weights of a network with the same backbone and options."
        )


def _zoo_file(zoo: str, backbone: str) -> Path:
    """Return the path of a model zoo's weights for a backbone: a downloaded file, or a file of an installed package.

    Raises:
        FarfieldError: if the zoo has no weights for this backbone, the download fails, or the package is missing.
    """
    if (zoo, backbone) == ("imagenet", efficientnet_lite_weights.BACKBONE):
        return efficientnet_lite_weights.weights_path()
    return _download(_url(zoo, backbone))


def _url(zoo: str, backbone: str) -> str:
    """Return the address of a backbone's weights in a model zoo.

    Raises:
        FarfieldError: if the zoo has no weights for this backbone.
    """
    known: Sequence[str]
    if zoo == "imagenet":
        from torchvision.models import ResNet50_Weights, ResNet101_Weights

        if backbone in RESNETS:
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
        f"weights is {zoo!r}, a model zoo that has no weights for {backbone}, only for {', '.join(known)}. Give the "
        "path of a file, or leave weights out (null in a config) for random weights."
    )


def _pytorchvideo_url(backbone: str) -> str:
    from pytorchvideo.models.hub import csn, r2plus1d, resnet, slowfast, x3d

    hub_name = {"slowfast_16x8_r101": "slowfast_16x8_r101_50_50"}.get(backbone, backbone)
    modules = (csn, r2plus1d, resnet, slowfast, x3d)
    return next(m.checkpoint_paths[hub_name] for m in modules if hub_name in m.checkpoint_paths)


def _download(url: str) -> Path:
    """Return the path of a file in torch hub's cache, downloading it if necessary."""
    path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[1])
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path))
        except (URLError, OSError) as error:
            raise FarfieldError(
                f"{url} cannot be downloaded: {error}. Download the file elsewhere and give its path, or "
                f"save it as {path}."
            ) from error
    return path
