"""Benchmark of every layer's time and memory against the usual alternative, in one run.

python scripts/benchmark_layers.py                                     all of it, about 10 minutes on 2 CPU cores
python scripts/benchmark_layers.py --only "dot product" concatenation  some of it
python scripts/benchmark_layers.py --real_sizes                        at the sizes in networks: see `real_sizes.py`
python scripts/benchmark_layers.py --device cuda --dtype bfloat16

Ours and theirs are interleaved; times are medians. Memory is the peak of a call above the memory in use before it, from
PyTorch's allocator. Blocks are complete: projections, pairwise operation, batch norm, residual. Layers with n^2 time
run up to --quadratic_positions; beyond, theirs is extrapolated by a n + b n^2 fitted to the measurements.

Allocations above 32 MiB are mapped and zeroed by the system each time, which slows down both sides, and more so for
larger tensors. --keep_freed_memory keeps this memory in the process, so that only the computation's growth is measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import real_sizes
import torch
from allocations import peak_bytes
from matplotlib.figure import Figure
from pytorchvideo.layers.nonlocal_net import create_nonlocal
from torch import Tensor, nn
from tqdm import tqdm

from farfield.allocator import keep_freed_memory
from farfield.layers import (
    BatchNorm3d,
    CoordinateAttention,
    CrissCrossAttention,
    DualAttention,
    FrameConv3d,
    FrozenBatchNorm3d,
    GlobalAvgPool3d,
    NonLocalBlock3d,
    ObjectContext,
    PointwiseConv3d,
    SelfAttention,
    UnfoldConv3d,
)

Make = Callable[[int], nn.Module]

FRAME = 28 * 28
"""Positions of a frame at res3 of a network that is given 224 pixels."""


class Materialised(nn.Module):
    """Usual implementation of a non-local block: the n x n matrix, then its product with g."""

    def __init__(self, channels: int, pairwise: str) -> None:
        super().__init__()
        inner = channels // 2
        self.pairwise = pairwise
        self.theta, self.phi, self.g = (nn.Conv3d(channels, inner, 1) for _ in range(3))
        self.w_z, self.norm = nn.Conv3d(inner, channels, 1), nn.BatchNorm3d(channels)
        self.w_f = nn.Parameter(torch.randn(2, inner))

    def forward(self, x: Tensor) -> Tensor:
        g = self.g(x).flatten(2).mT
        if self.pairwise == "gaussian":
            rows = x.flatten(2)
            f = (rows.mT @ rows).softmax(-1)
        else:
            a, b = (self.w_f[0] @ self.theta(x).flatten(2)), (self.w_f[1] @ self.phi(x).flatten(2))
            f = (a.unsqueeze(2) + b.unsqueeze(1)).relu() / b.shape[1]
        return x + self.norm(self.w_z((f @ g).mT.unflatten(2, x.shape[2:])))


class MaterialisedSelfAttention(SelfAttention):
    """Usual implementation of self-attention, through its n x n map."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, return_attention=True)[0]


def frame_convolution(channels: int) -> nn.Conv3d:
    return nn.Conv3d(channels, channels, (1, 3, 3), padding=(0, 1, 1))


def pytorchvideo(pairwise: str, pool: tuple[int, int, int] = (1, 1, 1)) -> Make:
    return lambda c: create_nonlocal(dim_in=c, dim_inner=c // 2, pool_size=pool, instantiation=pairwise)


@dataclass(frozen=True)
class Comparison:
    """Pair of layers to compare; `ours_quadratic` and `theirs_quadratic` mark those with n^2 time."""

    name: str
    ours: Make
    against: str
    theirs: Make
    ours_quadratic: bool = False
    theirs_quadratic: bool = True
    channels: float = 1.0
    """Input channels, relative to --channels."""


COMPARISONS = [
    Comparison(
        "embedded Gaussian",
        lambda c: NonLocalBlock3d(c, key_pool=None),
        "PyTorchVideo's NonLocal",
        pytorchvideo("softmax"),
        ours_quadratic=True,
    ),
    Comparison(
        "embedded Gaussian, keys pooled",
        lambda c: NonLocalBlock3d(c),
        "PyTorchVideo's NonLocal",
        pytorchvideo("softmax", (1, 2, 2)),
        ours_quadratic=True,
    ),
    Comparison(
        "Gaussian",
        lambda c: NonLocalBlock3d(c, pairwise="gaussian", key_pool=None),
        "materialised",
        lambda c: Materialised(c, "gaussian"),
        ours_quadratic=True,
    ),
    Comparison(
        "dot product",
        lambda c: NonLocalBlock3d(c, pairwise="dot_product", key_pool=None),
        "PyTorchVideo's NonLocal",
        pytorchvideo("dot_product"),
    ),
    Comparison(
        "concatenation",
        lambda c: NonLocalBlock3d(c, pairwise="concatenation", key_pool=None),
        "materialised",
        lambda c: Materialised(c, "concatenation"),
    ),
    Comparison("self-attention", SelfAttention, "its n x n map", MaterialisedSelfAttention, ours_quadratic=True),
    Comparison(
        "self-attention, concatenation",
        lambda c: SelfAttention(c, similarity="concatenation"),
        "its n x n map",
        lambda c: MaterialisedSelfAttention(c, similarity="concatenation"),
    ),
    Comparison(
        "dual attention (DANet)", DualAttention, "PyTorchVideo's NonLocal", pytorchvideo("softmax"), ours_quadratic=True
    ),
    Comparison("criss-cross (CCNet)", CrissCrossAttention, "PyTorchVideo's NonLocal", pytorchvideo("softmax")),
    Comparison("coordinate attention", CoordinateAttention, "PyTorchVideo's NonLocal", pytorchvideo("softmax")),
    Comparison(
        "object context (OCRNet)", lambda c: ObjectContext(c, 19), "PyTorchVideo's NonLocal", pytorchvideo("softmax")
    ),
    Comparison("BatchNorm3d", BatchNorm3d, "nn.BatchNorm3d", nn.BatchNorm3d, theirs_quadratic=False),
    Comparison(
        "FrozenBatchNorm3d",
        FrozenBatchNorm3d,
        "nn.BatchNorm3d, evaluated",
        lambda c: nn.BatchNorm3d(c).eval(),
        theirs_quadratic=False,
    ),
    Comparison(
        "GlobalAvgPool3d",
        lambda c: GlobalAvgPool3d(keepdim=True),
        "nn.AdaptiveAvgPool3d",
        lambda c: nn.AdaptiveAvgPool3d(1),
        theirs_quadratic=False,
    ),
    Comparison(
        "PointwiseConv3d",
        lambda c: PointwiseConv3d(c, c // 2),
        "nn.Conv3d, 1x1x1",
        lambda c: nn.Conv3d(c, c // 2, 1),
        theirs_quadratic=False,
    ),
    Comparison(
        "FrameConv3d",
        lambda c: FrameConv3d(frame_convolution(c)),
        "nn.Conv3d, 1x3x3, 1/4 of the channels",
        frame_convolution,
        theirs_quadratic=False,
        channels=1 / 4,
    ),
    Comparison(
        "UnfoldConv3d, 3x3x3, 1/8 of the channels",
        lambda c: UnfoldConv3d(c, c, 3, padding=1),
        "nn.Conv3d",
        lambda c: nn.Conv3d(c, c, 3, padding=1),
        theirs_quadratic=False,
        channels=1 / 8,
    ),
]


@dataclass
class Measured:
    """Seconds and bytes of one layer at n positions; `carried_on` if extrapolated instead of measured."""

    layer: str
    whose: str
    positions: int
    forward_seconds: float
    seconds: float
    bytes: int
    carried_on: bool = False


class Bench:
    """Layer with its input, ready to run."""

    def __init__(self, make: Make, positions: int, channels: int, options: argparse.Namespace) -> None:
        self.device = options.device
        self.dtype = getattr(torch, options.dtype)
        torch.manual_seed(0)
        self.layer = make(channels).to(self.device)
        x = torch.randn(1, channels, positions // FRAME, 28, 28, device=self.device)
        if options.channels_last:
            x = x.to(memory_format=torch.channels_last_3d)
        self.x = x.requires_grad_()
        self.gradient: Tensor | None = None
        self.seconds: list[tuple[float, float]] = []

    def run(self) -> tuple[float, float]:
        """Measure the seconds of the forward pass, and of forward and backward."""
        start = self._now()
        with torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32):
            y = self.layer(self.x)
        forward = self._now()
        if self.gradient is None or self.gradient.shape != y.shape:
            self.gradient = torch.randn_like(y)
        backward = self._now()
        y.backward(self.gradient)
        end = self._now()
        self.layer.zero_grad()
        self.x.grad = None
        return forward - start, forward - start + end - backward

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def measured(self, layer: str, whose: str, positions: int) -> Measured:
        forward, both = (statistics.median(column) for column in zip(*self.seconds, strict=True))
        return Measured(layer, whose, positions, forward, both, peak_bytes(self.run, self.device))


def compare(comparison: Comparison, positions: int, options: argparse.Namespace) -> list[Measured]:
    """Measure both layers, interleaved. Quadratic layers are skipped at sizes that are too large for them."""
    small = positions <= options.quadratic_positions
    channels = int(options.channels * comparison.channels)
    sides = {}
    if small or not comparison.ours_quadratic:
        sides["ours"] = Bench(comparison.ours, positions, channels, options)
    if small or not comparison.theirs_quadratic:
        sides["theirs"] = Bench(comparison.theirs, positions, channels, options)
    for bench in sides.values():
        bench.run()
    for _ in range(options.repeats):
        for bench in sides.values():
            bench.seconds.append(bench.run())
    return [bench.measured(comparison.name, whose, positions) for whose, bench in sides.items()]


def carry_on(rows: list[Measured], comparison: Comparison, positions: list[int]) -> list[Measured]:
    """Extrapolate theirs by a fit of a n + b n^2; the linear term is for projections and norm."""
    theirs = [row for row in rows if row.layer == comparison.name and row.whose == "theirs"]
    ours = {row.positions for row in rows if row.layer == comparison.name and row.whose == "ours"}
    largest = max((row.positions for row in theirs), default=0)
    beyond = [n for n in positions if n > largest and n in ours]
    if len(theirs) < 3 or not beyond:
        return []
    n = np.array([row.positions for row in theirs], dtype=float)

    def grown(quantity: str) -> list[float]:
        measured = np.array([getattr(row, quantity) for row in theirs])
        (a, b), *_ = np.linalg.lstsq(np.stack([n, n**2], 1) / measured[:, None], np.ones(len(n)), rcond=None)
        return [float(a * m + b * m**2) for m in beyond]

    columns = zip(beyond, grown("forward_seconds"), grown("seconds"), grown("bytes"), strict=True)
    return [Measured(comparison.name, "theirs", m, f, s, int(size), True) for m, f, s, size in columns]


def exponent(rows: list[Measured], quantity: str) -> float:
    """Fit the slope of log(quantity) over log(n), from n = 1568 on."""
    used = [row for row in rows if row.positions >= 2 * FRAME and not row.carried_on]
    if len(used) < 3:
        return float("nan")
    n, q = ([getattr(row, key) for row in used] for key in ("positions", quantity))
    return float(np.polyfit(np.log(n), np.log(q), 1)[0])


def table(rows: list[Measured], options: argparse.Namespace) -> str:
    """Format a table of the speed-up, memory ratio and growth exponent of ours, for each layer and n."""
    lines = [
        f"{options.device}, {options.dtype}, C = {options.channels}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}; ratios are theirs / ours, ~ is theirs carried on by a n + b n^2",
        "",
        f"{'layer':42}{'against':28}{'n':>7}{'forward':>10}{'+backward':>11}{'memory':>9}",
    ]
    for comparison in COMPARISONS:
        mine = [row for row in rows if row.layer == comparison.name]
        for ours in (row for row in mine if row.whose == "ours"):
            theirs = next((r for r in mine if r.whose == "theirs" and r.positions == ours.positions), None)
            if theirs is not None:
                mark = "~" if theirs.carried_on else ""
                ratios = [
                    f"{mark}{getattr(theirs, key) / max(getattr(ours, key), 1e-12):.2f}x"
                    for key in ("forward_seconds", "seconds", "bytes")
                ]
                lines.append(
                    f"{comparison.name:42}{comparison.against:28}{ours.positions:7}"
                    f"{ratios[0]:>10}{ratios[1]:>11}{ratios[2]:>9}"
                )
    lines += ["", f"{'growth with n, exponent of':42}{'forward':>10}{'+backward':>11}{'memory':>9}"]
    for comparison in COMPARISONS:
        ours_rows = [row for row in rows if row.layer == comparison.name and row.whose == "ours"]
        if len(ours_rows) >= 3:
            slopes = [exponent(ours_rows, key) for key in ("forward_seconds", "seconds", "bytes")]
            lines.append(f"{comparison.name:42}{slopes[0]:10.2f}{slopes[1]:11.2f}{slopes[2]:9.2f}")
    return "\n".join(lines)


def plot(rows: list[Measured], path: Path) -> None:
    """Plot time and memory over n, log-log, with fitted exponents; theirs is dashed, and dotted if extrapolated."""
    shown = [c for c in COMPARISONS if c.theirs_quadratic and any(row.layer == c.name for row in rows)]
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, quantity, unit in zip(figure.subplots(1, 2), ("seconds", "bytes"), (1.0, 2.0**20), strict=True):
        for number, comparison in enumerate(shown):
            colour = f"C{number % 10}"
            for whose, style in (("ours", "-"), ("theirs", "--")):
                line = [row for row in rows if row.layer == comparison.name and row.whose == whose]
                for points, dash in (
                    ([r for r in line if not r.carried_on], style),
                    (
                        [
                            r
                            for r in line
                            if r.carried_on
                            or r is max((x for x in line if not x.carried_on), key=lambda x: x.positions, default=None)
                        ],
                        ":",
                    ),
                ):
                    if not points or (whose == "ours" and dash == ":"):
                        continue
                    slope = exponent(points, quantity)
                    label = f"{comparison.name}  n^{slope:.2f}" if whose == "ours" and slope == slope else None
                    axes.plot(
                        [r.positions for r in points],
                        [getattr(r, quantity) / unit for r in points],
                        dash,
                        color=colour,
                        marker="o" if dash == "-" else None,
                        markersize=3,
                        linewidth=1.3,
                        label=label,
                    )
        axes.set(xscale="log", yscale="log", xlabel="positions n = t h w")
        axes.set_title({"seconds": "forward + backward, seconds", "bytes": "peak memory, MiB"}[quantity], fontsize=10)
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=6.5, loc="upper left")
    figure.suptitle(
        "solid: farfield.layers; dashed: PyTorchVideo's NonLocal or the n x n matrix, dotted carried on by a n + b n^2",
        fontsize=9,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="LAYER", help="some of: " + "; ".join(c.name for c in COMPARISONS))
    parser.add_argument("--positions", nargs="+", type=int, default=[FRAME * 2**k for k in range(7)])
    parser.add_argument("--quadratic_positions", type=int, default=6272, help="largest n for layers with n^2 time")
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--channels_last", action="store_true", help="inputs in channels_last_3d memory")
    parser.add_argument("--keep_freed_memory", action="store_true", help="keep freed memory in the process (glibc)")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--json", type=Path, metavar="FILE")
    real_sizes.add_options(parser)
    options = parser.parse_args()
    if options.real_sizes:
        real_sizes.run(parser, options)
        return
    unknown = sorted(set(options.only or ()) - {c.name for c in COMPARISONS})
    if unknown:
        parser.error(f"there is no layer {unknown[0]!r}; choose among {', '.join(c.name for c in COMPARISONS)}.")
    if any(n < FRAME or n % FRAME for n in options.positions):
        parser.error(f"positions are whole frames of {FRAME}; given {options.positions}.")
    chosen = [c for c in COMPARISONS if not options.only or c.name in options.only]
    jobs = [(comparison, n) for comparison in chosen for n in sorted(options.positions)]
    if options.keep_freed_memory:
        keep_freed_memory()
    rows: list[Measured] = []
    for comparison, n in tqdm(jobs, unit="size", desc="benchmark"):
        rows += compare(comparison, n, options)
    for comparison in chosen:
        rows += carry_on(rows, comparison, sorted(options.positions))
    print(table(rows, options))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
