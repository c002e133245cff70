"""Task `figures`: a person performs everyday actions that come in time-reversed pairs.

Sitting down played backwards is standing up, so neither a single frame nor an unordered set of frames distinguishes
the two actions of a pair. Body, clothes, background, camera and speed are random; their distributions stay the same if
time is reversed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from farfield.synthetic.canvas import Canvas, Colour, Point, textured_background

WIDTH, HEIGHT = 112, 84  # decord returns garbage for a width of 96
NUM_FRAMES = 48
FPS = 25


@dataclass(frozen=True)
class Pose:
    """Joint angles, in degrees, of a figure that is seen from the side and faces right.

    If all angles are 0, torso and body are upright, and the limbs hang down. Positive angles lean the torso forward
    (`torso`), tip the whole body forward (`turn`), swing the arms and thighs forward (`shoulder`, `hip`), bend the
    forearms forward (`elbow`), and bend the shins backward (`knee`).
    """

    torso: float = 0
    shoulder: float = 8
    elbow: float = 10
    hip: float = 2
    knee: float = 4
    turn: float = 0

    def towards(self, other: Pose, fraction: float) -> Pose:
        """Interpolate linearly between this pose (fraction 0) and `other` (fraction 1)."""
        return Pose(*((1 - fraction) * getattr(self, f.name) + fraction * getattr(other, f.name) for f in fields(self)))


STANDING = Pose()
SEATED = Pose(torso=6, shoulder=35, elbow=30, hip=88, knee=88)
ARMS_UP = Pose(shoulder=172, elbow=4)
BOWED = Pose(torso=80, shoulder=20, elbow=8)
REACHING = Pose(torso=72, shoulder=70, elbow=0, hip=62, knee=78)
HOLDING = Pose(shoulder=78, elbow=12)
LYING = Pose(shoulder=14, elbow=6, turn=-88)


@dataclass(frozen=True)
class Action:
    """An action of a figure.

    Attributes:
        poses: poses that the figure passes through, at equal steps of the action's progress from 0 to 1.
        box_in_hand_from: progress from which the figure holds the box; None for an action without a box.
    """

    poses: tuple[Pose, ...]
    box_in_hand_from: float | None = None

    def pose(self, progress: float) -> Pose:
        """Interpolate smoothly through the poses; `progress` goes from 0 for the first to 1 for the last."""
        place = progress * (len(self.poses) - 1)
        leg = min(int(place), len(self.poses) - 2)
        fraction = place - leg
        return self.poses[leg].towards(self.poses[leg + 1], fraction * fraction * (3 - 2 * fraction))  # smoothstep


FORWARD_ACTIONS: dict[str, Action] = {
    "sit_down": Action((STANDING, SEATED)),
    "raise_arms": Action((STANDING, ARMS_UP)),
    "bow": Action((STANDING, BOWED)),
    "pick_up": Action((STANDING, REACHING, HOLDING), box_in_hand_from=0.5),
    "lie_down": Action((STANDING, LYING)),
}
MIRRORED_NAMES = {
    "sit_down": "stand_up",
    "raise_arms": "lower_arms",
    "bow": "straighten_up",
    "pick_up": "put_down",
    "lie_down": "get_up",
}
MIRROR = MIRRORED_NAMES | {after: before for before, after in MIRRORED_NAMES.items()}
"""For each action, the name of its time-reversed action."""
LABELS = sorted(MIRROR)


def render(label: str, rng: np.random.Generator) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Render the frames of one video that shows the action `label`, one of `LABELS`."""
    yield from render_in(Scene(rng), label, rng)


def render_in(scene: Scene, label: str, rng: np.random.Generator) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Render the action `label` in a given scene, with a random start time and a random speed."""
    backwards = label not in FORWARD_ACTIONS
    action = FORWARD_ACTIONS[MIRROR[label] if backwards else label]
    share = rng.uniform(0.55, 0.85)  # fraction of the video that the action takes; sets the action's speed
    onset = rng.uniform(0, 1 - share)
    for number in range(NUM_FRAMES):
        time = number / (NUM_FRAMES - 1)
        progress = min(max((time - onset) / share, 0), 1)
        yield scene.draw(action, 1 - progress if backwards else progress, time)


class Scene:
    """Body, clothes, background and camera motion of one video."""

    def __init__(self, rng: np.random.Generator) -> None:
        wall = _colour(rng, 0.62, 0.95)
        self.margin = 14  # pixels of background beyond the frame, for the camera to pan over
        self.background = textured_background(HEIGHT + 2 * self.margin, WIDTH + 2 * self.margin, wall, 0.07, rng)
        floor = tuple(np.clip(np.array(wall) * rng.uniform(0.75, 0.9), 0, 1))
        self.ground = HEIGHT * rng.uniform(0.86, 0.92)
        self.background[int(self.ground) + self.margin :] = floor
        self.shirt, self.trousers, self.box = (_colour(rng, 0.0, 0.4) for _ in range(3))  # in contrast to the wall
        red, green, blue = np.array((0.55, 0.38, 0.28)) * rng.uniform(0.4, 0.9)
        self.skin: Colour = (float(red), float(green), float(blue))
        self.size = HEIGHT * rng.uniform(0.66, 0.76)
        self.thickness = self.size * rng.uniform(0.048, 0.062)
        self.box_half_width, self.box_half_height = 7.0, 6.0
        self.proportions = rng.uniform(0.93, 1.07, 4)  # torso, arms, thighs, shins
        self.facing = 1 if rng.random() < 0.5 else -1
        self.place = WIDTH * rng.uniform(0.44, 0.56)
        self.pan = rng.uniform(-6, 6, 2) * (1, 0.4)
        self.sway = rng.uniform(0, 2.5)
        self.sway_phase = rng.uniform(0, 2 * math.pi)

    def draw(self, action: Action, progress: float, time: float) -> UInt8[np.ndarray, "h w 3"]:
        """Draw one frame.

        Args:
            action: action of the figure.
            progress: progress of the action, from 0 for its first pose to 1 for its last.
            time: time in the video in [0, 1], which sets the position of the camera and how far the figure sways.
        """
        canvas = self.canvas(time)
        self.draw_figure(canvas, action, progress, time)
        return canvas.frame()

    def canvas(self, time: float) -> Canvas:
        """Return the background as the camera sees it at a time in [0, 1]."""
        shift_x, shift_y = self.shift(time)
        top, left = self.margin + round(shift_y), self.margin + round(shift_x)
        return Canvas(self.background[top : top + HEIGHT, left : left + WIDTH])

    def shift(self, time: float) -> Point:
        """Return how far the camera has panned from its middle position at a time in [0, 1]: (x, y) in pixels."""
        shift_x, shift_y = self.pan * (time - 0.5) * 2
        return float(shift_x), float(shift_y)

    def draw_figure(self, canvas: Canvas, action: Action, progress: float, time: float) -> None:
        """Draw the figure on a canvas; the arguments are those of `draw`."""
        sway = math.sin(2 * math.pi * time + self.sway_phase) * self.sway
        pose = action.pose(progress)
        if action.box_in_hand_from is None:
            self.draw_pose(canvas, pose, sway=sway, shift=self.shift(time))
        else:
            in_hand = progress >= action.box_in_hand_from
            self.draw_pose(canvas, pose, sway=sway, shift=self.shift(time), box="hand" if in_hand else "floor")

    def draw_pose(
        self, canvas: Canvas, pose: Pose, *, sway: float, shift: Point, box: Literal["hand", "floor"] | None = None
    ) -> None:
        """Draw the figure in a pose.

        Args:
            canvas: image to draw on.
            pose: pose of the figure.
            sway: degrees by which the upper body leans forward beyond the pose.
            shift: how far the camera has panned, (x, y) in pixels.
            box: where the box is: in the figure's hand, or on the floor where the hand reaches it; None for no box.
        """
        shift_x, shift_y = shift

        def on_screen(point: Point) -> Point:
            x = self.place + self.facing * point[0] - shift_x
            return round(x * 16) / 16, round((self.ground + point[1] - shift_y) * 16) / 16

        p = {name: on_screen(point) for name, point in self._joints(pose, sway).items()}
        r = self.thickness
        if box is not None:
            x, y = p["hand"] if box == "hand" else on_screen(self._joints(REACHING, 0)["hand"])
            w, h = self.box_half_width, self.box_half_height
            canvas.polygon([(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)], self.box)
        canvas.capsule(p["hip"], p["knee"], r * 1.25, self.trousers)
        canvas.capsule(p["knee"], p["foot"], r * 1.1, self.trousers)
        canvas.capsule(p["foot"], p["toe"], r * 0.9, self.skin)
        canvas.capsule(p["hip"], p["neck"], r * 1.7, self.shirt)
        canvas.capsule(p["head"], p["head"], r * 2.2, self.skin)
        canvas.capsule(p["neck"], p["elbow"], r, self.skin)
        canvas.capsule(p["elbow"], p["hand"], r, self.skin)

    def _joints(self, pose: Pose, sway: float) -> dict[str, Point]:
        """Return the position of each joint by name, such as "hip" or "hand".

        Positions are (x, y) in pixels from a point on the ground below the body; x points forward, and y down.
        """
        torso, arms, thighs, shins = self.proportions * self.size
        up = 180 - pose.torso - pose.turn - sway
        hip: Point = (0.0, 0.0)
        neck = _reach(hip, up, 0.30 * torso)
        head = _reach(neck, up, 0.12 * self.size)
        lean = -pose.torso - pose.turn  # limbs turn with the torso
        elbow = _reach(neck, pose.shoulder + lean, 0.19 * arms)
        hand = _reach(elbow, pose.shoulder + pose.elbow + lean, 0.18 * arms)
        knee = _reach(hip, pose.hip - pose.turn, 0.25 * thighs)
        foot = _reach(knee, pose.hip - pose.knee - pose.turn, 0.25 * shins)
        toe = _reach(foot, pose.hip - pose.knee - pose.turn + 90, 0.07 * self.size)
        joints = {
            "hip": hip,
            "neck": neck,
            "head": head,
            "elbow": elbow,
            "hand": hand,
            "knee": knee,
            "foot": foot,
            "toe": toe,
        }
        lowest = max(y for _, y in joints.values()) + self.thickness
        middle = sum(joints[name][0] for name in ("head", "hip", "foot")) / 3
        return {name: (x - middle, y - lowest) for name, (x, y) in joints.items()}


def _reach(start: Point, degrees: float, length: float) -> Point:
    """Return the point `length` away from `start` in direction `degrees`: 0 is down, 90 forward (right), 180 up."""
    angle = math.radians(degrees)
    return start[0] + math.sin(angle) * length, start[1] + math.cos(angle) * length


def _colour(rng: np.random.Generator, low: float, high: float) -> Colour:
    red, green, blue = rng.uniform(low, high, 3)
    return float(red), float(green), float(blue)
