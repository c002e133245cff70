"""Benchmark of a training step's time and memory against PyTorchVideo's network and blocks. Ratios, in one run.

python scripts/benchmark_training.py                                         a few minutes on 2 CPU cores
python scripts/benchmark_training.py --device cuda --precision bf16 --batch_size 16 --steps 20
python scripts/benchmark_training.py --num_frames 4 --side_px 32 --batch_size 1 --steps 1       whether it runs
python scripts/benchmark_training.py --memory --only i3d_r50                 memory of a network, with recomputation
python scripts/benchmark_training.py --memory --clip 8 32 --steps 1               whether that runs

The baseline is PyTorchVideo's hub network with its own `NonLocal` at the same places, in a plain loop with PyTorch's
defaults (contiguous memory), in a separate process, because farfield's process keeps freed memory on the CPU. All
variants have the same weights, clips, precision and optimiser. Before the timing, both networks must give the same
logits and the same first loss: in float64 on the CPU, since norms over the few values of a small clip amplify rounding.
Dropout is off, because the two networks would draw different masks.

The variants are interleaved: the plain loops take their steps between two batches of Lightning's, whose time for a step
is the time from one batch to the next without the plain loops' steps. A ratio is the median over the rounds. Memory is
the peak beyond weights and momentum, from PyTorch's allocator: activations, gradients and operators' buffers.

`--memory` prints another table: four networks with their published clips, in plain loops, each side in a process of its
own. farfield's sides recompute activations as `farfield fit` does by default, and with `recompute_sums`. All sides must
give the same first loss in float64. `--baseline` adds another version of farfield, with its own defaults. All processes
stay in memory, which SlowFast fills with up to 12 GiB.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import logging
import os
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
import training_memory
from allocations import peak_bytes
from compared_networks import NUM_CLASSES, must_be_the_same, our_network, their_network
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from farfield.allocator import keep_freed_memory
from farfield.data.datasets import Batch
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.parallel import worker_context
from farfield.training.lightning_module import TrainingModule
from farfield.training.nan_guard import NaNGuard
from farfield.training.optimisation import Optimisation

SETTINGS = Optimisation(lr=1e-20)
"""The default momentum and weight decay, with a learning rate small enough that no step diverges."""
WARM_UP = 2
"""Warm-up rounds: the first allocates memory and momentum."""

BASE, PLAIN, COMPILED = "PyTorchVideo, plain loop", "farfield network, plain loop", "farfield network, compiled"
LIGHTNING = "farfield, Lightning"

Train = Callable[[int], object]
"""Function that takes a number of steps."""


def plain_loop(network: nn.Module, clips: Tensor, labels: Tensor, options: argparse.Namespace) -> Train:
    """Build a plain training loop, as in PyTorch's tutorials, with its own optimiser."""
    optimizer = torch.optim.SGD(
        network.parameters(), lr=SETTINGS.lr, momentum=SETTINGS.momentum, weight_decay=SETTINGS.weight_decay
    )

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16"):
                loss = F.cross_entropy(network(clips), labels)
            loss.backward()
            optimizer.step()

    return train


class ReadyBatches(pl.LightningDataModule):
    """Data module that repeats one batch in memory."""

    def __init__(self, batch: Batch, count: int) -> None:
        super().__init__()
        self.batches = [batch] * count
        self.batch_size = len(batch.labels)

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]  # a list does for a dataset

    def batches_per_epoch(self) -> int:
        return len(self.batches)


class Turns(pl.Callback):
    """Callback that runs a step of each plain loop before every batch of Lightning's, and times all of them."""

    def __init__(self, base: ElsewhereBase, loops: dict[str, Train], device: str) -> None:
        self.base = base
        self.loops = loops
        self.device = device
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.began: float | None = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.began is not None:
            self.seconds[LIGHTNING].append(self._now() - self.began)
        if batch_idx == trainer.num_training_batches - 1:  # its end is not seen
            return
        self._now()  # nothing of ours is still running
        self.seconds[BASE].append(self.base.ask("step"))
        for name, train in self.loops.items():
            began = self._now()
            train(1)
            self.seconds[name].append(self._now() - began)
        self.began = self._now()

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def fit(recognizer: TrainingModule, batch: Batch, options: argparse.Namespace, steps: int, *callbacks: Any) -> None:
    """Train with a Lightning trainer without logs, checkpoints or output."""
    trainer = pl.Trainer(
        accelerator=options.device,
        devices=1,
        precision="bf16-mixed" if options.precision == "bf16" else "32-true",
        max_epochs=1,
        limit_val_batches=0,
        callbacks=[NaNGuard(), *callbacks],  # as `farfield fit` has it, in every step
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(recognizer, datamodule=ReadyBatches(batch, steps))


class ElsewhereBase:
    """PyTorchVideo's loop in another process, with the default memory allocator."""

    def __init__(self, options: argparse.Namespace) -> None:
        context = worker_context("compared_networks")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve_base, args=(options, theirs), daemon=True)
        self.process.start()

    def ask(self, what: str) -> Any:
        self.pipe.send(what)
        return self.pipe.recv()

    def close(self) -> None:
        self.pipe.send("stop")
        self.process.join()


def serve_base(options: argparse.Namespace, pipe: Any) -> None:
    """Answer "step" with seconds and "memory" with bytes, until told to stop."""
    ours, clips, labels = prepared(options)
    network = their_network(ours).to(options.device)
    del ours
    train = plain_loop(network, clips.to(options.device), labels.to(options.device), options)
    while (what := pipe.recv()) != "stop":
        if what == "memory":
            again = plain_loop(network, clips.to(options.device), labels.to(options.device), options)
            pipe.send(memory(network, again, options))
            continue
        began = time.perf_counter()
        train(1)
        if options.device == "cuda":
            torch.cuda.synchronize()
        pipe.send(time.perf_counter() - began)


def memory(network: nn.Module, train: Train, options: argparse.Namespace) -> int:
    """Measure the peak memory of a step beyond weights and momentum, over the first two steps of a new optimiser.

    Only the second step holds everything: the momentum that the first has allocated, and gradients that are not freed.
    """
    network.to(options.device).zero_grad()  # a trainer leaves its network on the CPU
    gc.collect()
    return peak_bytes(partial(train, 2), options.device) - sum(
        p.nbytes for p in network.parameters() if p.requires_grad
    )


def prepared(options: argparse.Namespace) -> tuple[ActionNet, Tensor, Tensor]:
    """Build our network, clips and labels, the same in every process."""
    torch.manual_seed(0)
    network = our_network(options.backbone, options.insert, options.num_frames, options.side_px)
    clips = torch.randn(options.batch_size, 3, options.num_frames, options.side_px, options.side_px)
    return network, clips, torch.randint(NUM_CLASSES, (options.batch_size,))


def run(options: argparse.Namespace) -> dict[str, Any]:
    ours, clips, labels = prepared(options)
    apart = must_be_the_same(ours, their_network(ours), clips[:2], labels[:2])
    base = ElsewhereBase(options)
    if options.device == "cpu":
        keep_freed_memory()  # as `farfield fit` does
    labels = labels.to(options.device)
    our_clips = clips.to(options.device).contiguous(memory_format=torch.channels_last_3d)
    batch = Batch(our_clips, labels, torch.arange(options.batch_size), None, [])
    recognizer = TrainingModule(copy.deepcopy(ours), SETTINGS).to(options.device)
    networks: dict[str, nn.Module] = {PLAIN: copy.deepcopy(ours).to(options.device)}
    if options.compile:
        networks[COMPILED] = copy.deepcopy(ours).to(options.device)
        networks[COMPILED].compile()

    def loop(name: str) -> Train:
        return plain_loop(networks[name], our_clips, labels, options)

    turns = Turns(base, {name: loop(name) for name in networks}, options.device)
    fit(recognizer, batch, options, WARM_UP + options.steps + 1, turns)
    turns.loops.clear()  # and with them their momentum
    peaks = {BASE: base.ask("memory")}
    base.close()
    peaks |= {name: memory(network, loop(name), options) for name, network in networks.items()}
    peaks[LIGHTNING] = memory(recognizer, partial(fit, recognizer, batch, options), options)
    seconds = {name: turns.seconds[name][WARM_UP:] for name in peaks}
    return {
        "on": torch.cuda.get_device_name() if options.device == "cuda" else f"{os.cpu_count()} CPU cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "options": vars(options),
        "apart": apart,
        "variants": [row(name, seconds, peaks) for name in peaks],
        "lightning_over_plain_loop": statistics.median(over(seconds[LIGHTNING], seconds[PLAIN])),
    }


def row(name: str, seconds: dict[str, list[float]], peaks: dict[str, int]) -> dict[str, Any]:
    ratios = over(seconds[name], seconds[BASE])
    return {
        "variant": name,
        "seconds": statistics.median(seconds[name]),
        "time_ratio": statistics.median(ratios),
        "time_ratios": ratios,
        "bytes": peaks[name],
        "bytes_ratio": peaks[name] / peaks[BASE],
    }


def over(these: list[float], those: list[float]) -> list[float]:
    return [a / b for a, b in zip(these, those, strict=True)]


def as_text(about: dict[str, Any]) -> str:
    given = about["options"]
    lines = [
        f"{about['on']}, {about['threads']} threads, torch {about['torch']}, {given['precision']}; {given['backbone']} "
        f"with {given['insert']}, {given['batch_size']} clips of {given['num_frames']} x {given['side_px']} x "
        f"{given['side_px']}; {given['steps']} turns",
        "apart: " + ", ".join(f"{what} {difference:.1e}" for what, difference in about["apart"].items()),
        "",
        "| variant | time over PyTorchVideo | lowest to highest | memory over PyTorchVideo | MiB |",
        "|---|---|---|---|---|",
    ]
    for each in about["variants"]:
        lines.append(
            f"| {each['variant']} | {each['time_ratio']:.2f} | {min(each['time_ratios']):.2f} to "
            f"{max(each['time_ratios']):.2f} | {each['bytes_ratio']:.2f} | {each['bytes'] / 2**20:.0f} |"
        )
    overhead = about["lightning_over_plain_loop"] - 1
    lines += ["", f"Lightning over the plain loop of the same network: {100 * overhead:+.1f}% time"]
    return "\n".join(lines)


def add_network_arguments(parser: argparse.ArgumentParser, *, batch_size: int) -> None:
    """Add the options of the network and the clips."""
    parser.add_argument("--backbone", choices=["c2d_r50", "i3d_r50", "slow_r50"], default="i3d_r50")
    parser.add_argument("--insert", default="nl5", help="a preset: nl1, nl5 or nl10")
    parser.add_argument("--num_frames", type=int, default=8)
    parser.add_argument("--side_px", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_network_arguments(parser, batch_size=2)
    training_memory.add_arguments(parser)
    parser.add_argument("--steps", type=int, default=7, help="number of timed rounds")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32", help="bf16 uses autocast")
    parser.add_argument("--compile", action="store_true", help="also measure our network with torch.compile")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.steps < 1 or options.batch_size < 1:
        parser.error("--steps and --batch_size must be at least 1.")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, and PyTorch sees no GPU here. Leave it out.")
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if options.memory:
        rows = training_memory.measure_all(options)
        print(json.dumps(rows, indent=2) if options.json else training_memory.as_text(rows))
        return
    try:
        about = run(options)
    except FarfieldError as error:
        parser.error(str(error))
    print(json.dumps(about, indent=2) if options.json else as_text(about))


if __name__ == "__main__":
    main()
