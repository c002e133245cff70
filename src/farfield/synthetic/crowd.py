"""Task `crowd`: up to three figures, each of which may perform an action. A video has the labels of all its actions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from farfield.data.video_record import split_labels
from farfield.synthetic.figures import FORWARD_ACTIONS, NUM_FRAMES, STANDING, WIDTH, Action, Scene

LABELS = sorted(FORWARD_ACTIONS)
MOST_FIGURES = 3
IDLE = Action((STANDING, STANDING))


def choose_label(index: int, rng: np.random.Generator) -> str:
    """Return a random label for video `index`: different actions, separated by `|`.

    The number of actions is `index` modulo 4. The label is empty if this is 0.
    """
    return "|".join(sorted(rng.choice(LABELS, index % (MOST_FIGURES + 1), replace=False)))


def render(label: str, rng: np.random.Generator) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Render the frames of one video.

    The video shows one figure for each action of `label`. Idle figures may be added, up to three figures in all.
    """
    actions = [FORWARD_ACTIONS[each] for each in split_labels(label)]
    idle = int(rng.integers(MOST_FIGURES - len(actions) + 1))
    actions += [IDLE] * idle
    order = rng.permutation(len(actions))
    scenes = [Scene(rng) for _ in range(max(len(actions), 1))]
    shares = rng.uniform(0.55, 0.85, len(actions))  # fraction of the video that each action takes
    onsets = rng.uniform(0, 1 - shares)
    for place, scene in enumerate(scenes):
        scene.size *= 0.55
        scene.thickness *= 0.55
        scene.place = WIDTH * (place + 0.5 + rng.uniform(-0.08, 0.08)) / len(scenes)
        scene.pan, scene.ground = scenes[0].pan, scenes[0].ground  # one camera, one floor
    for number in range(NUM_FRAMES):
        time = number / (NUM_FRAMES - 1)
        canvas = scenes[0].canvas(time)
        for scene, which in zip(scenes, order, strict=False):
            progress = min(max((time - onsets[which]) / shares[which], 0), 1)
            scene.draw_figure(canvas, actions[which], progress, time)
        yield canvas.frame()
