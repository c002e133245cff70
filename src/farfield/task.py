"""Tasks of a network ("single_label", "multilabel", "multi_head"), and class probabilities from its scores."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from farfield.errors import FarfieldError

Task = Literal["single_label", "multilabel", "multi_head"]
"""single_label: a video has exactly one class. The softmax of the scores gives the class probabilities.

multilabel: a video has any number of classes, or none. The sigmoid of each score is the probability of its class.

multi_head: a video has one class of each head, such as a verb and a noun. Labels are written head:class, as in
`verb:open` and `noun:door`. The scores are log-probabilities; the probabilities sum to 1 over the classes of each head.
"""
DEFAULT_TASK: Task = "single_label"


def least_classes(task: Task) -> int:
    """Return the smallest number of classes that a network of this task can have."""
    return 1 if task == "multilabel" else 2


def class_probabilities(logits: Float[Tensor, "*b classes"], task: Task) -> Float[Tensor, "*b classes"]:
    """Convert a network's scores to class probabilities: float64 for float64 scores, else float32."""
    logits = logits if logits.dtype.itemsize >= 4 else logits.float()
    if task == "multi_head":
        return logits.exp()
    return logits.sigmoid() if task == "multilabel" else logits.softmax(-1)


def split_heads(labels: Sequence[str]) -> dict[str, list[str]]:
    """Split the labels of a `multi_head` task, which have the form head:class.

    Returns:
        The classes of each head, by the head's name. Heads and classes are in the order of `labels`.

    Raises:
        FarfieldError: in these cases:

            - a label does not have the form head:class;
            - the name of a head is not allowed (the message gives the rule);
            - the labels of a head are not consecutive;
            - a head has fewer than two classes, or the same class more than once;
            - there are fewer than two heads.
    """
    pairs = [(head.strip(), name.strip()) for head, _, name in (label.partition(":") for label in labels)]
    for label, (head, name) in zip(labels, pairs, strict=True):
        if not name or not re.fullmatch(r"\w[\w .-]*", head):  # reports have a folder of the head's name
            raise FarfieldError(
                f"the labels of a multi_head task are written head:class, such as verb:open; given {label!r}. The name "
                "of a head consists of letters, digits, '_', spaces, '.' and '-', and does not begin with a space, '.' "
                "or '-'."
            )
    heads: dict[str, list[str]] = {}
    for head, group in groupby(pairs, key=lambda pair: pair[0]):
        names = [name for _, name in group]
        if head in heads:
            raise FarfieldError(f"the labels of head {head!r} are not consecutive. Sort the labels.")
        if len(names) < 2:
            raise FarfieldError(
                f"head {head!r} has one class, {names[0]!r}; each head needs at least two. Add classes, or leave the "
                "head out."
            )
        repeated = [name for name, times in Counter(names).items() if times > 1]
        if repeated:
            raise FarfieldError(
                f"head {head!r} has {', '.join(map(repr, repeated[:20]))} more than once. Give each class of a head "
                "once."
            )
        heads[head] = names
    if len(heads) < 2:
        raise FarfieldError(
            f"a multi_head task needs at least two heads, but all labels belong to head {next(iter(heads))!r}. Begin "
            "each label with the name of its head, such as verb:open and noun:door, or use task 'single_label'."
        )
    return heads


def head_columns(labels: Sequence[str]) -> dict[str, slice]:
    """Return a dictionary from the name of each head to the columns of its classes in the scores.

    Raises:
        FarfieldError: see `split_heads`.
    """
    heads = split_heads(labels)
    ends = accumulate(len(names) for names in heads.values())
    return {head: slice(end - len(names), end) for (head, names), end in zip(heads.items(), ends, strict=True)}
