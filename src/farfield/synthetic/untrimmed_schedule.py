"""Schedules of the task `untrimmed`: what each person does and when, and what else moves.

All times are frame numbers, and intervals are half-open: [start, end). Reversing time leaves the distribution of
schedules about the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from farfield.synthetic.figures import FORWARD_ACTIONS, MIRROR, MIRRORED_NAMES, Pose

FPS = 10
VIDEO_SECONDS = (60, 180)
SHORT_VIDEO_SECONDS = (20, 60)
ACTION_SECONDS = (1.8, 3.6)
PAUSE_SECONDS = (1.2, 5.0)
QUIET_SECONDS = (12, 30)
"""Shortest and longest quiet time, without any action, in seconds. About half of the videos have a quiet time.

It takes at most a third of a video, so it may be shorter in short videos.
"""
CROSSING_SECONDS = (3, 8)
BETWEEN_CROSSINGS_SECONDS = (4, 20)

FIDGETS: dict[str, Pose] = {
    "nod": Pose(torso=20),
    "beckon": Pose(shoulder=55, elbow=95),
    "march": Pose(hip=55, knee=80),
    "kick": Pose(hip=45, knee=5, torso=-6),
}
"""Movements that belong to no class, and a pose for each: a figure moves from standing to the pose and back."""
CROSSINGS = ("person", "ball", "crate")
"""What may cross the picture from side to side: somebody who walks past, or an object."""


@dataclass(frozen=True)
class Movement:
    """What a person does in the frames [start, end).

    Attributes:
        name: an action of the task `figures`, or a fidget.
        start: first frame.
        end: frame after the last.
        times: number of times that the fidget is performed; 1 for an action.
    """

    name: str
    start: int
    end: int
    times: int = 1


@dataclass(frozen=True)
class Part:
    """What one person does in a video.

    Attributes:
        before: action that the person has just finished when the video begins, so that the video begins with the last
            pose of this action; a key of `FORWARD_ACTIONS`. None for a standing person.
        movements: the person's movements in order of time. Between movements, the person stays in the last pose.
    """

    before: str | None
    movements: tuple[Movement, ...]

    @property
    def actions(self) -> tuple[Movement, ...]:
        """Return the movements that are actions."""
        return tuple(movement for movement in self.movements if movement.name in MIRROR)


@dataclass(frozen=True)
class Crossing:
    """Something that crosses the picture in the frames [start, end); `kind` is one of `CROSSINGS`."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Schedule:
    """What happens in a video.

    Attributes:
        num_frames: length of the video in frames.
        parts: what each person does; at most two persons. Passers-by are in `crossings`.
        crossings: what crosses the picture, in order of time.
    """

    num_frames: int
    parts: tuple[Part, ...]
    crossings: tuple[Crossing, ...]

    @property
    def actions(self) -> list[Movement]:
        """Return the actions of all persons in order of time."""
        every = [action for part in self.parts for action in part.actions]
        return sorted(every, key=lambda action: (action.start, action.end, action.name))


def draw_schedule(index: int, rng: np.random.Generator) -> Schedule:
    """Choose the schedule of a video at random.

    In every sixth video (index 5, 11, ...), nobody performs an action. In the other videos, one person or two persons
    perform actions. Two persons act independently of each other, so that their actions may overlap. Every fourth video
    (index 3, 7, ...) is short.

    Args:
        index: index of the video in its split.
        rng: random generator of the video.
    """
    num_frames = _frames(SHORT_VIDEO_SECONDS if index % 4 == 3 else VIDEO_SECONDS, rng)
    if index % 6 == 5:
        acting = [False] * int(rng.integers(3))
    else:
        acting = [True] + ([True] if index % 3 else [False] * int(rng.integers(2)))
    quiet = _draw_quiet(num_frames, rng)
    parts = tuple(_draw_part(num_frames, acts, quiet, rng) for acts in acting)
    return Schedule(num_frames, parts, tuple(_draw_crossings(num_frames, rng)))


def _draw_quiet(num_frames: int, rng: np.random.Generator) -> tuple[int, int]:
    """Choose frames [start, end) in which nobody performs an action. In half of the cases, this range is empty."""
    length = min(_frames(QUIET_SECONDS, rng), num_frames // 3)
    start = int(rng.integers(num_frames - length))
    return (start, start + length) if rng.random() < 0.5 else (start, start)


def _draw_part(num_frames: int, acts: bool, quiet: tuple[int, int], rng: np.random.Generator) -> Part:
    """Choose at random what a person does: actions, fidgets and pauses.

    After each forward action (a key of `FORWARD_ACTIONS`), the person's next action is its time reversal: a person who
    has sat down stands up. No action takes place in the frames `quiet` = [start, end). If `acts` is False, there are no
    actions at all.
    """
    names = list(FORWARD_ACTIONS)
    before = names[rng.integers(len(names))] if rng.random() < 0.5 else None
    pose_of = before
    deck: list[str] = []  # each forward action comes once before any comes again
    movements = []
    now = _frames(PAUSE_SECONDS, rng)
    while (end := now + _frames(ACTION_SECONDS, rng)) < num_frames - 1:
        may_act = acts and not (now < quiet[1] and quiet[0] < end)
        if may_act and pose_of is not None:
            movements.append(Movement(MIRRORED_NAMES[pose_of], now, end))
            pose_of = None
        elif may_act and rng.random() < 0.75:
            deck = deck or list(rng.permutation(names))
            pose_of = str(deck.pop())
            movements.append(Movement(pose_of, now, end))
        elif pose_of is None and rng.random() < 0.6:
            fidget = list(FIDGETS)[rng.integers(len(FIDGETS))]
            movements.append(Movement(fidget, now, end, times=int(rng.integers(1, 4))))
        now = end + _frames(PAUSE_SECONDS, rng)
    return Part(before, tuple(movements))


def _draw_crossings(num_frames: int, rng: np.random.Generator) -> list[Crossing]:
    """Choose at random what crosses the picture, and when. Crossings do not overlap."""
    crossings = []
    now = _frames(BETWEEN_CROSSINGS_SECONDS, rng)
    while (end := now + _frames(CROSSING_SECONDS, rng)) < num_frames:
        crossings.append(Crossing(CROSSINGS[rng.integers(len(CROSSINGS))], now, end))
        now = end + _frames(BETWEEN_CROSSINGS_SECONDS, rng)
    return crossings


def _frames(seconds: tuple[float, float], rng: np.random.Generator) -> int:
    """Return a random length in frames; `seconds` is the range (shortest, longest)."""
    return round(FPS * rng.uniform(*seconds))
