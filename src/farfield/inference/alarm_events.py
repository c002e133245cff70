"""Alarm events of a camera: the start of an alarm, its end, and its finished clip.

docs/guides/untrimmed_cameras.md documents the JSON of an event.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from farfield.inference.alarm_options import AlarmOptions, ClipOptions
from farfield.inference.alarm_thresholds import make_tracker, only_best
from farfield.inference.alarms import Alarm
from farfield.inference.camera import Camera
from farfield.inference.utc import utc_text
from farfield.scoring.load import InferenceModel

ALARM_SCHEMA_VERSION = 1
"""Version of the JSON schema. It is increased when a field is renamed or removed, or when its meaning changes."""


@dataclass(frozen=True)
class AlarmEvent:
    """The start or the end of an alarm, or its finished clip.

    Attributes:
        event: "start", "end" or "clip". The event "clip" comes when the clip of the alarm is finished or has failed.
        alarm: number of the alarm, counted from 1 over all cameras.
        source: name of the camera.
        label: the class.
        start_seconds: start of the alarm, in seconds since the camera's first frame.
        end_seconds: end of the alarm; None while the alarm is open: for "start", and for a "clip" that comes before the
            alarm ends.
        start_utc: date and time of the start, in UTC.
        end_utc: date and time of the end, in UTC; None if `end_seconds` is None.
        score: highest probability of the class so far, over the windows that started or continued the alarm.
        clip: path of the clip; None unless the event is "clip" and the clip could be written.
        clip_start_seconds: time of the clip's first frame; None without a clip.
        clip_end_seconds: end of the clip's last frame; None without a clip.
        error: why a requested clip could not be written; None otherwise.
    """

    event: Literal["start", "end", "clip"]
    alarm: int
    source: str
    label: str
    start_seconds: float
    end_seconds: float | None
    start_utc: datetime
    end_utc: datetime | None
    score: float
    clip: str | None = None
    clip_start_seconds: float | None = None
    clip_end_seconds: float | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert the event to plain types for JSON, with `schema_version`. Times in UTC become ISO 8601 text.

        All fields of `AlarmEvent` are present, also those that are None.
        """
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        times = {"start_utc": utc_text(self.start_utc), "end_utc": self.end_utc and utc_text(self.end_utc)}
        return {"schema_version": ALARM_SCHEMA_VERSION, **content, **times}


class CameraAlarms:
    """Tracker of one camera's alarms. It also records their clips. Its methods yield the events of alarms and clips.

    Args:
        camera: the camera; its recorder is used if clips are requested.
        model: the network.
        options: options that decide when alarms start and end.
        clips: options of the clips, such as their folder; None for no clips.
        numbers: iterator that gives the numbers of new alarms. All cameras share one iterator.
    """

    def __init__(
        self,
        camera: Camera,
        model: InferenceModel,
        options: AlarmOptions,
        clips: ClipOptions | None,
        numbers: Iterator[int],
    ) -> None:
        self._camera = camera
        self._model = model
        self._gap = options.gap_seconds
        self._clips = clips
        self._tracker = make_tracker(model, options)
        self._numbers = numbers
        self._followed: dict[int, _Followed] = {}  # by the tracker's number

    def update(
        self, start_seconds: float, end_seconds: float, probabilities: Float[np.ndarray, " classes"]
    ) -> Iterator[AlarmEvent]:
        """Update the alarms with the camera's next window, and yield their events.

        Args:
            start_seconds: start of the window, in seconds since the camera's first frame.
            end_seconds: end of the window.
            probabilities: probability of each class in the window.
        """
        yield from self._follow(self._tracker.update(start_seconds, end_seconds, only_best(probabilities, self._model)))

    def poll(self) -> Iterator[AlarmEvent]:
        """Yield the events that do not come from a new window: finished clips, and ends of alarms.

        If the camera has ended, all alarms end. While the camera is disconnected, an alarm ends when its class was last
        seen more than `AlarmOptions.gap_seconds` ago.
        """
        if self._camera.ended and not self._camera.is_due:
            yield from self._follow(self._tracker.end_all())
        elif not self._camera.connected and not self._camera.is_due:
            yield from self._follow(self._tracker.end_before(self._camera.now() - self._gap))
        recorder = self._camera.recorder
        for clip in recorder.finished() if recorder is not None else ():
            followed = self._followed[clip.key]
            followed.has_clip = False
            self._forget(clip.key)
            path = None if clip.path is None else str(clip.path)
            yield self._event("clip", followed, path, clip.start_seconds, clip.end_seconds, clip.error)

    def finish(self) -> Iterator[AlarmEvent]:
        """End all alarms and clips, and yield their events."""
        yield from self._follow(self._tracker.end_all())
        if self._camera.recorder is not None:
            self._camera.recorder.finish()
        yield from self.poll()

    def _follow(self, alarms: list[Alarm]) -> Iterator[AlarmEvent]:
        """Begin, extend and end the clips of alarms, and yield the start and end events of the alarms."""
        for alarm in alarms:
            followed = self._followed.get(alarm.number)
            if followed is None:
                has_clip = self._camera.recorder is not None and self._clips is not None
                followed = self._followed[alarm.number] = _Followed(next(self._numbers), alarm, has_clip)
                yield self._event("start", followed)
                self._begin_clip(followed)
            followed.alarm = alarm
            if self._camera.recorder is not None and self._clips is not None:
                until = alarm.end_seconds + self._clips.seconds_after
                self._camera.recorder.extend(alarm.number, until, final=not alarm.is_open)
            if not alarm.is_open:
                self._forget(alarm.number)
                yield self._event("end", followed)

    def _begin_clip(self, followed: _Followed) -> None:
        recorder, clips, alarm = self._camera.recorder, self._clips, followed.alarm
        if recorder is None or clips is None:
            return
        moment = self._camera.utc(alarm.start_seconds)
        name = f"{moment:%Y%m%dT%H%M%S}Z_{followed.number}_{_file_name(self._camera.name)}_{_file_name(alarm.label)}"
        recorder.begin(
            alarm.number,
            clips.folder / (name + recorder.suffix),
            alarm.start_seconds - clips.seconds_before,
            alarm.end_seconds + clips.seconds_after,
        )

    def _forget(self, key: int) -> None:
        """Drop an alarm if it has ended and its clip is finished."""
        if not self._followed[key].alarm.is_open and not self._followed[key].has_clip:
            del self._followed[key]

    def _event(
        self,
        event: Literal["start", "end", "clip"],
        followed: _Followed,
        clip: str | None = None,
        clip_start_seconds: float | None = None,
        clip_end_seconds: float | None = None,
        error: str | None = None,
    ) -> AlarmEvent:
        alarm = followed.alarm
        end = None if alarm.is_open else alarm.end_seconds
        return AlarmEvent(
            event,
            followed.number,
            self._camera.name,
            alarm.label,
            alarm.start_seconds,
            end,
            self._camera.utc(alarm.start_seconds),
            None if end is None else self._camera.utc(end),
            alarm.score,
            clip,
            clip_start_seconds,
            clip_end_seconds,
            error,
        )


@dataclass
class _Followed:
    """An alarm that is open, or whose clip is not finished: an event of it is still to come.

    Attributes:
        number: number of the alarm over all cameras.
        alarm: current state of the alarm.
        has_clip: whether the alarm has a clip that is not finished yet.
    """

    number: int
    alarm: Alarm
    has_clip: bool


def _file_name(text: str) -> str:
    """Convert the name of a camera or class to letters, digits and hyphens, for use in a file name."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", text).strip("-")[:60] or "unnamed"
