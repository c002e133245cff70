"""Make farfield networks from video encoders and video classifiers that Hugging Face's `transformers` saved.

The weights are first loaded into the model classes of `transformers`, since these classes also accept the weight names
of earlier versions of `transformers`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farfield.checkpoints.folder_files import read_json_object
from farfield.checkpoints.hugging_face_clip import preprocessing, sampling
from farfield.checkpoints.hugging_face_folder import CONFIG, REMEDY, find_folder, read_weights
from farfield.checkpoints.rebuild import rebuild
from farfield.errors import FarfieldError
from farfield.models.backbones.hugging_face import FAMILIES, Family, architecture_entries, first_line, read_config
from farfield.models.network import ActionNet, default_clip
from farfield.models.network_options import NetworkOptions
from farfield.optional_dependencies import require_packages
from farfield.task import least_classes

log = logging.getLogger("farfield")

_EARLIER_ENTRIES = {"videomae": ("qkv_bias",)}
"""Config entries of earlier versions of `transformers` that the current version still reads, by `model_type`."""
_PRETRAINING_ONLY = ("decoder.", "encoder_to_decoder.", "mask_token", "predictor.", "position_embeddings", "pooler.")
"""Prefixes of the names of weights that only pretraining uses."""


@dataclass(frozen=True)
class HuggingFaceCheckpoint:
    """Network options and weights of a checkpoint that `transformers` saved.

    Attributes:
        folder: the folder that was read.
        origin: name of the model class in `transformers`.
        options: fields of `NetworkOptions` as plain types. `labels` is None without a classifier.
        state: state dict of an `ActionNet`, or only of its backbone if there is no classifier.
        names: dict from each weight's name in the `transformers` model to its name in `state`.
        version: installed version of `transformers`.
        notes: information for the user, such as settings that the folder does not state.
    """

    folder: Path
    origin: str
    options: dict[str, Any]
    state: dict[str, Tensor]
    names: dict[str, str]
    version: str
    notes: list[str] = field(default_factory=list)

    def require_classifier(self) -> None:
        """Raise `FarfieldError` if there is no classifier."""
        if self.options["labels"] is None:
            raise FarfieldError(
                f"{self.folder} has no classifier ({self.origin}, pretrained without labels), so it cannot predict. "
                f"Train one on your classes: farfield fit --model.backbone hf --model.weights {self.folder} ..."
            )


def load_hugging_face(
    path: str | Path, *, labels: Sequence[str] | None = None, clip: Mapping[str, Any] | None = None
) -> ActionNet:
    """Load a classification network that `transformers` saved. The network is in evaluation mode, on the CPU.

    Args:
        path: folder, or name on huggingface.co.
        labels: class names that replace those in the folder; None keeps them.
        clip: clip settings that override those of the folder and of the model's paper.

    Raises:
        FarfieldError: if the folder cannot be read, is not of a supported family, or has no classifier.
    """
    found = read_hugging_face(path)
    found.require_classifier()
    for note in found.notes:
        log.info("%s: %s", path, note)
    network = build_network(found, labels=labels, clip=clip)
    _read.cache_clear()  # the network has copies of the weights
    return network


def build_network(
    found: HuggingFaceCheckpoint, *, labels: Sequence[str] | None = None, clip: Mapping[str, Any] | None = None
) -> ActionNet:
    """Build an `ActionNet` from a checkpoint that has a classifier, see `load_hugging_face`."""
    _check_classes(found, has_own_names=labels is None)
    count = len(found.options["labels"])
    if labels is not None and len(labels) != count:
        raise FarfieldError(
            f"the number of labels is {len(labels)}, but {found.folder} has {count} classes. Give one label per class."
        )
    options = {**found.options, "clip": {**found.options["clip"], **(clip or {})}}
    if labels is not None:
        options["labels"] = list(labels)
    return rebuild(options, found.state, described=found.folder / CONFIG, weights=found.folder)


def _check_classes(found: HuggingFaceCheckpoint, *, has_own_names: bool) -> None:
    """Check that a checkpoint has enough classes for its task, and that its class names, if used, differ.

    Args:
        found: the checkpoint.
        has_own_names: True if the class names of the checkpoint are used, False if the user gave others.

    Raises:
        FarfieldError: if a single-label network has fewer than two classes, or if `has_own_names` and two classes have
            the same name.
    """
    path, labels = found.folder / CONFIG, found.options["labels"]
    if len(labels) < least_classes(found.options["task"]):
        raise FarfieldError(
            f"{found.folder} has one class, whose probability would always be 1; a single-label network needs at least "
            f"two. For a sigmoid instead of a softmax, set problem_type to 'multi_label_classification' in {path}."
        )
    repeated = sorted({name for name in labels if labels.count(name) > 1})
    if repeated and has_own_names:
        raise FarfieldError(
            f"several classes of {found.folder} have the name {repeated[0]!r}; each class needs its own name. Correct "
            f"id2label in {path}, or give names with farfield convert --labels FILE."
        )


def read_hugging_face(path: str | Path) -> HuggingFaceCheckpoint:
    """Read a checkpoint that `transformers` saved. The last checkpoint is cached, since callers read it several times.

    Args:
        path: folder, or name on huggingface.co.

    Raises:
        FarfieldError: if the folder cannot be read or is not of a supported family.
    """
    folder = find_folder(path)
    try:
        modified = max((each.stat().st_mtime_ns for each in folder.iterdir() if each.exists()), default=0)
    except OSError as error:
        raise FarfieldError(
            f"{folder} cannot be read: {error.strerror}. Give a folder that you have permission to read."
        ) from error
    return _read(str(folder), modified)


@lru_cache(maxsize=1)
def _read(name: str, _modified: int) -> HuggingFaceCheckpoint:
    folder = Path(name)
    raw = read_json_object(folder / CONFIG, remedy=REMEDY)
    family, made = _read_config(raw, folder)
    state = read_weights(folder)
    kind = made.model_type
    rows = state.get("classifier.weight")
    count = len(rows) if rows is not None and rows.ndim == 2 else 0
    if count:
        made.num_labels = count
    model = _load(family, made, state, folder, "ForVideoClassification" if count else "Model")
    options = _options(raw, made, count)
    clip = default_clip("hf", options["backbone_options"])
    settings, notes = preprocessing(folder, kind, clip)
    labels = options["labels"]
    changes = sampling(kind, labels or [])
    options["clip"] = clip.replace(**settings, **changes).to_dict()
    if labels is not None and labels[0] == "LABEL_0":
        notes.append("the classes have no names; farfield convert --labels FILE gives them names")
    values = model.state_dict()
    names = _names(values, made.model_type, model.base_model_prefix if count else "")
    return HuggingFaceCheckpoint(
        folder,
        type(model).__name__,
        NetworkOptions(**options).to_dict(),
        {ours: values[theirs] for theirs, ours in names.items()},
        names,
        version("transformers"),
        notes,
    )


def _read_config(raw: Mapping[str, Any], folder: Path) -> tuple[Family, Any]:
    """Check a folder's config, and return its model family and a `transformers` config object.

    `raw` is the content of the folder's config.json. The config object is made only from those entries of `raw` that
    define the architecture.
    """
    kind = raw.get("model_type")
    if kind not in FAMILIES:
        classes = raw.get("architectures")
        named = f" ({classes[0]})" if isinstance(classes, list) and classes else ""
        raise FarfieldError(
            f"{folder} holds a network of model_type {kind!r}{named}, which is not a video encoder that farfield can "
            f"run. Give a folder of one of these: {', '.join(FAMILIES)}."
        )
    with require_packages("transformers"):
        import transformers
    kind_of_config = getattr(transformers, f"{FAMILIES[kind].classes}Config")
    known = architecture_entries(kind_of_config())
    entries = {name: raw[name] for name in raw if name in known or name in _EARLIER_ENTRIES.get(kind, ())}
    try:
        made = kind_of_config.from_dict(entries)
    except Exception as error:  # validators of huggingface_hub have a hierarchy of their own
        raise FarfieldError(f"{folder / CONFIG} is invalid: {' '.join(str(error).split())}") from error
    return read_config({name: value for name, value in architecture_entries(made).items() if name in known})


def _options(raw: Mapping[str, Any], made: Any, count: int) -> dict[str, Any]:
    """Return the fields of `NetworkOptions` except `clip`.

    Args:
        raw: content of the folder's config.json.
        made: `transformers` config object, made from those entries of `raw` that define the architecture.
        count: number of classes; 0 without a classifier.
    """
    uses_first_token = made.model_type in ("timesformer", "vivit") or (
        made.model_type == "videomae" and not made.use_mean_pooling and count > 0
    )
    options: dict[str, Any] = {
        "backbone": "hf",
        "backbone_options": {
            "config": architecture_entries(made),
            "output": "class_token" if uses_first_token else "map",
        },
        "labels": _labels(raw, count) if count else None,
        "dropout": 0.0,
        "head": "gap_fc",
        "task": _task(raw) if count else "single_label",
    }
    if made.model_type == "vjepa2" and count:
        if made.hidden_act != "gelu":
            raise FarfieldError(
                f"the pooler of V-JEPA 2 has hidden_act {made.hidden_act!r}; farfield supports only gelu. Use another "
                "checkpoint."
            )
        options["head"] = "attentive"
        options["head_options"] = {
            "num_heads": made.num_attention_heads,
            "depth": made.num_pooler_layers + 1,
            "norm_eps": made.layer_norm_eps,
        }
    return options


def _task(raw: Mapping[str, Any]) -> str:
    """Return the task of a classifier.

    Raises:
        FarfieldError: for a network that is not a classifier.
    """
    given = raw.get("problem_type")
    if given not in (None, "single_label_classification", "multi_label_classification"):
        raise FarfieldError(
            f"{CONFIG} has problem_type {given!r}, but farfield supports only single_label_classification (the "
            "default) and multi_label_classification. If the network is a classifier, correct problem_type."
        )
    return "multilabel" if given == "multi_label_classification" else "single_label"


def _labels(raw: Mapping[str, Any], count: int) -> list[str]:
    """Return the class names of a config.

    Raises:
        FarfieldError: if the names do not fit the classifier's classes.
    """
    given = raw.get("id2label")
    if given is None:
        return [f"LABEL_{index}" for index in range(count)]
    named = dict(given) if isinstance(given, Mapping) else {}
    wrong = ""
    if len(named) != count:
        wrong = f"has {len(named)} name{'' if len(named) == 1 else 's'}, but the number of classes is {count}"
    elif absent := [index for index in map(str, range(count)) if not isinstance(named.get(index), str | int)]:
        wrong = f"has no name for class {absent[0]}"
    if wrong:
        raise FarfieldError(f"id2label in {CONFIG} {wrong}. Give a name for each class from 0 to {count - 1}.")
    return [str(named[str(index)]) for index in range(count)]


def _load(family: Family, made: Any, state: dict[str, Tensor], folder: Path, suffix: str) -> Any:
    """Load weights into the family's model class of `transformers`, and check that all weights fit.

    Args:
        family: family of the encoder.
        made: `transformers` config object.
        state: dict from the weight names in the folder to the weights.
        folder: folder of the checkpoint, for messages.
        suffix: end of the name of the model class: "ForVideoClassification", or "Model" without a classifier.

    Returns:
        The loaded model, in evaluation mode.

    Raises:
        FarfieldError: if weights are missing, unexpected or of another shape.
    """
    import transformers
    from transformers.utils import logging as their_logging

    kind = getattr(transformers, family.classes + suffix)
    verbosity = their_logging.get_verbosity()
    their_logging.set_verbosity(their_logging.CRITICAL)  # the report of weights is ours
    bars = their_logging.is_progress_bar_enabled()
    their_logging.disable_progress_bar()
    try:
        model, report = kind.from_pretrained(
            None, config=made, state_dict=state, output_loading_info=True, dtype=torch.float32,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    except Exception as error:  # of any kind: transformers builds networks from unchecked values
        raise FarfieldError(
            f"the weights in {folder} cannot be loaded into {kind.__name__}: {first_line(error)}. Check {CONFIG}, or "
            "download the folder again."
        ) from error
    finally:
        their_logging.set_verbosity(verbosity)
        if bars:
            their_logging.enable_progress_bar()
    missing = [name for name in report["missing_keys"] if not name.startswith(("pooler.", "predictor."))]
    if suffix != "Model":
        missing = list(report["missing_keys"])
    extra = [
        name
        for name in report["unexpected_keys"]
        if not name.removeprefix(f"{kind.base_model_prefix}.").startswith(_PRETRAINING_ONLY)
    ]
    other = [each[0] for each in report["mismatched_keys"]]
    if missing or extra or other:
        kinds = {"of another shape": other, "missing": missing, "unexpected": extra}
        told = "; ".join(f"{kind}: {len(names)}, such as {names[0]}" for kind, names in kinds.items() if names)
        raise FarfieldError(
            f"the weights in {folder} do not fit its {CONFIG} ({told}). Copy or download the folder again."
        )
    return model.eval()


def _names(theirs: Iterable[str], kind: str, base: str) -> dict[str, str]:
    """Return a dict from the weight names in a `transformers` model to those in an `ActionNet`.

    Args:
        theirs: weight names in the `transformers` model.
        kind: `model_type` of the model's config.
        base: name of the attribute in which the model holds its encoder; empty if the model itself is the encoder.
    """
    encoder = (f"{base}." if base else "") + ("encoder." if kind == "vjepa2" else "")
    pool = "head.attentive_pools.0." if kind == "vjepa2" else None
    found: dict[str, str] = {}
    for name in theirs:
        if name.startswith("classifier."):
            found[name] = f"head.fc.{name.removeprefix('classifier.')}"
        elif name.startswith("fc_norm."):
            found[name] = f"head.embedding.{name.removeprefix('fc_norm.')}"
        elif name.startswith("pooler."):
            if pool is not None:
                found[name] = pool + _pool_name(name.removeprefix("pooler."))
        elif name.startswith(encoder):
            found[name] = f"backbone.trunk.encoder.{name.removeprefix(encoder)}"
    return found


_POOL_NAMES = {
    "query_tokens": "query",
    "self_attention_layers.": "blocks.",
    "cross_attention_layer.": "last.",
    "layer_norm": "norm",
    "self_attn.": "attention.",
    "cross_attn.": "",
    "q_proj": "to_query",
    "k_proj": "to_key",
    "v_proj": "to_value",
    "out_proj": "project",
    "mlp.fc1": "mlp.inner",
    "mlp.fc2": "mlp.out",
}
"""Dict from parts of the weight names in V-JEPA 2's pooler to the corresponding parts in `AttentivePool3d`."""


def _pool_name(name: str) -> str:
    for theirs, ours in _POOL_NAMES.items():
        name = name.replace(theirs, ours)
    return name
