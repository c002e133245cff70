"""Joint labels of a `multi_head` network: combinations of one class per head, such as a verb and a noun."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from farfield.errors import FarfieldError, nearest
from farfield.scoring.joint_ranking import rank_jointly
from farfield.task import head_columns, split_heads


def rank_labels_jointly(
    probabilities: Float[np.ndarray, " classes"], labels: Sequence[str], top_k: int
) -> list[tuple[str, float]]:
    """Return the `top_k` most probable combinations as (label, probability), best first.

    A label is, for example, "noun:door|verb:open".
    """
    heads = _split(probabilities[None], labels)
    places, scores = rank_jointly([torch.from_numpy(each) for each in heads], top_k)
    names = _names(places[0].numpy(), labels)
    return list(zip(names, scores[0].tolist(), strict=True))


def joint_cells(
    cells: Float[np.ndarray, "cells classes"], labels: Sequence[str]
) -> tuple[Float[np.ndarray, "cells combinations"], list[str]]:
    """Return the probabilities and labels of all combinations that are the most probable in at least one cell.

    `cells` has the class probabilities of each cell, a short time interval of a timeline.
    """
    heads = _split(cells, labels)
    best = np.unique(np.stack([each.argmax(1) for each in heads], 1), axis=0)
    joint = np.prod([each[:, best[:, place]] for place, each in enumerate(heads)], axis=0)
    return joint, _names(best, labels)


def check_joint_label(label: str, labels: Sequence[str], *, option: str) -> None:
    """Check that a label is a combination of one class of each head, in the order of the heads.

    Args:
        label: the label to check, such as "noun:door|verb:open".
        labels: the network's labels.
        option: name of the option that holds the label, for the message.

    Raises:
        FarfieldError: if the label is not such a combination. If it contains an unknown class, the message ends with a
            hint from `nearest`: known classes, a similar class, or both. Otherwise, it gives an example of a label.
    """
    heads, parts = split_heads(labels), label.split("|")
    known = [f"{head}:{name}" for head, names in heads.items() for name in names]
    unknown = next((part for part in parts if part not in known), None)
    if unknown is not None:
        raise FarfieldError(
            f"{option} is set for the label {label!r}, but the network has no class {unknown!r}. "
            f"{nearest(unknown, known)}"
        )
    if [part.partition(":")[0] for part in parts] != list(heads):
        example = "|".join(f"{head}:{names[0]}" for head, names in heads.items())
        raise FarfieldError(
            f"{option} is set for the label {label!r}, which does not have one class of each head, in the order of the "
            f"heads. Write a label such as {example}."
        )


def _split(probabilities: Float[np.ndarray, "n classes"], labels: Sequence[str]) -> list[Float[np.ndarray, "n _"]]:
    """Split the columns of `probabilities` by head: return one array for each head."""
    return [probabilities[:, columns] for columns in head_columns(labels).values()]


def _names(places: Int[np.ndarray, "k heads"], labels: Sequence[str]) -> list[str]:
    """Return the label of each combination, as it is written in a manifest ("noun:door|verb:open").

    Each row of `places` is a combination: for each head, the index of the class among the head's classes.
    """
    heads = split_heads(labels)
    return ["|".join(f"{head}:{heads[head][i]}" for head, i in zip(heads, row, strict=True)) for row in places]
