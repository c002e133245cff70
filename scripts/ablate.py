"""Ablations of "Non-local Neural Networks" (Wang et al., CVPR 2018, table 2) at small scale, on generated videos.

python scripts/ablate.py --out runs/ablation                       everything: 108 runs, hours on two cores
python scripts/ablate.py --out runs/ablation --tasks recall --tables pairwise
python scripts/ablate.py --out runs/ablation --costs               then: parameters, multiply-adds, time and memory

Every run calls the commands `farfield fit` and `farfield test`, with `tiny` at 32 pixels. If it was stopped, the same
command resumes: finished runs are read, an unfinished one resumes from its last epoch. A network that occurs in several
tables is trained once. ablation.json, ablation.md and ablation.png in OUT are rewritten after each run.

Intervals are Student's t over the seeds, at 95%, and never narrower than Wilson's over all their test videos.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from allocations import peak_bytes
from matplotlib.figure import Figure
from runs import ON_CPU, estimate, fit_and_test, read_report
from tqdm import tqdm

from farfield import build_model
from farfield.models.summary import summarise
from farfield.synthetic.synthesize import synthesize

BOTH = {"res3": [1], "res4": [1]}


@dataclass(frozen=True)
class Task:
    """Generated data set with its training settings.

    Attributes:
        videos: of each split.
        clip: what the network wants of a clip.
        options: of `farfield fit`.
    """

    videos: dict[str, Any]
    clip: dict[str, Any]
    options: dict[str, Any]


WHOLE, CROPS = {"crop_scale": [1.0, 1.0]}, {"crop_scale": [0.7, 1.0]}
TASKS = {
    "recall": Task(
        {"num_train": 3000, "num_val": 100, "num_test": 400},
        {"num_frames": 16, "crop_px": 32, "sampling": "segments", "num_clips": 1, "num_crops": 1},
        {
            "trainer.max_epochs": 8,
            "data.augmentation": {"short_side_px": [32, 32], "flip": False},  # whole frames: a cue at the edge counts
            "data.batch_size": 16,
            "model.optimisation.lr": 0.002,
        },
    ),
    "figures": Task(
        {"num_train": 600, "num_val": 100, "num_test": 400},
        {"num_frames": 8, "crop_px": 32, "frame_stride": 6, "num_clips": 1, "num_crops": 1},
        {
            "trainer.max_epochs": 12,
            "data.augmentation": {"crop_scale": [0.7, 1.0]},
            "data.batch_size": 16,
            "model.optimisation.lr": 0.002,
        },
    ),
}
OPTIONS: dict[str, Any] = {
    **ON_CPU,
    "model.dropout": 0.0,
    "model.optimisation.optimizer": "adamw",
    "model.optimisation.weight_decay": 0.05,
    "model.optimisation.warmup_epochs": 1,
}


@dataclass(frozen=True)
class Network:
    """Row of a table: the arguments of `build_model` that differ from `tiny` without blocks."""

    name: str
    insert: dict[str, list[int]] | None = None
    block: str = "non_local"
    block_options: dict[str, Any] = field(default_factory=dict)
    depth: int = 2

    @property
    def key(self) -> str:
        """Return the folder of the network's runs; it depends on the arguments, not on the row's name."""
        parts = [f"tiny{self.depth}"]
        if self.insert:
            parts += [self.block, *(f"{stage}-{'-'.join(map(str, at))}" for stage, at in self.insert.items())]
            parts += [f"{name}-{value}" for name, value in self.block_options.items() if name != "key_pool"]
        return "_".join(parts)

    def arguments(self) -> dict[str, Any]:
        given: dict[str, Any] = {"backbone_options": {"depth": self.depth}}
        if self.insert:
            given |= {"insert": self.insert, "block": self.block, "block_options": self.block_options}
        return given


def non_local(name: str, insert: dict[str, list[int]], **options: Any) -> Network:
    return Network(name, insert, block_options={"key_pool": None, **options})


LOCAL = Network("no blocks")
DEEPER = Network("no blocks, deeper", depth=3)
DEFAULT = non_local("embedded Gaussian", BOTH)
TABLES: dict[str, list[Network]] = {
    "pairwise": [
        LOCAL,
        DEEPER,
        non_local("Gaussian", BOTH, pairwise="gaussian"),
        DEFAULT,
        non_local("dot product", BOTH, pairwise="dot_product"),
        non_local("concatenation", BOTH, pairwise="concatenation"),
    ],
    "stage": [LOCAL, *(non_local(f"one block in {stage}", {stage: [0]}) for stage in ("res2", "res3", "res4", "res5"))],
    "number": [
        LOCAL,
        non_local("1 block", {"res4": [0]}),
        non_local("2 blocks", BOTH),
        non_local("4 blocks", {"res3": [0, 1], "res4": [0, 1]}),
    ],
    "axes": [
        LOCAL,
        non_local("space only", BOTH, scope="space"),
        non_local("time only", BOTH, scope="time"),
        non_local("spacetime", BOTH),
    ],
    "family": [
        LOCAL,
        non_local("non-local", BOTH),
        Network("self-attention (SAGAN)", BOTH, "self_attention"),
        Network("dual attention (DANet)", BOTH, "dual_attention"),
        Network("criss-cross (CCNet)", BOTH, "criss_cross"),
        Network("coordinate attention", BOTH, "coordinate_attention"),
        Network("object context (OCRNet)", BOTH, "object_context"),
    ],
}
TITLES = {
    "pairwise": "(a) pairwise function",
    "stage": "(b) stage",
    "number": "(c) number of blocks",
    "axes": "(d) space, time, spacetime",
    "family": "(e) the attention family",
}


@dataclass(frozen=True)
class Run:
    task: str
    network: Network
    seed: int

    def folder(self, out: Path) -> Path:
        return out / self.task / self.network.key / f"seed{self.seed}"


def unique(tables: Sequence[str]) -> list[Network]:
    """List the networks of some tables without duplicates, in order of their row."""
    return list({network.key: network for name in tables for network in TABLES[name]}.values())


def top1(run: Run, out: Path) -> float | None:
    """Return a run's accuracy on the test split; None if the run has not finished."""
    report = read_report(run.folder(out))
    return None if report is None else report["top1"]["value"]


def carry_out(run: Run, out: Path) -> None:
    data, task = out / "data" / run.task, TASKS[run.task]
    options = OPTIONS | task.options | {"seed_everything": run.seed}
    options |= {"data.train": data / "train.csv", "data.val": data / "val.csv"}
    options |= {"model.backbone": "tiny", "model.clip": task.clip}
    options |= {f"model.{name}": value for name, value in run.network.arguments().items()}
    fit_and_test(run.folder(out), options, data / "test.csv")


def measure_costs(networks: Sequence[Network], task: Task, *, rounds: int = 25) -> dict[str, dict[str, float]]:
    """Measure parameters, multiply-adds, and a training step's time and peak memory relative to `LOCAL`."""
    built = {network.key: network for network in [LOCAL, *networks]}
    costs: dict[str, dict[str, float]] = {}
    steps = {}
    for key, network in built.items():
        model = build_model("tiny", num_classes=2, dropout=0.0, clip=task.clip, **network.arguments())  # type: ignore[arg-type]
        about = summarise(model)
        costs[key] = {"parameters": about.parameters, "multiply_adds": about.multiply_adds}
        model.to(memory_format=torch.channels_last_3d)
        steps[key] = _training_step(model, task)
    seconds: dict[str, list[float]] = {key: [] for key in built}
    for turn in tqdm(range(rounds + 1), "time", unit="round"):
        for key, step in steps.items():
            begin = time.perf_counter()
            step()
            if turn:  # the first is to warm up
                seconds[key].append(time.perf_counter() - begin)
    memory = {key: peak_bytes(step) for key, step in steps.items()}
    for key in built:
        ratios = [mine / local for mine, local in zip(seconds[key], seconds[LOCAL.key], strict=True)]
        costs[key] |= {"time": statistics.median(ratios), "memory": memory[key] / memory[LOCAL.key]}
    return costs


def _training_step(model: torch.nn.Module, task: Task) -> Any:
    side, frames = task.clip["crop_px"], task.clip["num_frames"]
    clips = torch.randn(16, 3, frames, side, side).contiguous(memory_format=torch.channels_last_3d)

    def step() -> tuple[()]:
        model.zero_grad(set_to_none=True)
        model(clips).logsumexp(1).sum().backward()
        return ()

    return step


def collect(out: Path, tasks: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Collect the results of the finished runs, by task and table."""
    costs_path = out / "costs.json"
    costs = json.loads(costs_path.read_text()) if costs_path.is_file() else {}
    content: dict[str, Any] = {}
    for task in tasks:
        tables: dict[str, list[dict[str, Any]]] = {}
        for name, networks in TABLES.items():
            rows = []
            for network in networks:
                values = [v for v in (top1(Run(task, network, seed), out) for seed in seeds) if v is not None]
                if values:
                    found = asdict(estimate(values, TASKS[task].videos["num_test"]))
                    about = {"network": network.name, "seeds": len(values), "values": values, "top1": found}
                    rows.append(about | {"costs": costs.get(task, {}).get(network.key)})
            tables[name] = rows
        content[task] = tables
    return content


def as_markdown(content: dict[str, Any]) -> str:
    lines = []
    for task, tables in content.items():
        for name, rows in tables.items():
            lines += [f"### {TITLES[name]}, on *{task}*", ""]
            lines += ["| network | top-1 | 95% interval | seeds | M parameters | M multiply-adds | time | memory |"]
            lines += ["|---|---|---|---|---|---|---|---|"]
            for row in rows:
                top, costs = row["top1"], row["costs"]
                shown = (
                    f"{costs['parameters'] / 1e6:.2f} | {costs['multiply_adds'] / 1e6:.1f} | {costs['time']:.2f} | "
                    f"{costs['memory']:.2f}"
                    if costs
                    else " | | | "
                )
                lines.append(
                    f"| {row['network']} | {100 * top['value']:.1f}% | {100 * top['low']:.1f} to "
                    f"{100 * top['high']:.1f} | {row['seeds']} | {shown} |"
                )
            lines.append("")
    return "\n".join(lines)


def plot(content: dict[str, Any]) -> Figure:
    """Plot means with intervals, and single seeds as dots: a column for each table, a row for each task."""
    figure = Figure(figsize=(17, 3.1 * len(content)), layout="constrained")
    axes = figure.subplots(len(content), len(TABLES), squeeze=False, sharex="row")
    for at_task, (task, tables) in enumerate(content.items()):
        for at_table, (name, rows) in enumerate(tables.items()):
            ax = axes[at_task][at_table]
            for place, row in enumerate(rows):
                top = row["top1"]
                colour = "0.45" if row["network"].startswith("no blocks") else "C0"
                ax.plot([100 * top["low"], 100 * top["high"]], [place, place], color=colour, lw=3, alpha=0.35)
                ax.plot([100 * value for value in row["values"]], [place] * len(row["values"]), ".", color=colour, ms=4)
                ax.plot(100 * top["value"], place, "|", color=colour, ms=14, mew=2)
            ax.set_yticks(range(len(rows)), [row["network"] for row in rows], fontsize=8)
            ax.set_ylim(len(rows) - 0.5, -0.5)
            ax.grid(alpha=0.3, axis="x")
            ax.set_title(f"{TITLES[name]}: {task}", fontsize=9)
            if at_task == len(content) - 1:
                ax.set_xlabel("top-1 of the test split, %", fontsize=8)
    return figure


def write(out: Path, tasks: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    content = collect(out, tasks, seeds)
    partial = out / "ablation.json.partial"
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(out / "ablation.json")
    (out / "ablation.md").write_text(as_markdown(content))
    plot(content).savefig(out / "ablation.png", dpi=110)
    return content


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for data, runs and tables")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, with one core each")
    parser.add_argument("--costs", action="store_true", help="measure costs and train nothing")
    parser.add_argument("--json", action="store_true", help="print ablation.json instead of the tables")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("farfield").setLevel(logging.WARNING)
    if given.costs:
        path = given.out / "costs.json"
        costs = json.loads(path.read_text()) if path.is_file() else {}
        for task in given.tasks:
            costs[task] = costs.get(task, {}) | measure_costs(unique(given.tables), TASKS[task])
        path.write_text(json.dumps(costs, indent=1) + "\n")
    else:
        for task in given.tasks:
            if not (given.out / "data" / task / "test.csv").is_file():
                synthesize(task, str(given.out / "data" / task), **TASKS[task].videos)
        runs = [Run(t, network, seed) for seed in given.seeds for t in given.tasks for network in unique(given.tables)]
        waiting = [run for run in runs if top1(run, given.out) is None]
        with ThreadPoolExecutor(given.jobs) as pool, tqdm(total=len(runs), initial=len(runs) - len(waiting)) as bar:
            for _ in pool.map(lambda run: carry_out(run, given.out), waiting):
                bar.update()
                write(given.out, given.tasks, given.seeds)
    content = write(given.out, given.tasks, given.seeds)
    print(json.dumps(content, indent=1) if given.json else as_markdown(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
