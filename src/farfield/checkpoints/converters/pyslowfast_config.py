"""Read the YAML config inside PySlowFast's checkpoints, treating it as untrusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from farfield.errors import FarfieldError
from farfield.task import Task
from farfield.untrusted_json import MAX_LEVELS

TASKS: dict[str, Task] = {"softmax": "single_label", "sigmoid": "multilabel"}
"""farfield's task for each value of PySlowFast's MODEL.HEAD_ACT."""


class _RefusedYaml(ValueError):
    """Raised for YAML that is unsafe to parse. The message completes the sentence "the config inside PATH ..."."""


class _Loader(yaml.SafeLoader):
    """Safe YAML loader that reads yacs's tuples, limits nesting, and refuses merge keys, which yacs never writes."""

    _level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node and, recursively, its children; refuse more than `MAX_LEVELS` levels."""
        if self._level > MAX_LEVELS:
            raise _RefusedYaml(f"is nested more than {MAX_LEVELS} levels deep")
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        return node

    def flatten_mapping(self, node: Any) -> None:
        """Refuse YAML merge keys, since each level of nested merges would double the number of values."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise _RefusedYaml("has merge keys, which PySlowFast never writes")
        super().flatten_mapping(node)


def _sequence(loader: Any, node: Any) -> list[Any]:
    return list(loader.construct_sequence(node))


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _sequence)


def read_cfg(text: Any, path: Any) -> dict[str, Any] | None:
    """Parse the config that PySlowFast's checkpoints hold as YAML text; None if it is not text or not a mapping.

    Raises:
        FarfieldError: for a config that is not YAML, is nested too deeply, or is too large.
    """
    if not isinstance(text, str):
        return None
    try:
        cfg = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except _RefusedYaml as error:
        raise FarfieldError(f"the config inside {path} {error}. Copy or download the file again.") from error
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f": line {mark.line + 1}, column {mark.column + 1}"
        raise FarfieldError(
            f"the config inside {path} cannot be read as YAML{where}. Copy or download the file again."
        ) from error
    _refuse_large(cfg, path)
    return cfg if isinstance(cfg, dict) else None


def _refuse_large(cfg: Any, path: Any) -> None:
    """Raise for a config of more than 100,000 values. Real configs have hundreds; YAML aliases can expand to more."""
    waiting, seen = [cfg], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > 100_000:
            raise FarfieldError(
                f"the config inside {path} has more than 100,000 values; real configs have hundreds. Copy or download "
                "the file again."
            )
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value


def setting(cfg: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return the value of a setting such as "DATA.NUM_FRAMES"; `default` if the config does not have it."""
    value: Any = cfg
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return default
        value = value[part]
    return value


def number(cfg: Mapping[str, Any], name: str, default: float | None, kind: type = int) -> Any:
    """Return a setting that must be a positive number of the type `kind`, converted from text if necessary.

    If the config does not have the setting, `default` is returned, which may be None.

    Raises:
        FarfieldError: if the value is not a positive number of this type.
    """
    value = setting(cfg, name, default)
    if value is None and default is None:
        return None
    try:
        converted = kind(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except ValueError:
        converted = None
    if converted is None or converted <= 0 or float(value) != converted:
        wanted = "whole number" if kind is int else "number"
        raise FarfieldError(f"the config inside the checkpoint has {name} {value!r}; it must be a positive {wanted}.")
    return converted


def three_numbers(cfg: Mapping[str, Any], name: str, default: float) -> tuple[float, ...]:
    """Return a setting that must be a list of three numbers; (default, default, default) if the config lacks it.

    Raises:
        FarfieldError: if the value is not a list of three numbers.
    """
    value = setting(cfg, name, [default] * 3)
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(v, int | float) for v in value):
        raise FarfieldError(f"the config inside the checkpoint has {name} {value!r}; it must be three numbers.")
    return tuple(float(v) for v in value)


def _flat(value: Any) -> list[Any]:
    return [each for item in value for each in _flat(item)] if isinstance(value, list | tuple) else [value]


def refuse_other_networks(cfg: dict[str, Any], path: Any) -> None:
    """Raise if a setting describes a network that farfield cannot build.

    Raises:
        FarfieldError: for such a setting; the message states the supported values.
    """
    allowed: dict[str, tuple[Any, Any]] = {
        "RESNET.NUM_GROUPS": (1, [1]),
        "RESNET.STRIDE_1X1": (False, [False]),
        "RESNET.TRANS_FUNC": ("bottleneck_transform", ["bottleneck_transform", "x3d_transform"]),
        "DETECTION.ENABLE": (False, [False]),
        "X3D.BN_LIN5": (False, [False]),
        "X3D.SCALE_RES2": (False, [False]),
    }
    for name, (default, values) in allowed.items():
        value = setting(cfg, name, default)
        if value not in values:
            raise FarfieldError(
                f"{path} cannot be converted exactly: its config sets {name} to {value}; only "
                f"{' or '.join(map(str, values))} is supported."
            )
    strides = setting(cfg, "RESNET.SPATIAL_STRIDES", [[1], [2], [2], [2]])
    dilations = setting(cfg, "RESNET.SPATIAL_DILATIONS", [[1], [1], [1], [1]])
    flat = [_flat(stage) for stage in strides] if isinstance(strides, list) else []
    known = [all(value == stride for value in stage) for stage, stride in zip(flat, (1, 2, 2, 2), strict=False)]
    if known != [True] * 4 or any(value != 1 for value in _flat(dilations)):
        raise FarfieldError(
            f"{path} cannot be converted exactly: its config has spatial strides {strides} and dilations {dilations}; "
            "only strides 1, 2, 2, 2 without dilation are supported."
        )


def task_of(cfg: Mapping[str, Any], path: Any) -> Task:
    """Return the task for the activation of the config's head (MODEL.HEAD_ACT).

    Raises:
        FarfieldError: for an activation that PySlowFast's heads do not have.
    """
    activation = setting(cfg, "MODEL.HEAD_ACT", "softmax")  # PySlowFast's default
    if not isinstance(activation, str) or activation not in TASKS:
        raise FarfieldError(
            f"{path} cannot be converted exactly: its config sets MODEL.HEAD_ACT to {activation}; only "
            f"{' or '.join(TASKS)} is supported."
        )
    return TASKS[activation]


def slowfast_alpha(cfg: dict[str, Any]) -> dict[str, Any]:
    """Return the backbone options {"alpha": ...} for a SlowFast network, and {} for any other network."""
    return {"alpha": number(cfg, "SLOWFAST.ALPHA", 4)} if setting(cfg, "MODEL.ARCH", None) == "slowfast" else {}
