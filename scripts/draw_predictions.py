"""Draw clips as strips of frames with a network's predictions, as in docs/quickstart.md.

python scripts/draw_predictions.py CLIP... --checkpoint CKPT --out docs/images/predictions.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from farfield import predict
from farfield.checkpoints.checkpoint import load_network
from farfield.video.decoders import open_video


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--num_frames", type=int, default=8)
    arguments = parser.parse_args()
    model = load_network(arguments.checkpoint)
    figure = Figure(figsize=(10, 0.95 * len(arguments.clips)), layout="constrained")
    rows = figure.subplots(len(arguments.clips), 2, width_ratios=[7.4, 2], squeeze=False)
    for (pictures, bars), path in zip(rows, arguments.clips, strict=True):
        with open_video(path) as video:
            chosen = np.linspace(0, len(video.times) - 1, arguments.num_frames).round().astype(int)
            pictures.imshow(np.concatenate(list(video.frames(chosen)), axis=1))
        pictures.axis("off")
        ranking = predict(path, model, top_k=3).ranking
        bars.barh(range(3), [ranked.probability for ranked in ranking], color=["#188060", "#8fb3c9", "#8fb3c9"])
        for place, ranked in enumerate(ranking):
            bars.text(0.02, place, f"{ranked.label}  {100 * ranked.probability:.0f}%", va="center", fontsize=8)
        bars.set_xlim(0, 1)
        bars.invert_yaxis()
        bars.axis("off")
    figure.savefig(arguments.out, dpi=110)


if __name__ == "__main__":
    main()
