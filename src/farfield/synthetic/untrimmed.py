"""Task `untrimmed`: long videos in which persons sometimes perform an action of the task `figures`.

Between actions, a person keeps the last pose (standing, seated, lying, or with a box in the hand), and moves a little.
Some persons fidget: they nod, beckon, march or kick. Fidgets belong to no class. Passers-by, balls and crates
cross the picture. Two persons may act at the same time. An action [start, end) covers the frames in which the person is
between two poses: in frame `start` - 1 the person is still in the first pose; in frame `end`, the person is in the
last pose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from farfield.synthetic.canvas import Canvas, Point
from farfield.synthetic.figures import (
    FORWARD_ACTIONS,
    HEIGHT,
    LABELS,
    MIRROR,
    STANDING,
    WIDTH,
    Action,
    Pose,
    Scene,
)
from farfield.synthetic.untrimmed_schedule import FIDGETS, FPS, Crossing, Movement, Part, Schedule

__all__ = ["FPS", "LABELS", "poses", "render"]

IDLE = {"torso": 2.0, "shoulder": 5.0, "elbow": 6.0}
"""Maximum amplitude, in degrees, of the small movements that a person always makes, for each joint."""
WALKING = Pose(shoulder=12, elbow=20, hip=30, knee=30)


def render(schedule: Schedule, rng: np.random.Generator) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Render the frames of one video, one at a time.

    Args:
        schedule: what happens in the video.
        rng: random generator of the appearance: persons, clothes, background, camera.
    """
    camera = Scene(rng)
    camera_seconds, camera_phase = rng.uniform(20, 60), rng.uniform(0, 2 * math.pi)
    persons = [_Person(part, schedule.num_frames, rng) for part in schedule.parts]
    width = HEIGHT / max(len(persons), 1)  # persons stay within the central square, which networks see
    for number, person in enumerate(persons):
        scene = person.scene
        room = 0.1 if len(persons) > 1 else 0.2  # share of the width by which a person may stand beside the middle
        scene.place = (WIDTH - HEIGHT) / 2 + width * (number + 0.5 + rng.uniform(-room, room))
        scene.ground = camera.ground
    crossings = [_Passage(crossing, camera, rng) for crossing in schedule.crossings]
    for number in range(schedule.num_frames):
        seconds = number / FPS
        time = 0.5 + 0.5 * math.sin(2 * math.pi * seconds / camera_seconds + camera_phase)
        canvas, shift = camera.canvas(time), camera.shift(time)
        now = [each for each in crossings if each.crossing.start <= number < each.crossing.end]
        for each in now:
            if not each.in_front:
                each.draw(canvas, number, shift)
        for person in persons:
            person.draw(canvas, seconds, shift)
        for each in now:
            if each.in_front:
                each.draw(canvas, number, shift)
        yield canvas.frame()


def poses(part: Part, num_frames: int) -> Iterator[tuple[Pose, bool]]:
    """Yield, for each frame, a person's pose, and whether the person holds the box (otherwise, it is on the floor)."""
    movements = list(part.movements)
    pose, in_hand = STANDING, False
    if part.before is not None:
        pose, in_hand = _in_action(FORWARD_ACTIONS[part.before], 1)
    for number in range(num_frames):
        if movements and number >= movements[0].start:
            pose, in_hand = _in_movement(movements[0], number, in_hand)
            if number == movements[0].end:
                movements.pop(0)
        yield pose, in_hand


def _in_movement(movement: Movement, number: int, in_hand: bool) -> tuple[Pose, bool]:
    """Return a person's pose in a frame of a movement, and whether the person holds a box.

    Args:
        movement: what the person does.
        number: index of the frame in the video, from `movement.start` to `movement.end`. Frame `movement.end` is the
            first frame after the movement, and shows the movement's last pose.
        in_hand: whether the person holds the box before the movement.
    """
    progress = (number - movement.start + 1) / (movement.end - movement.start + 1)
    if movement.name in FIDGETS:
        fraction = 0.5 - 0.5 * math.cos(2 * math.pi * movement.times * progress)
        return STANDING.towards(FIDGETS[movement.name], fraction), in_hand
    if movement.name in FORWARD_ACTIONS:
        return _in_action(FORWARD_ACTIONS[movement.name], progress)
    return _in_action(FORWARD_ACTIONS[MIRROR[movement.name]], 1 - progress)


def _in_action(action: Action, progress: float) -> tuple[Pose, bool]:
    in_hand = action.box_in_hand_from is not None and progress >= action.box_in_hand_from
    return action.pose(progress), in_hand


class _Person:
    """A person who stays in the picture, and the box that the person may hold."""

    def __init__(self, part: Part, num_frames: int, rng: np.random.Generator) -> None:
        self.scene = _scaled(Scene(rng), rng.uniform(0.85, 1.0))
        self.poses = poses(part, num_frames)
        self.idle = {
            joint: (rng.uniform(0, most), rng.uniform(2, 6), rng.uniform(0, 2 * math.pi))
            for joint, most in IDLE.items()
        }

    def draw(self, canvas: Canvas, seconds: float, shift: Point) -> None:
        """Draw the person in one frame. Call this once for each frame of the video, in order.

        Args:
            canvas: image to draw on.
            seconds: time of the frame in the video.
            shift: how far the camera has panned, (x, y) in pixels.
        """
        pose, in_hand = next(self.poses)
        moved = {
            joint: getattr(pose, joint) + degrees * math.sin(2 * math.pi * seconds / period + phase)
            for joint, (degrees, period, phase) in self.idle.items()
        }
        pose = replace(pose, **moved)
        self.scene.draw_pose(canvas, pose, sway=0, shift=shift, box="hand" if in_hand else "floor")


class _Passage:
    """A passer-by or an object that crosses the picture."""

    def __init__(self, crossing: Crossing, camera: Scene, rng: np.random.Generator) -> None:
        self.crossing = crossing
        self.in_front = rng.random() < 0.3
        self.scene = _scaled(Scene(rng), rng.uniform(0.55, 0.7))
        self.scene.ground = camera.ground + (rng.uniform(1, 4) if self.in_front else rng.uniform(-5, -1))
        self.radius = rng.uniform(3, 6)
        self.bounce = HEIGHT * rng.uniform(0, 0.4)
        self.rounds = int(rng.integers(2, 6))  # bounces of a ball, steps of a person in the time of the crossing

    def draw(self, canvas: Canvas, number: int, shift: Point) -> None:
        """Draw the passer-by or object in one frame.

        Args:
            canvas: image to draw on.
            number: index of the frame in the video.
            shift: how far the camera has panned, (x, y) in pixels.
        """
        crossing, scene = self.crossing, self.scene
        progress = (number - crossing.start + 0.5) / (crossing.end - crossing.start)
        rise = abs(math.sin(math.pi * self.rounds * progress))
        way = progress if scene.facing == 1 else 1 - progress
        scene.place = -20 + (WIDTH + 40) * way
        if crossing.kind == "person":
            scene.draw_pose(canvas, STANDING.towards(WALKING, rise), sway=0, shift=shift)
            return
        x = round((scene.place - shift[0]) * 16) / 16
        y = round((scene.ground - self.radius - shift[1]) * 16) / 16
        r = self.radius
        if crossing.kind == "ball":
            y -= round(self.bounce * rise * 16) / 16
            canvas.capsule((x, y), (x, y), r, scene.shirt)
        else:
            canvas.polygon([(x - 2 * r, y - r), (x + 2 * r, y - r), (x + 2 * r, y + r), (x - 2 * r, y + r)], scene.box)


def _scaled(scene: Scene, factor: float) -> Scene:
    """Scale the figure and the box of a scene by `factor`, in place; return the scene."""
    scene.size *= factor
    scene.thickness *= factor
    scene.box_half_width *= factor
    scene.box_half_height *= factor
    return scene
