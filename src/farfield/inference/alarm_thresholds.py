"""Make alarm trackers with their thresholds, and choose the classes of a window that can start an alarm."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from farfield.errors import FarfieldError, nearest
from farfield.inference.alarm_options import AlarmOptions
from farfield.inference.alarms import AlarmTracker
from farfield.scoring.load import InferenceModel
from farfield.task import head_columns
from farfield.timelines.timeline_segments import advice_on_thresholds, timeline_thresholds


def make_tracker(model: InferenceModel, options: AlarmOptions) -> AlarmTracker:
    """Make the alarm tracker of one camera. If `options.threshold` is 0, the network's thresholds are used.

    Raises:
        FarfieldError: if `options.threshold` is 0 and the network has no thresholds for timelines (a multilabel network
            always has thresholds), or if a label in the options is not a class of the network.
    """
    labels = model.labels
    for label in options.labels or ():
        if label not in labels:
            raise FarfieldError(f"alarm label {label!r} is not a class of the network. {nearest(label, labels)}")
    thresholds = timeline_thresholds(model, labels, options.threshold)
    if model.task != "multilabel" and not thresholds.any():
        raise FarfieldError(
            "threshold is 0, so alarms need the network's own thresholds for timelines, but the network has none. "
            f"{advice_on_thresholds(model.task)}"
        )
    low = options.hysteresis * thresholds
    wanted = np.array([options.labels is None or label in options.labels for label in labels])
    return AlarmTracker(labels, np.where(wanted, thresholds, np.nan), low, options.gap_seconds)


def only_best(probabilities: Float[np.ndarray, " classes"], model: InferenceModel) -> Float[np.ndarray, " classes"]:
    """Keep only the highest probability of a window, and set the others to 0.

    For a `multi_head` network, the highest probability of each head is kept; for a `multilabel` network, all are kept.
    """
    if model.task == "multilabel":
        return probabilities
    heads = list(head_columns(model.labels).values()) if model.task == "multi_head" else [slice(None)]
    places = np.arange(len(probabilities))
    best = [places[columns][probabilities[columns].argmax()] for columns in heads]
    kept = np.zeros_like(probabilities)
    kept[best] = probabilities[best]
    return kept
