"""Peak memory and time of training steps, each side in its own process: the table of `benchmark_training.py --memory`.

Run as a script, this file is one of the processes: it answers the questions on its standard input, one a line, as JSON.
It uses only names that every compared version of farfield has.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import torch
from allocations import peak_bytes
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

ROOT = Path(__file__).parents[1]
WARM_UP = 2
"""Warm-up rounds."""
THEIRS, BASELINE = "PyTorchVideo", "farfield, baseline"
TOLERANCE = 1e-4
"""Largest accepted difference of two sides' first losses in float64, relative to the loss."""


@dataclass(frozen=True)
class Setting:
    """A network, and the clips of a training step."""

    backbone: str
    insert: str | None
    num_frames: int
    side_px: int
    batch_size: int


NETWORKS = {
    "i3d_r50": Setting("i3d_r50", "nl5", 8, 224, 2),
    "slow_r50": Setting("slow_r50", None, 8, 224, 2),
    "x3d_m": Setting("x3d_m", None, 16, 224, 2),
    "slowfast_r50": Setting("slowfast_r50", None, 32, 224, 2),
}
"""Networks of the table, with their published clips."""


class Side:
    """A process that trains one side's network."""

    def __init__(self, name: str, weights: Path, setting: Setting, *, checkout: Path, sums: int | None) -> None:
        self.name = name
        arguments = {"name": name, "weights": str(weights), "sums": sums, "setting": asdict(setting)}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=os.environ | {"PYTHONPATH": str(checkout / "src")},
        )

    def ask(self, what: str) -> float:
        """Return the answer to "loss", "memory" (bytes) or "step" (seconds)."""
        answer = ""
        with suppress(BrokenPipeError):
            print(what, file=self._pipe(self.process.stdin))
            answer = self._pipe(self.process.stdout).readline()
        if not answer:
            raise SystemExit(
                f"the process of {self.name} ended with status {self.process.wait()}. If memory ran out (status -9), "
                "give fewer clips (--batch_size) or fewer of --sums: all processes stay in memory."
            )
        return float(json.loads(answer))

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self._pipe(self.process.stdin).close()
        self.process.wait()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


@contextmanager
def running(setting: Setting, sums: Sequence[int], baseline: Path | None) -> Iterator[list[Side]]:
    """Start the processes of all sides with the same weights: PyTorchVideo's, that of a baseline, and ours."""
    from compared_networks import our_network

    torch.manual_seed(0)
    network = our_network(setting.backbone, setting.insert, setting.num_frames, setting.side_px)
    sides: list[tuple[str, Path, int | None]] = [(THEIRS, ROOT, None)]
    sides += [] if baseline is None else [(BASELINE, baseline, None)]
    sides += [("farfield, default", ROOT, 0), *((f"farfield, recompute_sums {n}", ROOT, n) for n in sums)]
    with TemporaryDirectory() as folder, ExitStack() as stack:
        weights = Path(folder, "weights.pt")
        torch.save(network.state_dict(), weights)
        started = []
        for name, checkout, kept in sides:
            started.append(Side(name, weights, setting, checkout=checkout, sums=kept))
            stack.callback(started[-1].close)
        yield started


def measure(setting: Setting, *, sums: Sequence[int], rounds: int, baseline: Path | None) -> list[dict[str, Any]]:
    """Measure all sides of one network: one row a side. The sides take turns, in an order that moves on each round."""
    with running(setting, sums, baseline) as sides:
        losses = {side.name: side.ask("loss") for side in sides}
        for name, loss in losses.items():
            difference = abs(loss / losses[THEIRS] - 1)
            assert difference < TOLERANCE, f"the losses of {name} and {THEIRS} are {difference:.1e} apart."
        peaks = {side.name: side.ask("memory") for side in sides}
        seconds: dict[str, list[float]] = {side.name: [] for side in sides}
        for turn in range(WARM_UP + rounds):
            first = turn % len(sides)
            for side in sides[first:] + sides[:first]:
                seconds[side.name].append(side.ask("step"))
    timed = {name: values[WARM_UP:] for name, values in seconds.items()}
    return [
        asdict(setting)
        | {"side": name, "loss": losses[name], "bytes": peaks[name], "bytes_ratio": peaks[name] / peaks[THEIRS]}
        | {"seconds": statistics.median(timed[name])}
        | {f"time_over_{other}": ratio(timed[name], timed[other]) for other in timed if other in (THEIRS, BASELINE)}
        for name in timed
    ]


def measure_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the networks that the options name."""
    baseline = None if options.baseline is None else options.baseline.resolve()
    rows = []
    for name in options.only:
        setting = replace(NETWORKS[name], batch_size=options.batch_size)
        if options.clip is not None:
            setting = replace(setting, num_frames=options.clip[0], side_px=options.clip[1])
        rows += measure(setting, sums=options.sums, rounds=options.steps, baseline=baseline)
    return rows


def ratio(these: Sequence[float], those: Sequence[float]) -> dict[str, float]:
    """Return the median, lowest and highest ratio of the rounds."""
    ratios = [a / b for a, b in zip(these, those, strict=True)]
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| network, clips | side | MiB | memory over PyTorchVideo | time over PyTorchVideo | time over baseline |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        clips = f"{row['batch_size']} x {row['num_frames']} x {row['side_px']} x {row['side_px']}"
        network = row["backbone"] + (f" + {row['insert']}" if row["insert"] else "")
        times = [row.get(f"time_over_{other}") for other in (THEIRS, BASELINE)]
        cells = ["" if t is None else f"{t['median']:.2f} ({t['lowest']:.2f} to {t['highest']:.2f})" for t in times]
        lines.append(
            f"| {network}, {clips} | {row['side']} | {row['bytes'] / 2**20:.0f} | {row['bytes_ratio']:.2f} | "
            f"{' | '.join(cells)} |"
        )
    return "\n".join(lines)


def serve(name: str, weights: str, sums: int | None, setting: Setting) -> None:
    """Answer questions until the standard input ends.

    Args:
        name: name of the side.
        weights: file with the weights of farfield's network.
        sums: sums recomputed per kept sum; None for a side that recomputes nothing.
        setting: network and clips.
    """
    network, clips = side_network(name, weights, setting)
    labels = torch.arange(setting.batch_size)

    def loss(network: nn.Module, clips: Tensor) -> Tensor:
        with recomputation(sums):
            return cross_entropy(network(clips), labels[: len(clips)])

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(network, clips).backward()
            optimizer.step()

    for line in sys.stdin:
        answer: float
        if line.strip() == "loss":
            state = {key: value.clone() for key, value in network.state_dict().items()}
            with torch.no_grad():
                answer = float(loss(network.double(), clips[:1].double()))
            network.float().load_state_dict(state)
            optimizer = sgd(network)
            if name != THEIRS:
                from farfield.allocator import keep_freed_memory

                keep_freed_memory()  # as `farfield fit` does; not before, since float64 needs more memory
        elif line.strip() == "memory":
            optimizer = sgd(network)
            network.zero_grad()
            gc.collect()
            momentum = sum(p.nbytes for p in network.parameters())
            answer = peak_bytes(partial(train, 2)) - momentum
        else:
            answer = seconds_of(partial(train, 1))
        print(json.dumps(answer), flush=True)


def side_network(name: str, weights: str, setting: Setting) -> tuple[nn.Module, Tensor]:
    """Build a side's network in training mode, with the weights, and its clips in its memory format."""
    from farfield import build_model

    torch.manual_seed(1)
    clips = torch.randn(setting.batch_size, 3, setting.num_frames, setting.side_px, setting.side_px)
    clip: Any = {"num_frames": setting.num_frames, "crop_px": setting.side_px}
    ours = build_model(setting.backbone, num_classes=400, insert=setting.insert, dropout=0.0, clip=clip)
    ours.load_state_dict(torch.load(weights, weights_only=True))
    if name == THEIRS:
        from compared_networks import their_network

        return their_network(ours).train(), clips
    formatted = ours.to(memory_format=torch.channels_last_3d)
    return formatted.train(), clips.contiguous(memory_format=torch.channels_last_3d)


def recomputation(sums: int | None) -> AbstractContextManager[None]:
    if sums is None:
        return nullcontext()
    from farfield.layers import recompute_activations

    return recompute_activations(sums_per_kept=sums)


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    """Create an optimiser with momentum whose learning rate is small enough that no step diverges."""
    return torch.optim.SGD(network.parameters(), lr=1e-20, momentum=0.9, weight_decay=1e-4)


def seconds_of(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `--memory`."""
    group = parser.add_argument_group("memory")
    group.add_argument("--memory", action="store_true", help="print the table of networks by memory; CPU, float32")
    group.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="networks of the table")
    group.add_argument("--sums", type=int, nargs="*", default=[1, 2], help="values of recompute_sums to measure")
    group.add_argument("--clip", type=int, nargs=2, metavar=("FRAMES", "PX"), help="not the networks' published clips")
    group.add_argument("--baseline", type=Path, help="a checkout of another version of farfield")


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    serve(**arguments | {"setting": Setting(**arguments["setting"])})
