"""Find a network's weights in a training checkpoint.

A training checkpoint holds more than a network, such as the optimiser, the parameters of losses, and averaged weights
beside the trained ones. The weights are nested under a key (`state_dict`, `model_state_dict`), and their names have
prefixes of wrappers (`model._orig_mod.module.stem.0.weight`). A network is recognised by the names of its first
weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from farfield.errors import FarfieldError, nearest

WRAPPERS = {
    "_orig_mod": "torch.compile",
    "module": "DataParallel, DDP or an average of the weights",
    "_module": "Opacus",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning Fabric",
}
"""Parts that wrappers insert into weight names, with each wrapper's name. Unwrapped networks have no such parts."""

NETWORKS: dict[str, tuple[tuple[str, ...], ...]] = {
    "PySlowFast": (("s1.pathway0_stem.",),),
    "MMAction2": (("backbone.conv1.conv.",),),
    "farfield": (("backbone.trunk.",),),
    "PyTorchVideo": (("blocks.0.conv.",), ("blocks.0.multipathway_blocks.",)),
    "image ResNet": (("conv1.weight", "layer1.0.conv1.weight"),),
    "torchvision": (("stem.0.",), ("features.0.0.",), ("conv_proj.",), ("patch_embed.",)),
}
"""Prefixes of weight names by project, as alternative tuples.

A state dict belongs to a project if its names have every prefix of one of the tuples.
"""

_CONTAINERS = ("", "model_state", "state_dict", "model", "model_state_dict", "network", "net", "module")
"""Keys under which projects store a network, in order of preference."""
_AVERAGED = {"ema", "swa", "avg", "average", "averaged", "teacher", "momentum", "shadow"}
_TRAINING_ONLY = {"criterion", "criteria", "loss", "losses", "metric", "metrics", "acc", "accuracy", "auroc", "confmat"}
_COUNTERS = {"n_averaged", "steps", "total_ops", "total_params", "_extra_state"}
_MAX_NESTING = 3


@dataclass
class NetworkState:
    """A network's weights found in a checkpoint.

    Attributes:
        values: dict from each weight's name in the network to its unchecked value.
        names: dict from each weight's name in the network to its full name in the file's state dict.
        container: key of the state dict in the file, such as "state_dict"; empty if the file itself is the state dict.
        prefix: prefix of the network's weight names in the state dict, such as "model.". Parts that wrappers insert
            (`WRAPPERS`) are left out.
        beside: full names of weights in the same state dict that belong to no recognised network. If there are any,
            the network may be only a part of a larger network. Empty if the user chose the network.
        ignored: (name, reason) of each entry of the state dict that is in neither `values` nor `beside`. Each further
            network is a single entry, with the name "prefix*".
        notes: messages for the user: removed prefixes, and which of several networks was chosen.
    """

    values: dict[str, Any]
    names: dict[str, str]
    container: str = ""
    prefix: str = ""
    beside: list[str] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Candidate:
    container: str
    prefix: str
    names: dict[str, str]
    """The full name of every weight in the state dict, by its name without wrapper parts."""

    @property
    def shown(self) -> str:
        return ".".join(part for part in (self.container, self.prefix.rstrip(".")) if part) or "(top level)"

    @property
    def averaged(self) -> bool:
        return bool(_AVERAGED & set(re.split(r"[._]", self.shown)))

    @property
    def rank(self) -> int:
        first = self.container.split(".")[0]
        return _CONTAINERS.index(first) if first in _CONTAINERS else len(_CONTAINERS)


def origin_of(names: Iterable[str]) -> str | None:
    """Return the project (a key of `NETWORKS`) whose networks have these weight names; None if it is unknown."""
    known = list(names)

    def has(start: str) -> bool:
        return any(name.startswith(start) for name in known)

    return next((origin for origin, ways in NETWORKS.items() if any(all(map(has, way)) for way in ways)), None)


def without_wrappers(names: Iterable[str], path: Any) -> dict[str, str]:
    """Remove from weight names the parts that wrappers insert. Returns the full name for each shortened name.

    Raises:
        FarfieldError: if two shortened names are the same.
    """
    plain: dict[str, str] = {}
    for name in names:
        short = _plain(name)
        if short in plain:
            raise FarfieldError(
                f"{path} has two weights that are both named {short} without the parts that wrappers insert: "
                f"{plain[short]} and {name}. Remove one."
            )
        plain[short] = name
    return plain


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def find_network(content: Mapping[Any, Any], path: Any, take: str | None = None) -> NetworkState:
    """Find the network's weights in a checkpoint, and list the entries that are not part of the network.

    Args:
        content: the checkpoint.
        path: path of the checkpoint, for messages.
        take: which of several networks to take: the key of its state dict ("ema_state_dict"), the prefix of its weight
            names ("model_ema"), or both ("state_dict.model_ema"). Other weights in the same state dict are then
            ignored. None prefers networks that are not averages of weights; an average is recognised by a word such as
            "ema" in the key or prefix. If several networks remain, None chooses the one whose state dict has the key
            (for a nested state dict, the outermost key) that comes first in `_CONTAINERS`.

    Returns:
        The network's weights. If no network is recognised, the weights of the largest state dict, by their full names.

    Raises:
        FarfieldError: if the choice between several networks is ambiguous, no network is called `take`, or the file has
            no weights.
    """
    dicts = dict(_state_dicts(content))
    candidates = [candidate for name, state in dicts.items() for candidate in _candidates(name, state, path)]
    if not candidates:
        return _unknown(content, dicts, path)
    chosen = _choose(candidates, path, take)
    values = dicts[chosen.container]
    found = NetworkState({}, {}, chosen.container, chosen.prefix)
    others = [c for c in candidates if c is not chosen and c.container == chosen.container]
    for short, name in chosen.names.items():
        copy = next((other for other in others if short.startswith(other.prefix)), None)
        own = short.removeprefix(chosen.prefix)
        if _is_training_only(own):
            found.ignored.append((name, "used in training only"))
        elif short.startswith(chosen.prefix):
            found.values[own], found.names[own] = values[name], name
        elif copy is None and not isinstance(values[name], Tensor | np.ndarray):
            found.ignored.append((name, "not a weight"))
        elif copy is None and take is None:
            found.beside.append(name)
        elif copy is None:
            found.ignored.append((name, f"not part of the network {take}"))
    found.ignored += [(f"{o.prefix}*", f"another network; --take {o.prefix.rstrip('.')} converts it") for o in others]
    found.notes = [*_choice_notes(chosen, candidates), *_prefix_notes(found)]
    return found


def _state_dicts(content: Mapping[Any, Any], name: str = "", depth: int = 0) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield every nested dict as (dotted key, its entries with text keys). The top level, with key "", comes first."""
    texts = {key: value for key, value in content.items() if isinstance(key, str)}
    if texts:
        yield name, texts
    for key, value in texts.items():
        if isinstance(value, Mapping) and depth < _MAX_NESTING:
            yield from _state_dicts(value, f"{name}.{key}" if name else key, depth + 1)


def _candidates(container: str, state: Mapping[str, Any], path: Any) -> list[_Candidate]:
    """Return the recognised networks in a state dict, with their prefixes."""
    weights = [name for name, value in state.items() if not isinstance(value, Mapping)]
    names = {_plain(name): name for name in weights}
    starts = [start for ways in NETWORKS.values() for way in ways for start in way]
    somewhere = re.compile(r"(?:^|\.)(?=(" + "|".join(map(re.escape, starts)) + "))")
    prefixes = {name[: match.start(1)] for name in names for match in somewhere.finditer(name)}
    prefixes = {p for p in prefixes if origin_of(n.removeprefix(p) for n in names if n.startswith(p)) is not None}
    if prefixes:
        without_wrappers(weights, path)  # raises where two weights have one name
    outermost = [p for p in sorted(prefixes) if not any(p != other and p.startswith(other) for other in prefixes)]
    return [_Candidate(container, prefix, names) for prefix in outermost]


def _choose(candidates: list[_Candidate], path: Any, take: str | None) -> _Candidate:
    """Choose one of the networks in `candidates`, as `find_network` describes for its argument `take`.

    Raises:
        FarfieldError: if no network is called `take`, or the choice is ambiguous.
    """
    if take is not None:
        named = [c for c in candidates if take.rstrip(".") in (c.shown, c.container, c.prefix.rstrip("."))]
        if not named:
            raise FarfieldError(f"{path} has no network {take!r}. {nearest(take, [c.shown for c in candidates])}")
        candidates = named
    trained = [c for c in candidates if not c.averaged] or candidates
    first = [c for c in trained if c.rank == min(c.rank for c in trained)]
    if len(first) > 1:
        raise FarfieldError(
            f"{path} holds several networks: {', '.join(c.shown for c in first)}. Choose one: farfield convert ... "
            f"--take {first[0].shown}."
        )
    return first[0]


def _choice_notes(chosen: _Candidate, candidates: list[_Candidate]) -> list[str]:
    """Return a list with a note on which of several networks was chosen; an empty list for a single network."""
    others = [c.shown for c in candidates if c is not chosen]
    if not others:
        return []
    return [
        f"the network {chosen.shown} was converted; --take {' or '.join(others)} converts another network in the file"
    ]


def _prefix_notes(found: NetworkState) -> list[str]:
    """Return a list with a note on the prefixes that were removed from names; an empty list if none were."""
    parts = {part for name in found.names.values() for part in name.split(".") if part in WRAPPERS}
    off = [f'"{found.prefix}"'] if found.prefix else []
    off += [f'"{part}." ({of})' for part, of in WRAPPERS.items() if part in parts]
    return [f"removed from the names of the weights: {', '.join(off)}"] if off else []


def _is_training_only(name: str) -> bool:
    parts = name.split(".")
    return parts[-1] in _COUNTERS or any(_TRAINING_ONLY & set(part.split("_")) for part in parts)


def _unknown(content: Mapping[Any, Any], dicts: Mapping[str, dict[str, Any]], path: Any) -> NetworkState:
    """Return the weights of the largest state dict, for a file whose origin is unknown.

    Raises:
        FarfieldError: if there are no weights.
    """
    weights = {
        name: {key: value for key, value in state.items() if isinstance(value, Tensor | np.ndarray)}
        for name, state in dicts.items()
    }
    largest = max(weights, key=lambda name: len(weights[name]), default=None)
    if largest is None or not weights[largest]:
        keys = ", ".join(str(key)[:40] for key in list(content)[:8])
        raise FarfieldError(
            f"{path} has no dict of named weights. It contains: {keys or 'nothing'}. If it is a pickled network, load "
            "it in the code that defines the network, and save network.state_dict()."
        )
    return NetworkState(weights[largest], {name: name for name in weights[largest]}, largest)
