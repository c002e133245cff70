"""The prediction for one video, and its JSON schema.

`farfield predict --json`, the server's POST /predict and `predictions.jsonl` write the result of `Prediction.to_dict`.
docs/reference/predictions.md documents the fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float

from farfield.models.operating_point import class_thresholds
from farfield.scoring.load import InferenceModel
from farfield.task import DEFAULT_TASK, Task, head_columns, split_heads
from farfield.timelines.joint_labels import rank_labels_jointly
from farfield.timelines.segments import Segment
from farfield.timelines.timeline import Timeline

SCHEMA_VERSION = 1
"""Version of the JSON schema. It is increased when a field is renamed or removed, or when its meaning changes."""


@dataclass(frozen=True)
class RankedLabel:
    """A class in a ranking, with its probability.

    Attributes:
        label: name of the class.
        probability: probability of the class.
        above_threshold: whether the probability reaches the class's threshold. In a multilabel task every class has a
            threshold. In a single-label task, `above_threshold` is None if the network has no threshold for the class,
            or if the probability is not an average over test views. In a multi_head task it is None.
    """

    label: str
    probability: float
    above_threshold: bool | None = None


@dataclass(frozen=True)
class Prediction:
    """A network's prediction for one video.

    Attributes:
        path: the video file, the folder of pictures, or the name of an uploaded file.
        ranking: the most probable classes of the whole video, best first; empty if the video could not be read. In a
            multilabel task it also holds every other class that reaches its threshold. In a multi_head task, it holds
            combinations of one class from each head, such as noun:door|verb:open, ranked by the product of the
            probabilities.
        task: task of the network. In a multilabel task, the probabilities of the classes are independent: a video may
            have several classes or none, and segments of different classes may overlap.
        heads: maps the name of each head of a multi_head task to its most probable classes; None for other tasks.
        model: name of the network's backbone; None if unknown.
        duration_seconds: length of the whole video; None if unknown.
        start_seconds: time of the first frame that was scored.
        end_seconds: time of the last frame that was scored; with a timeline or the option `hop`, the end of the last
            window.
        segments: the actions and their times; None without a timeline.
        error: why the video could not be read, or could be read only in part; None if it was read completely.
        note: why there is no timeline although one was requested; None otherwise.
        requested_start_seconds: start of the part of the video that was to be predicted (for example, a segment in a
            manifest); None for the video's start.
        requested_end_seconds: end of that part, excluded; None for the video's end.
        timeline: class probabilities over time; None without a timeline. Not in the JSON.
        features: one row for each window of the timeline; without a timeline, one row for the video; None if not
            requested. Not in the JSON.
        feature_seconds: start and end, in seconds, of the part of the video that each row of features covers; None if
            there are no features. Not in the JSON.
        reaches_threshold: whether any class reaches its threshold, even one that is not in the ranking. Not in the
            JSON. None in each of these cases:

            - the network has no thresholds, or is a multi_head network
            - there is a timeline, or the option `hop` was given
            - the video could not be read
            - the prediction was read from JSON
    """

    path: str
    ranking: list[RankedLabel]
    task: Task = DEFAULT_TASK
    heads: dict[str, list[RankedLabel]] | None = None
    model: str | None = None
    duration_seconds: float | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    segments: list[Segment] | None = None
    error: str | None = None
    note: str | None = None
    requested_start_seconds: float | None = None
    requested_end_seconds: float | None = None
    timeline: Timeline | None = None
    features: Float[np.ndarray, "rows c"] | None = None
    feature_seconds: Float[np.ndarray, "rows 2"] | None = None
    reaches_threshold: bool | None = None

    @property
    def title(self) -> str:
        """The path, followed by the start and end of the requested part of the video, if any."""
        return self.path + segment_text(self.requested_start_seconds, self.requested_end_seconds)

    @property
    def above_threshold(self) -> list[RankedLabel]:
        """The classes in `ranking` that reach their thresholds, the most probable first."""
        return [each for each in self.ranking if each.above_threshold]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types for JSON. All fields of the schema are present; unknown values are None."""
        return {
            "schema_version": SCHEMA_VERSION,
            "path": self.path,
            "task": self.task,
            "model": self.model,
            "duration_seconds": self.duration_seconds,
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
            "ranking": [asdict(each) for each in self.ranking],
            "heads": self.heads and {name: [asdict(each) for each in own] for name, own in self.heads.items()},
            "segments": None if self.segments is None else [asdict(each) for each in self.segments],
            "error": self.error,
            "note": self.note,
            "requested_start_seconds": self.requested_start_seconds,
            "requested_end_seconds": self.requested_end_seconds,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Prediction:
        """Build a prediction from the result of `to_dict`.

        Results of earlier versions are accepted: they may lack the schema version, and segments without a score get
        their probability as score.

        Raises:
            KeyError, TypeError: if the content is not a prediction.
        """
        known = {field.name for field in fields(cls)}
        given = {name: value for name, value in content.items() if name in known}
        given["ranking"] = [RankedLabel(**each) for each in given.get("ranking", [])]
        if given.get("heads") is not None:
            given["heads"] = {name: [RankedLabel(**each) for each in own] for name, own in given["heads"].items()}
        if given.get("segments") is not None:
            given["segments"] = [Segment(**{"score": each["probability"], **each}) for each in given["segments"]]
        return cls(**given)


def segment_text(start_seconds: float | None, end_seconds: float | None) -> str:
    """Format the start and end of a part of a video, as text to append to the video's path: " [1.5, 4) s".

    A start of None is written as 0, and an end of None as "end". The result is "" if both are None.
    """
    if start_seconds is None and end_seconds is None:
        return ""
    return f" [{start_seconds or 0:g}, {'end' if end_seconds is None else f'{end_seconds:g}'}) s"


def rank(
    probabilities: Float[np.ndarray, " classes"],
    model: InferenceModel,
    top_k: int,
    *,
    as_in_test: bool = False,
    thresholds: Sequence[float] | None = None,
) -> list[RankedLabel]:
    """Return the `top_k` most probable classes, best first.

    In a multilabel task, all other classes that reach their thresholds follow. In a multi_head task, the ranking
    instead has the most probable combinations of one class from each head.

    Args:
        probabilities: probability of each class.
        model: network with the labels, the task and the thresholds.
        top_k: number of the most probable classes to return.
        as_in_test: whether the probabilities are averages over test views. `farfield test` chooses thresholds from such
            averages, so in a single-label task other probabilities are not compared with thresholds.
        thresholds: threshold of each class, instead of the network's own; used in a multilabel task only.
    """
    if model.task == "multi_head":
        return [RankedLabel(*each) for each in rank_labels_jointly(probabilities, model.labels, top_k)]
    multilabel = model.task == "multilabel"
    point = model.operating_point if as_in_test or multilabel else None
    own = class_thresholds(model.labels, point, model.task)
    limits: Sequence[float | None] = thresholds if multilabel and thresholds is not None else own
    ranking = []
    for place, i in enumerate(np.argsort(-probabilities, kind="stable").tolist()):
        probability, threshold = float(probabilities[i]), limits[i]
        above = None if threshold is None else probability >= threshold
        if place < top_k or (multilabel and above):
            ranking.append(RankedLabel(model.labels[i], probability, above))
    return ranking


def any_reaches_threshold(probabilities: Float[np.ndarray, " classes"], model: InferenceModel) -> bool | None:
    """Return whether any class reaches its threshold; None for a multi_head network or one without thresholds.

    Args:
        probabilities: probability of each class, averaged over test views.
        model: network with the labels, the task and the thresholds.
    """
    if model.task == "multi_head":
        return None
    limits = class_thresholds(model.labels, model.operating_point, model.task)
    reached = [p >= limit for p, limit in zip(probabilities.tolist(), limits, strict=True) if limit is not None]
    return any(reached) if reached else None


def rank_heads(
    probabilities: Float[np.ndarray, " classes"], model: InferenceModel, top_k: int
) -> dict[str, list[RankedLabel]] | None:
    """Map each head of a multi_head network to its `top_k` most probable classes; return None for other tasks."""
    if model.task != "multi_head":
        return None
    heads, rankings = split_heads(model.labels), {}
    for head, columns in head_columns(model.labels).items():
        own = probabilities[columns]
        best = np.argsort(-own, kind="stable")[:top_k].tolist()
        rankings[head] = [RankedLabel(heads[head][i], float(own[i])) for i in best]
    return rankings
