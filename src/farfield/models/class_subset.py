"""Match classes by name, and restrict a network to some of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from farfield.errors import FarfieldError, nearest
from farfield.models.network import ActionNet, assemble_uninitialised
from farfield.models.network_options import NetworkOptions
from farfield.models.operating_point import OPERATING_POINTS


def classifier_rows(old: Sequence[str], new: Sequence[str]) -> list[int] | None:
    """Return the index in `old` of each class name in `new`; None if a name has no match, or two share a match.

    A name without an exact match is compared again, ignoring case and with underscores as spaces. A name that then
    matches several names in `old` has no match.
    """
    exact = {label: i for i, label in enumerate(old)}
    normalised: dict[str, int | None] = {}
    for i, label in enumerate(old):
        normalised[_normalise(label)] = None if _normalise(label) in normalised else i
    rows = [exact.get(label, normalised.get(_normalise(label))) for label in new]
    found = [row for row in rows if row is not None]
    return found if len(set(found)) == len(new) else None


def restrict_labels(network: ActionNet, labels: Sequence[str]) -> ActionNet:
    """Copy a network with its weights; the copy scores only the given classes.

    The copy of a multilabel network keeps the thresholds of the given classes. In all other tasks, the copy has no
    thresholds, since its probabilities sum to 1 over fewer classes.

    Raises:
        FarfieldError: if a label names no class of the network (the message names the nearest class), or two labels
            name the same class.
    """
    rows = classifier_rows(network.labels, labels)
    if rows is None:
        known = {_normalise(label) for label in network.labels}
        unknown = next((label for label in labels if _normalise(label) not in known), None)
        if unknown is None:
            raise FarfieldError(
                f"some of these {len(labels)} labels name the same class of the network: {list(labels)[:20]}. Give "
                "each class once, spelled as in the network's labels."
            )
        raise FarfieldError(f"the network has no class {unknown!r}. {nearest(unknown, network.labels)}")
    state = dict(network.state_dict())
    for key in ("head.fc.weight", "head.fc.bias"):
        state[key] = state[key][rows]
    restricted = assemble_uninitialised(NetworkOptions(**network.config | {"labels": list(labels)}))
    restricted.load_state_dict(state)
    for name in OPERATING_POINTS if network.task == "multilabel" else ():
        point = getattr(network, name)
        if point is not None:
            old = dict(zip(restricted.labels, [network.labels[row] for row in rows], strict=True))
            thresholds = {new: point.thresholds.get(label) for new, label in old.items()}
            counts = point.detections
            detections = None if counts is None else {new: counts.get(label) for new, label in old.items()}
            setattr(restricted, name, replace(point, thresholds=thresholds, detections=detections))
    return restricted.to(device=network.device, dtype=network.dtype).train(network.training)


def _normalise(label: str) -> str:
    return str(label).replace("_", " ").casefold()
