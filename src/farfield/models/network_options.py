"""Options that define a network: backbone, inserted blocks, head, classes and clip settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from farfield.clip_spec import ClipOptions
from farfield.errors import FarfieldError, nearest
from farfield.models.head_kinds import HeadKind
from farfield.models.insertion import BLOCKS, is_place
from farfield.plain_types import plain
from farfield.task import DEFAULT_TASK, Task, least_classes


@dataclass(frozen=True)
class NetworkOptions:
    """Options that define a network's structure, labels and input. A checkpoint stores them as a dict.

    The fields are the keyword arguments of `farfield.build_model`, whose docstring explains them. `assemble` builds the
    network and fills in unset options.

    Raises:
        FarfieldError: for an unknown block or task, a dropout that is not a probability, or incompatible options.
    """

    backbone: str
    backbone_options: Mapping[str, Any] | None = None
    labels: Sequence[str] | None = None
    insert: str | Mapping[str, Sequence[int] | int] | None = None
    block: str = "non_local"
    block_options: Mapping[str, Any] | None = None
    dropout: float = 0.5
    head: HeadKind | None = None
    head_windows: Sequence[Sequence[int]] | None = None
    head_options: Mapping[str, Any] | None = None
    clip: ClipOptions | None = None
    task: Task | None = None
    num_classes: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, plain(value))
        if not 0 <= self.dropout < 1:
            raise FarfieldError(f"dropout is {self.dropout}; it must be a probability, at least 0 and below 1.")
        if self.task is not None and self.task not in get_args(Task):
            raise FarfieldError(f"task is {self.task!r}. {nearest(self.task, get_args(Task))}")
        if self.block not in BLOCKS:
            raise FarfieldError(f"block is {self.block!r}, which does not exist. {nearest(self.block, BLOCKS)}")
        if isinstance(self.insert, Mapping) and not all(map(is_place, self.insert, self.insert.values())):
            raise FarfieldError(
                f"insert is {dict(self.insert)}; give lists of block indices, e.g. {{'res4': [1]}}, or a number of "
                "blocks after the last stage, e.g. {'top': 1}."
            )
        options = dict(self.block_options or {})
        if not self.insert and (self.block != "non_local" or options):
            raise FarfieldError(
                f"block is {self.block!r} with options {options}, but insert is {self.insert!r}, so no block is "
                "inserted. Set insert, e.g. to 'nl5' or {'res3': [1]}, or leave block and block_options out."
            )
        if "ndim" in options:
            raise FarfieldError("block_options has ndim; blocks in a video network always have 3 axes. Leave ndim out.")

    def resolve_labels(self) -> list[str]:
        """Return the class names: `labels`, or "0", "1", ... for `num_classes` classes.

        Raises:
            FarfieldError: for too few classes (a multilabel network needs one, other networks two), repeated names, or
                a `num_classes` that differs from the number of labels.
        """
        task = self.task or DEFAULT_TASK
        least = least_classes(task)
        if self.labels is None:
            if self.num_classes is None or self.num_classes < least:
                raise FarfieldError(
                    f"labels is None and num_classes is {self.num_classes}. Set labels, or num_classes to at "
                    f"least {least}."
                )
            return [str(i) for i in range(self.num_classes)]
        names = [str(label) for label in self.labels]
        if self.num_classes is not None and self.num_classes != len(names):
            raise FarfieldError(
                f"num_classes is {self.num_classes}, but the number of labels is {len(names)}. Leave num_classes out."
            )
        if len(names) < least:
            raise FarfieldError(f"labels is {names}; a {task} network needs at least {least}. Add labels.")
        if len(set(names)) != len(names):
            repeated = sorted({name for name in names if names.count(name) > 1})
            raise FarfieldError(f"labels has repeated names: {', '.join(repeated[:5])}. Give each class its own name.")
        return names

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain types, as a checkpoint or a YAML file stores them.

        `num_classes` is left out, since it equals the number of labels.
        """
        return {name: plain(value) for name, value in vars(self).items() if name != "num_classes"}
