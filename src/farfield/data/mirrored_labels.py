"""Labels of mirrored clips: a clip of "pushing from left to right" shows "pushing from right to left" when flipped."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from farfield.data.augmentation import Augmentation
from farfield.errors import FarfieldError, nearest
from farfield.task import head_columns

log = logging.getLogger("farfield")

_SIDE = re.compile(r"(?i:(?<![a-z])(?:left|right)(?![a-z]))|(?<![A-Z])(?:Left|Right)(?![a-z])")
"""Pattern for the words left and right, also in turn_left and TurnLeft, but not in upright."""
_OTHER = {"left": "right", "right": "left"}


def flipped_labels(
    labels: Sequence[str], augmentation: Augmentation, given: Mapping[str, str] | None
) -> dict[str, str]:
    """Return, for each class whose label changes when its clips are mirrored, the label of the mirrored clips.

    Args:
        labels: class names.
        augmentation: settings of the flip, and the classes that are never mirrored.
        given: pairs of classes that swap labels, as a dict {class: other class of the pair}; each pair may be given in
            one direction or both. None to find the pairs by name, if flips are on: the name of one class becomes the
            name of the other if "left" and "right" are swapped in it. The pairs found are logged. Classes with "left"
            or "right" in their names but without a partner are logged, too, unless they are never mirrored.

    Raises:
        FarfieldError: if a given pair has an unknown class, or the same class twice; if a class is in two given pairs,
            or in a given pair and in `augmentation.keep_direction`; if pairs are given, but flips are off.
    """
    if given is not None:
        return _checked(labels, augmentation, given)
    return _found(labels, augmentation) if augmentation.flip else {}


def mirrored_classes(labels: Sequence[str], flip_labels: Mapping[str, str]) -> Int[np.ndarray, " classes"]:
    """Return, for each class, the index (int64) into `labels` of the class that its clips show when mirrored.

    `scores[:, mirrored_classes(...)]` puts the scores of mirrored clips into the class order of the original clips.
    """
    position = {label: i for i, label in enumerate(labels)}
    return np.array([position[flip_labels.get(label, label)] for label in labels], dtype=np.int64)


def mirror_targets(
    targets: Int[np.ndarray, " b"] | Float[np.ndarray, "b classes"],
    flip: Bool[np.ndarray, " b"],
    mirrored: Int[np.ndarray, " classes"],
) -> Int[np.ndarray, " b"] | Float[np.ndarray, "b classes"]:
    """Replace the classes in the target of each mirrored clip with the classes that the clip shows when mirrored.

    Args:
        targets: targets before mirroring: for `single_label`, the class of each clip; for other tasks, a value for each
            class (see `Batch.labels`).
        flip: whether each clip is mirrored.
        mirrored: for each class, the index of the class that its clips show when mirrored; from `mirrored_classes`.
    """
    if targets.ndim == 1:
        return np.where(flip, mirrored[targets], targets)
    other = np.zeros_like(targets)
    np.maximum.at(other.T, mirrored, targets.T)  # several classes may be mirrored to one
    return np.where(flip[:, None], other, targets)


def _checked(labels: Sequence[str], augmentation: Augmentation, given: Mapping[str, str]) -> dict[str, str]:
    """Check the given pairs of classes, and return them in both directions."""
    if given and not augmentation.flip:
        raise FarfieldError(
            "data.flip_labels is given, but data.augmentation.flip is false, so no clip is mirrored. Leave out "
            "data.flip_labels, or set data.augmentation.flip to true."
        )
    swapped: dict[str, str] = {}
    for a, b in given.items():
        for label in (a, b):
            if label not in labels:
                raise FarfieldError(
                    f"data.flip_labels swaps {a!r} and {b!r}, but {label!r} is not a class. {nearest(label, labels)}"
                )
            if label in augmentation.keep_direction:
                raise FarfieldError(
                    f"data.flip_labels swaps {a!r} and {b!r}, but {label!r} is in data.augmentation.keep_direction, "
                    "whose clips are never mirrored. Remove the class from one of the two options."
                )
        if a == b:
            raise FarfieldError(
                f"data.flip_labels swaps {a!r} with itself. Leave the pair out: the class then keeps its label."
            )
        for label, other in ((a, b), (b, a)):
            if swapped.setdefault(label, other) != other:
                raise FarfieldError(
                    f"data.flip_labels swaps {label!r} with {swapped[label]!r} and with {other!r}. Keep one pair."
                )
    return swapped


def _found(labels: Sequence[str], augmentation: Augmentation) -> dict[str, str]:
    """Find pairs of classes by their names, and log them; arguments and result are those of `flipped_labels`.

    The result has no entry for a class that is in `augmentation.keep_direction` or has no partner.
    """
    known, kept = set(labels), set(augmentation.keep_direction)
    swapped, alone = {}, []
    for label in labels:
        other = _SIDE.sub(_other_side, label)
        if other == label or label in kept:
            continue
        if other in known:
            swapped[label] = other
        else:
            alone.append(label)
    if swapped:
        # Of a pair of which one class keeps its direction, only clips of the other are mirrored.
        pairs = ", ".join(f"{a!r} and {b!r}" for a, b in swapped.items() if a < b or b not in swapped)
        log.info("flipped clips swap the labels %s. To keep the labels, set data.flip_labels to {}.", pairs)
    if alone:
        log.warning(
            "flipped clips of %s keep their labels, since there is no class for the opposite direction. If the "
            "direction matters, add these classes to data.augmentation.keep_direction.",
            ", ".join(map(repr, alone)),
        )
    return swapped


def _other_side(match: re.Match[str]) -> str:
    found = match[0]
    other = _OTHER[found.lower()]
    return other.upper() if found.isupper() else other.capitalize() if found[0].isupper() else other


def check_heads(labels: Sequence[str], flip_labels: Mapping[str, str]) -> None:
    """Check that, in a multi_head task, mirrored clips still have exactly one class of each head.

    Raises:
        FarfieldError: if `flip_labels` maps the classes of one head to several heads, or the classes of several heads
            to one head.
    """
    mirrored, columns = mirrored_classes(labels, flip_labels), head_columns(labels)
    head_of = np.concatenate([np.full(len(labels[each]), place) for place, each in enumerate(columns.values())])
    reached = [set(head_of[mirrored[each]].tolist()) for each in columns.values()]
    if all(len(heads) == 1 for heads in reached) and len(set().union(*reached)) == len(columns):
        return
    name = next((head for head, heads in zip(columns, reached, strict=True) if len(heads) > 1), next(iter(columns)))
    raise FarfieldError(
        f"only some classes of head {name!r} are mirrored to classes of another head, so a mirrored clip could have "
        "two classes of one head and none of the other. Complete the pairs in data.flip_labels, set data.flip_labels "
        "to {}, or set data.augmentation.flip to false."
    )
