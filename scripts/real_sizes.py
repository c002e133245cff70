"""Compare attention blocks with the usual implementations at the sizes that they have in networks.

python scripts/benchmark_layers.py --real_sizes                                            every block and batch
python scripts/benchmark_layers.py --real_sizes --only "embedded Gaussian" --batches 1 2   some of them

Ours and theirs run in turns, and their order alternates. Each round gives one ratio, theirs / ours. The table has the
median ratio of all rounds, and its 95% interval by order statistics: with 7 rounds, the lowest and the highest ratio
(98%); with 9, the second and the second to last (96%). The forward time is that of the forward pass in training.

The last column is what bounds a cell: the arithmetic of theirs (all products, forward and backward) per second of our
time, divided by the machine's rate for one large product. Near 1, nothing but fewer multiply-adds can be faster. It
exceeds 1 where our order of the products needs fewer.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product as combinations

import torch
from authors_attention import CrissCrossByAuthors, DualByAuthors, ObjectContextByAuthors
from pytorchvideo.layers.nonlocal_net import create_nonlocal
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from farfield.allocator import keep_freed_memory
from farfield.layers import CrissCrossAttention, DualAttention, NonLocalBlock3d, ObjectContext
from farfield.layers.matrix_product import product

Make = Callable[[int], nn.Module]
NAMES = {"theta": "conv_theta", "phi": "conv_phi", "g": "conv_g", "w_z": "conv_out", "norm": "norm"}
"""Parameters of PyTorchVideo's block by ours."""
SIZES = ["512:4x28x28", "512:8x28x28", "1024:4x14x14", "1024:8x14x14", "1024:16x14x14"]


def _pytorchvideo(pool: tuple[int, int, int]) -> Make:
    return lambda c: create_nonlocal(dim_in=c, dim_inner=c // 2, pool_size=pool)


BLOCKS: dict[str, tuple[Make, Make]] = {
    "embedded Gaussian": (lambda c: NonLocalBlock3d(c, key_pool=None), _pytorchvideo((1, 1, 1))),
    "embedded Gaussian, keys pooled": (lambda c: NonLocalBlock3d(c), _pytorchvideo((1, 2, 2))),
    "dual attention (DANet)": (DualAttention, DualByAuthors),
    "criss-cross (CCNet)": (CrissCrossAttention, CrissCrossByAuthors),
    "object context (OCRNet)": (lambda c: ObjectContext(c, 19), lambda c: ObjectContextByAuthors(c, 19)),
}
"""Ours and theirs by name: PyTorchVideo's NonLocal, and the authors' way of computing the others."""


@dataclass(frozen=True)
class Interval:
    """Median of the rounds' ratios theirs / ours, and its 95% interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Cell:
    """Result for one block and size; seconds are medians of forward + backward."""

    block: str
    channels: int
    size: tuple[int, ...]
    batch: int
    forward: Interval
    both: Interval
    ours_seconds: float
    theirs_seconds: float
    share_of_rate: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `--real_sizes`."""
    group = parser.add_argument_group("--real_sizes")
    group.add_argument(
        "--real_sizes", action="store_true", help="sizes in networks; --only takes: " + "; ".join(BLOCKS)
    )
    group.add_argument("--sizes", nargs="+", default=SIZES, metavar="C:TxHxW")
    group.add_argument("--batches", nargs="+", type=int, default=[1, 2, 8])
    group.add_argument("--rounds", type=int, default=7)


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Measure, print the tables, and write `--json`."""
    unknown = sorted(set(options.only or ()) - set(BLOCKS))
    if unknown:
        parser.error(f"there is no block {unknown[0]!r} among the real sizes; choose among {', '.join(BLOCKS)}.")
    if options.keep_freed_memory:
        keep_freed_memory()
    rate = {"product": matrix_rate(product), "torch.mm": matrix_rate(torch.mm)}
    fastest = max(rate.values())
    print(
        f"{options.device}, float32, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{options.rounds} rounds; a product of 2048 x 2048 matrices: {fastest / 1e9:.0f} GFLOP/s, "
        f"by torch.mm {rate['torch.mm'] / 1e9:.0f}\n"
    )
    jobs = combinations([b for b in BLOCKS if not options.only or b in options.only], options.sizes, options.batches)
    cells = [
        measure(block, size, batch, options.rounds, options.device, fastest)
        for block, size, batch in tqdm(list(jobs), desc="real sizes")
    ]
    print(table(cells))
    if options.json:
        options.json.write_text(json.dumps([asdict(cell) for cell in cells], indent=1))


def measure(block: str, size: str, batch: int, rounds: int, device: str, rate: float) -> Cell:
    """Measure one cell of the table."""
    channels, t, h, w = (int(number) for number in size.replace("x", ":").split(":"))
    ours, theirs = same_function(block, channels)
    ours, theirs = ours.to(device), theirs.to(device)
    x = torch.randn(batch, channels, t, h, w, device=device, requires_grad=True)
    gradient = torch.randn_like(x)
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    sides = [("ours", ours), ("theirs", theirs)]
    for _, layer in sides:
        timed(layer, x, gradient)
    for number in range(rounds):
        for name, layer in sides if number % 2 else reversed(sides):
            times[name].append(timed(layer, x, gradient))
    pairs = list(zip(times["ours"], times["theirs"], strict=True))
    ours_seconds = statistics.median(both for _, both in times["ours"])
    return Cell(
        block,
        channels,
        (t, h, w),
        batch,
        median_interval([theirs / ours for (ours, _), (theirs, _) in pairs]),
        median_interval([theirs / ours for (_, ours), (_, theirs) in pairs]),
        ours_seconds,
        statistics.median(both for _, both in times["theirs"]),
        batch * flops(theirs, x[:1].detach()) / ours_seconds / rate,
    )


def same_function(block: str, channels: int) -> tuple[nn.Module, nn.Module]:
    """Return ours and theirs with equal parameters."""
    torch.manual_seed(0)
    ours, theirs = (make(channels) for make in BLOCKS[block])
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(std=0.02)
    state = ours.state_dict()
    if isinstance(ours, NonLocalBlock3d):
        state = {f"{NAMES[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in state.items()}
    theirs.load_state_dict(state)
    return ours, theirs


def timed(layer: nn.Module, x: Tensor, gradient: Tensor) -> tuple[float, float]:
    """Measure the seconds of the forward pass, and of forward and backward."""
    start = _now(x)
    y = layer(x)
    forward = _now(x)
    y.backward(gradient)
    end = _now(x)
    layer.zero_grad()
    x.grad = None
    return forward - start, end - start


def median_interval(ratios: Sequence[float]) -> Interval:
    """Compute the median and its 95% interval by order statistics.

    The interval goes from the k-th lowest to the k-th highest ratio, with the largest k for which it holds the median
    with a probability of at least 95% (binomial distribution). With fewer than 6 ratios, k = 1 reaches less.
    """
    n = len(ratios)
    outside = [2 * sum(math.comb(n, i) for i in range(k)) / 2**n for k in range(1, n // 2 + 1)]
    k = max(1, sum(share <= 0.05 for share in outside))
    ordered = sorted(ratios)
    return Interval(statistics.median(ordered), ordered[k - 1], ordered[n - k])


def flops(layer: nn.Module, x: Tensor) -> int:
    """Count the floating-point operations of a layer's products, forward and backward."""
    with FlopCounterMode(display=False) as counted:
        layer(x.clone().requires_grad_()).sum().backward()
    return counted.get_total_flops()


def matrix_rate(multiply: Callable[[Tensor, Tensor], Tensor], side: int = 2048) -> float:
    """Measure the best of 7 rates, in floating-point operations per second, of a product of two square matrices."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    multiply(a, b)
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        multiply(a, b)
        seconds.append(time.perf_counter() - start)
    return float(2 * side**3 / min(seconds))


def table(cells: Sequence[Cell]) -> str:
    """Format the cells, and for each block their geometric means and how many are below 1."""
    lines = [
        f"{'block':32}{'C; t x h x w':>17}{'batch':>6}{'forward':>22}{'forward + backward':>22}"
        f"{'ours, ms':>10}{'of rate':>9}"
    ]
    for cell in cells:
        size = f"{cell.channels}; {'x'.join(map(str, cell.size))}"
        lines.append(
            f"{cell.block:32}{size:>17}{cell.batch:6}{_text(cell.forward):>22}{_text(cell.both):>22}"
            f"{cell.ours_seconds * 1e3:10.0f}{cell.share_of_rate:9.2f}"
        )
    lines.append("")
    groups = {"embedded Gaussian, all": [c for c in cells if c.block.startswith("embedded")]}
    groups |= {block: [c for c in cells if c.block == block] for block in BLOCKS if not block.startswith("embedded")}
    for name, group in groups.items():
        for words in ("forward", "both") if group else ():
            found = [getattr(cell, words) for cell in group]
            lines.append(
                f"{name}, {'forward' if words == 'forward' else 'forward + backward'}: geometric mean "
                f"{statistics.geometric_mean(i.median for i in found):.2f}, lowest median "
                f"{min(i.median for i in found):.2f}, {sum(i.high < 1 for i in found)} of {len(found)} cells slower "
                f"({sum(i.low < 1 for i in found)} with an interval that reaches below 1)"
            )
    return "\n".join(lines)


def _text(interval: Interval) -> str:
    return f"{interval.median:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _now(x: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()
