"""Measure and draw where each way of computing attention is the fastest, for the rule in `attention_choice`.

python scripts/attention_crossover.py --plot docs/images/pairwise_sizes.png      2 minutes on 2 CPU cores

Left: forward and backward of the three kernels for n queries and m keys, relative to tiles. Right: a non-local block's
products in the order as written and exchanged, relative to as written. Each point is the least CPU time of --rounds
measurements in turns: other processes disturb the CPU time less than the elapsed time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from matplotlib.figure import Figure
from torch import Tensor

from farfield.layers import NonLocalBlock3d, embedded_gaussian

KEYS = [49, 98, 196, 294, 392, 588, 784, 1176, 1568, 3136]


def kernels(n: int, width: int, m: int, rounds: int) -> dict[str, float]:
    """Return the seconds of each kernel, forward and backward."""
    shapes = ((n, width), (m, width), (m, width))
    inputs = [torch.randn(1, channels, positions).mT.requires_grad_() for positions, channels in shapes]

    def attend(kernel: str) -> Callable[[], None]:
        def run() -> None:
            with patch("farfield.layers.pairwise.choose_kernel", lambda *_: kernel):
                y = embedded_gaussian(*inputs, scale=width**-0.5)
            torch.autograd.grad(y, inputs, torch.ones_like(y))

        return run

    return least_seconds({kernel: attend(kernel) for kernel in ("tiles", "explicit", "fused")}, rounds)


def orders(n: int, channels: int, m: int, rounds: int) -> dict[str, float]:
    """Return the seconds of both orders of a block's products, forward and backward."""
    block = NonLocalBlock3d(channels, norm=False)
    x = torch.randn(n, channels).requires_grad_()
    keys = torch.randn(m, channels).requires_grad_()

    def order(exchanged: bool) -> Callable[[], None]:
        def run() -> None:
            with patch("farfield.layers.non_local.exchanged_is_cheaper", lambda *_: exchanged):
                y: Tensor = block._sample(x, keys)
            torch.autograd.grad(y, [x, keys, *block.parameters()], torch.ones_like(y))

        return run

    return least_seconds({"as written": order(False), "exchanged": order(True)}, rounds)


def least_seconds(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Return the least CPU seconds of each way, measured in turns."""
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, run in ways.items():
            start = time.process_time()
            run()
            seconds[name] = min(seconds[name], time.process_time() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", nargs="+", type=int, default=KEYS, help="numbers of keys m")
    parser.add_argument("--queries", type=int, default=3136, help="n of the left panel; half of it in the right one")
    parser.add_argument("--channels", type=int, default=512, help="C of the left panel; twice of it in the right one")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--plot", type=Path, metavar="PNG")
    options = parser.parse_args()
    n, channels = options.queries, options.channels
    n_right, right = n // 2, 2 * channels
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left_axes, right_axes = figure.subplots(1, 2)
    panels = [
        (left_axes, "tiles", {m: kernels(n, channels // 2, m, options.rounds) for m in options.keys}, channels),
        (
            right_axes,
            "as written",
            {m: orders(n_right, right, m, options.rounds) for m in options.keys if m <= right},
            n_right * right / (n_right + right),
        ),
    ]
    titles = (f"kernels, n = {n}, d = e = {channels // 2}", f"order of products, n = {n_right}, C = {right}")
    for (axes, reference, seconds, border), title in zip(panels, titles, strict=True):
        print(title)
        for m, found in seconds.items():
            words = ", ".join(f"{name} {value * 1e3:.1f} ms" for name, value in found.items())
            print(f"  m = {m:5}: {words}")
        for name in next(iter(seconds.values())):
            ratios = [found[name] / found[reference] for found in seconds.values()]
            axes.plot(list(seconds), ratios, marker="o", markersize=3, label=name)
        axes.axvline(border, color="grey", linestyle="--", linewidth=1, label=f"border of the choice, m = {border:.0f}")
        axes.set(xscale="log", xlabel="keys m", ylabel=f"CPU time relative to {reference}", title=title)
        axes.set_xticks(list(seconds), [str(m) for m in seconds], rotation=45)
        axes.set_xticks([], minor=True)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    if options.plot:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(options.plot, dpi=110)


if __name__ == "__main__":
    main()
