"""Assign groups of videos to the parts of a split, so that every class is divided in the same proportions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from farfield.errors import FarfieldError

ATTEMPTS = 100
"""Maximum number of group orders to try until each part has a video of each class."""


def assign(
    counts: Mapping[str, Mapping[str, int]],
    shares: Sequence[float],
    *,
    names: Sequence[str],
    seed: int = 0,
    fixed: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Assign groups to parts, so that each class is divided in the proportions of `shares`.

    Groups are assigned one at a time, in the order of a hash of their names. A second hash proposes a part for the
    group, with the shares as probabilities. If this part would then have more than its share of a class, the group goes
    to the part whose deviation from its share grows least. Each part gets at least one group of each class.

    The number of videos of a class in a part can differ from share x total. If every group has one class, the
    difference is less than the class's largest group. It can be larger if `fixed` assigns groups, or if the last groups
    of a class must go to parts that have no group of this class yet. If groups have several classes, the difference is
    kept small, without a fixed bound.

    Args:
        counts: number of videos of each class in each group, by group and class: counts["group ann"]["walk"]. The key
            of a group is described in `_hash`.
        shares: share of each part; they add up to 1.
        names: name of each part.
        seed: seed of the hashes.
        fixed: name of the part of each group that is already assigned, by the group's key in `counts`; None if no group
            is assigned yet.

    Returns:
        Index of the part of each group, by the group's key in `counts`.

    Raises:
        FarfieldError: if a class has fewer groups than there are parts, or if a part would get no group of a class.
    """
    # In one order of labels, so that the result does not depend on the order of the manifest's rows.
    counts = {key: dict(sorted(of_group.items())) for key, of_group in counts.items()}
    totals: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for of_group in counts.values():
        totals.update(of_group)
        waiting.update(of_group.keys())
    few = {label: number for label, number in sorted(waiting.items()) if number < len(shares)}
    if few:
        listed = ", ".join(f"{label!r} has {number}" for label, number in list(few.items())[:5])
        more = f", and {len(few) - 5} more" if len(few) > 5 else ""
        raise FarfieldError(
            f"some classes have fewer groups than there are splits ({len(shares)}: {', '.join(names)}): {listed}{more}"
            ". Give fewer splits, smaller groups, or more videos of these classes."
        )
    given = {key: names.index(name) for key, name in (fixed or {}).items()}
    for attempt in range(ATTEMPTS):  # the first order nearly always succeeds; others help if groups have many classes
        chosen, lacking = _assign_in_order(
            counts, shares, totals, seed, given, "order" if not attempt else f"order {attempt}"
        )
        if lacking is None:
            return chosen
    assert lacking is not None
    part, label = lacking
    if given:
        raise FarfieldError(
            f"{names[part]} would have no video of the class {label!r}: the groups in the earlier split stay where "
            "they are, and no attempt to assign the new groups gave every split a group of each class. Give "
            "overwrite=True (--overwrite) to split again, or another output folder (out)."
        )
    raise FarfieldError(
        f"{names[part]} would have no video of the class {label!r}: the groups of this class contain other classes, "
        f"too, and none of {ATTEMPTS} attempts gave every split a group of each class. Try another seed, fewer splits "
        "or smaller groups."
    )


def _assign_in_order(
    counts: Mapping[str, Mapping[str, int]],
    shares: Sequence[float],
    totals: Mapping[str, int],
    seed: int,
    given: Mapping[str, int],
    purpose: str,
) -> tuple[dict[str, int], tuple[int, str] | None]:
    """Assign the groups to parts one by one, in the order of a hash.

    Args:
        counts: number of videos of each class in each group.
        shares: share of each part.
        totals: number of videos of each class in the collection.
        seed: seed of the hashes.
        given: index of the part of each group that is assigned already; these groups keep their part.
        purpose: text that goes into the hash. A different text gives a different order.

    Returns:
        Index of the part of each group; and (part, class) if a part has no video of a class, otherwise None.
    """
    waiting = Counter(label for of_group in counts.values() for label in of_group)
    room = [{label: share * total for label, total in totals.items()} for share in shares]
    without = {label: set(range(len(shares))) for label in totals}
    chosen: dict[str, int] = {}

    def put(key: str, part: int) -> None:
        chosen[key] = part
        for label, number in counts[key].items():
            room[part][label] -= number
            waiting[label] -= 1
            without[label].discard(part)

    for key, part in given.items():
        put(key, part)
    for key in sorted(counts.keys() - chosen.keys(), key=lambda key: (_hash(seed, purpose, key), key)):
        of_group = counts[key]
        allowed = set(range(len(shares)))
        for label in of_group:  # the last groups of a class are kept for the parts that have none of it
            if waiting[label] <= len(without[label]):
                allowed = allowed & without[label] or allowed
        named = _named(_hash(seed, "part", key), shares)
        if named in allowed and all(room[named][label] >= number for label, number in of_group.items()):
            put(key, named)
            continue

        put(key, min(sorted(allowed), key=partial(_excess, of_group, room, totals)))
    lacking = next(((min(parts), label) for label, parts in without.items() if parts), None)
    return chosen, lacking


def _excess(
    of_group: Mapping[str, int], room: Sequence[Mapping[str, float]], totals: Mapping[str, int], part: int
) -> tuple[float, float]:
    """Return how much the deviation of a part from its share grows if a group is added to the part.

    The deviation is (number of videos in the part - share of the part x total number of videos)^2. It is computed
    for the videos of each class, and for the videos of all classes together.

    Args:
        of_group: number of the group's videos of each class.
        room: for each part, the number of videos of each class that the part lacks to reach its share; negative if the
            part has more than its share.
        totals: number of videos of each class in the collection.
        part: index of the part.

    Returns:
        (by_class, overall):

        - `by_class`: sum, over the classes of the group, of growth / total. The growth is that of the deviation for the
          videos of the class; the total is their number in the collection.
        - `overall`: growth of the deviation for the videos of all classes together.
    """
    by_class = sum(number * (number - 2 * room[part][label]) / totals[label] for label, number in of_group.items())
    number = sum(of_group.values())
    overall = number * (number - 2 * sum(room[part].values()))
    return round(by_class, 9), round(overall, 9)  # the order of a sum changes its last digits


def _hash(seed: int, purpose: str, key: str) -> float:
    """Return a hash in [0, 1) of a group.

    Args:
        seed: seed of the hash.
        purpose: what the hash is for. Hashes for different purposes are independent of each other.
        key: "group <name>", or "video <path>" for a video without a group. Only the last folder and the file name of a
            path are hashed, so the hash stays the same if the collection is moved.
    """
    kind, _, name = key.partition(" ")
    short = "/".join(Path(name).parts[-2:]) if kind == "video" else name
    digest = hashlib.sha256("\0".join([str(seed), purpose, kind, short]).encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _named(number: float, shares: Sequence[float]) -> int:
    """Return the index of the part whose interval contains `number`.

    The intervals divide [0, 1) in proportion to `shares`.
    """
    ends = [sum(shares[: part + 1]) for part in range(len(shares) - 1)]
    return sum(number >= end for end in ends)
