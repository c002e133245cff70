"""A multilabel network with set weights, which knows how bright a video is, and a video for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from farfield import build_model
from farfield.clip_spec import ClipOptions
from farfield.models.network import ActionNet
from farfield.video.writer import write_video

LABELS = ["bright", "dark", "picture", "fire"]
"""bright and dark are found where the video is, picture at all times, fire never."""
LEVELS = [25] * 40 + [230] * 60 + [25] * 40
"""Brightness of each frame of `write_stripes`: two seconds dark, three bright, two dark, at 20 frames a second."""


def brightness_network(**clip: object) -> ActionNet:
    """Return a tiny network with random features, whose classifier is set for `LABELS`."""
    torch.manual_seed(11)
    options: ClipOptions = {"num_frames": 4, "crop_px": 24, "frame_stride": 2, "num_clips": 3, "num_crops": 2}
    model = build_model("tiny", labels=LABELS, task="multilabel", clip={**options, **clip}).eval()  # type: ignore[typeddict-item]
    levels = torch.tensor([25.0, 230.0]).view(2, 1, 1, 1, 1).expand(2, 3, 4, 24, 24)
    with torch.no_grad():
        dark, bright = model.head.pool(model.backbone((levels / 255 - 0.45) / 0.225)).flatten(1)
        direction = 10 * (bright - dark) / (bright - dark).square().sum()
        middle = direction @ (bright + dark) / 2
        model.head.fc.weight.copy_(torch.stack([direction, -direction, direction / 50, direction / 50]))
        model.head.fc.bias.copy_(torch.tensor([-middle, middle, 3.0, -3.0]))
    return model


def write_stripes(path: Path, levels: list[int] = LEVELS) -> Path:
    write_video(path, (np.full((32, 48, 3), level, np.uint8) for level in levels), fps=20)
    return path
