"""Find a timeline's segments: check the options, get the thresholds, and search the cells (short time intervals)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from farfield.errors import FarfieldError, nearest
from farfield.models.operating_point import DEFAULT_THRESHOLD, class_thresholds
from farfield.scoring.load import InferenceModel
from farfield.task import Task
from farfield.timelines.candidates import find_candidates, merge_candidates, suppress_overlaps
from farfield.timelines.joint_labels import check_joint_label, joint_cells
from farfield.timelines.options import PER_CLASS, TimelineOptions
from farfield.timelines.segments import Segment, find_segments, find_segments_of_each_class


def check_timeline_options(options: TimelineOptions, model: InferenceModel) -> None:
    """Check that the options fit the network, before a video is opened.

    Raises:
        FarfieldError: if `min_seconds` or `max_gap_seconds` names a label that the network lacks. For a network that is
            not multilabel, there are two more cases: if `overlaps` is not "none"; and if `hysteresis` or
            `max_gap_seconds` differs from its default, but all thresholds (see `timeline_thresholds`) are 0.
    """
    for name in PER_CLASS:
        given = getattr(options, name)
        for label in given if isinstance(given, Mapping) else ():
            if model.task == "multi_head":
                check_joint_label(label, model.labels, option=name)
            elif label not in model.labels:
                raise FarfieldError(
                    f"{name} is set for the label {label!r}, which is not a class of the network. "
                    f"{nearest(label, model.labels)}"
                )
    if model.task == "multilabel":
        return
    if options.overlaps != "none":
        raise FarfieldError(
            f"overlaps is '{options.overlaps}', but this network's task is '{model.task}': segments cannot overlap, "
            "since each moment has one class. Leave out overlaps, or give a network of task 'multilabel'."
        )
    if timeline_thresholds(model, model.labels, options.threshold).any():
        return
    for name in ("hysteresis", "max_gap_seconds"):
        if name in options.changed():
            raise FarfieldError(
                f"{name} is {options.changed()[name]}, which has no effect without a threshold, since every moment "
                f"then belongs to a segment. {advice_on_thresholds(model.task)}"
            )


def advice_on_thresholds(task: Task) -> str:
    """Return the end of a message: how to get thresholds for timelines.

    A threshold can be set for any task. farfield can choose thresholds only if the task is not `multi_head`.
    """
    if task == "multi_head":
        return "Set threshold to a value such as 0.8."
    return (
        "Set threshold to a value such as 0.8, or choose thresholds with farfield test --timeline "
        "--calibrate_on val.csv --choose_threshold f1."
    )


def timeline_thresholds(model: InferenceModel, labels: Sequence[str], threshold: float) -> Float[np.ndarray, " k"]:
    """Return the probability that each class must reach to be found on a timeline.

    A positive `threshold` is the threshold of every class. With 0, the thresholds depend on the task:
    - `multilabel`: the thresholds of the network's `timeline_operating_point` or, without one, of its
      `operating_point`. A class without a threshold has `DEFAULT_THRESHOLD`.
    - `single_label`: the thresholds of the network's `timeline_operating_point`. A class without a threshold has
      `DEFAULT_THRESHOLD`. Without a `timeline_operating_point`, all thresholds are 0, so that every moment belongs to
      a segment.
    - `multi_head`: 0, since farfield cannot choose thresholds for combinations of classes.

    Args:
        model: network with the thresholds.
        labels: class names; for a `multi_head` network, combinations of one class per head.
        threshold: threshold for all classes; 0 to use the network's own thresholds.
    """
    point = model.timeline_operating_point
    if model.task == "multilabel":
        point = point or model.operating_point
    if threshold > 0:
        own = [threshold] * len(labels)
    elif model.task == "multilabel" or (model.task == "single_label" and point is not None):
        own = [DEFAULT_THRESHOLD if each is None else each for each in class_thresholds(labels, point, model.task)]
    else:
        own = [0.0] * len(labels)
    return np.array(own)


def timeline_segments(
    times: Float[np.ndarray, " cells+1"],
    cells: Float[np.ndarray, "cells classes"],
    model: InferenceModel,
    options: TimelineOptions,
) -> list[Segment]:
    """Find the segments of a timeline, sorted by start, from the class probabilities of its cells.

    Args:
        times: bounds of the cells in seconds.
        cells: class probabilities of each cell.
        model: network that computed the probabilities. Its task and thresholds are used.
        options: how to find segments; already checked by `check_timeline_options`.
    """
    labels = model.labels
    if model.task == "multi_head":
        cells, labels = joint_cells(cells, labels)
    thresholds = timeline_thresholds(model, labels, options.threshold)
    return segments_at(times, cells, labels, thresholds, model.task, options)


def segments_at(
    times: Float[np.ndarray, " cells+1"],
    cells: Float[np.ndarray, "cells k"],
    labels: list[str],
    thresholds: Float[np.ndarray, " k"],
    task: Task,
    options: TimelineOptions,
) -> list[Segment]:
    """Find the segments of a timeline, sorted by start, at given thresholds.

    Args:
        times: bounds of the cells in seconds.
        cells: probability of each class in each cell. For a `multi_head` network, give the probabilities of
            combinations of one class per head instead, see `joint_cells`.
        labels: names of these classes or combinations.
        thresholds: threshold of each class or combination; infinity for one that must not be found.
        task: task of the network.
        options: how to find segments; `options.threshold` is ignored.
    """
    limits = {name: per_class(getattr(options, name), labels) for name in PER_CLASS}
    if task != "multilabel":
        found = find_segments(times, cells, labels, threshold=thresholds, hysteresis=options.hysteresis, **limits)
    elif options.overlaps == "none":
        found = find_segments_of_each_class(times, cells, labels, thresholds, hysteresis=options.hysteresis, **limits)
    else:
        levels = options.num_levels
        candidates = find_candidates(
            times, cells, thresholds, num_levels=levels, hysteresis=options.hysteresis, **limits
        )
        if options.overlaps == "soft_nms":
            found = suppress_overlaps(times, cells, labels, candidates, sigma=options.soft_nms_sigma)
        else:
            found = merge_candidates(times, cells, labels, candidates, num_levels=levels)
    return [each for each in found if each.score >= options.min_score]


def per_class(given: float | Mapping[str, float], labels: Sequence[str]) -> Float[np.ndarray, " k"]:
    """Return a value for each class: `given` if it is a number; otherwise `given[label]`, or 0 if that is missing."""
    values = [given.get(label, 0.0) for label in labels] if isinstance(given, Mapping) else [given] * len(labels)
    return np.array(values, dtype=float)
