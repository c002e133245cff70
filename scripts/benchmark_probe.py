"""Time of a probe: many heads against one on the same features, and a whole probe against fine-tuning.

python scripts/benchmark_probe.py steps                         # a training step of 24 configurations against one
python scripts/benchmark_probe.py heads --videos 500            # 24 configurations against one, on cached features
python scripts/benchmark_probe.py whole --videos 500            # features and heads against 10 epochs of fine-tuning
python scripts/benchmark_probe.py float16 --weights best.ckpt   # what float16 maps change, with a trained `tiny`

Times are CPU time of this process, which other programs on the machine change less than wall time. `heads` computes
features once, and then trains on them with one learning rate and weight decay, and with 24 pairs: reading, training,
choosing, testing, and writing the run folder. `whole` generates videos of two seconds, computes all features and trains
the heads. Fine-tuning is measured for a few steps, and its time extrapolated to all steps of 10 epochs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.build import build_model
from farfield.checkpoints.checkpoint import save_model
from farfield.probing.grid import Grid
from farfield.probing.heads import make_head, pooled_network
from farfield.probing.options import Configuration, HeadName, ProbeSettings
from farfield.progress import progress_bars
from farfield.synthetic.synthesize import synthesize
from farfield.training.train import train

CHANNELS, MAP = 256, (256, 8, 4, 4)
"""Vectors and maps of the measured heads: those of `tiny`."""
STEPS: dict[HeadName, int] = {"linear": 300, "non_local": 2, "attentive": 1}
EPOCHS = 10
"""Epochs of fine-tuning that a probe is compared with."""
BATCH = 8
"""Clips in a step of fine-tuning."""


def cpu_seconds(work: Callable[[], Any]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def compare_steps(batch_size: int) -> dict[str, Any]:
    """Train 24 configurations and one configuration of each head; return CPU seconds a step, and ratios.

    The attentive head has one block, since four would take minutes on a CPU.
    """
    network = pooled_network(build_model("tiny", num_classes=10).eval())
    stored = torch.randn(1000, CHANNELS).relu(), torch.randn(100, *MAP).relu()
    labels = torch.randint(10, (1000,))
    settings = ProbeSettings()
    found: dict[str, Any] = {}
    for name, steps in STEPS.items():

        def batches(features: Tensor = stored[name != "linear"]) -> Iterator[tuple[tuple[Tensor], Tensor]]:
            while True:
                rows = torch.randint(len(features), (batch_size,))
                yield (features[rows],), labels[rows]

        def seconds(configurations: list[Configuration], name: HeadName = name, steps: int = steps) -> float:
            head = make_head(
                network,
                name,
                vectors=stored[0],
                map_shapes=[MAP],
                head_options={"depth": 1} if name == "attentive" else None,
                seed=0,
            )
            grid = Grid(head, configurations, F.cross_entropy)
            grid.train(batches(), 1, description="")
            return cpu_seconds(lambda: grid.train(batches(), steps, description="")) / steps

        grid_of_24 = settings.configurations
        repeats = [(seconds(grid_of_24[:1]), seconds(grid_of_24)) for _ in range(3 if name == "linear" else 1)]
        one, many = (min(each) for each in zip(*repeats, strict=True))
        found[name] = {"one_ms": 1000 * one, "24_ms": 1000 * many, "ratio": many / one}
    return found


def compare_heads(videos: int, heads: list[str], clip: Any, repeats: int, depth: int) -> dict[str, Any]:
    """Train one configuration and 24 of each head on cached features of `tiny`; return medians of CPU seconds.

    The attentive head has `depth` blocks.
    """
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_val = videos // 5
        data = synthesize("figures", folder / "data", num_train=videos - num_val, num_val=num_val, num_test=num_val)
        save_model(build_model("tiny", num_classes=10, clip=clip), folder / "weights.ckpt")

        def probe(run: str, head: str, grid: dict[str, Any]) -> float:
            settings = {"heads": [head], "test": str(data / "test.csv"), "cache": str(folder / "features")}
            options = {
                "model.backbone": "tiny",
                "model.weights": folder / "weights.ckpt",
                "data.train": data / "train.csv",
                "data.val": data / "val.csv",
                "data.num_workers": 0,
                "trainer.accelerator": "cpu",
                "run_dir": folder / run,
                "probe": settings | {"curve_draws": 0, "head_options": {"depth": depth}} | grid,
            }
            return cpu_seconds(lambda: train(None, options, progress=False))

        one = {"learning_rates": [1e-3], "weight_decays": [0.1]}
        for head in heads:
            probe(f"{head}_features", head, one)
            grids: dict[str, dict[str, Any]] = {"one": one, "24": {}}
            seconds: dict[str, list[float]] = {each: [] for each in grids}
            for repeat in range(repeats):
                for each, grid in grids.items():
                    seconds[each].append(probe(f"{head}_{each}_{repeat}", head, grid))
            medians = {each: statistics.median(values) for each, values in seconds.items()}
            found[head] = medians | {"24_ratio": medians["24"] / medians["one"]}
    return found


def compare_whole(videos: int, fine_tuning_steps: int, backbone: str) -> dict[str, Any]:
    """Run a probe on `videos` videos, and a few steps of fine-tuning; return CPU seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_val = videos // 5
        data = synthesize("figures", folder / "data", num_train=videos - num_val, num_val=num_val, num_test=10)
        save_model(build_model(backbone, num_classes=10), folder / "weights.ckpt")  # random: the time is the same
        options = {
            "model.backbone": backbone,
            "model.weights": folder / "weights.ckpt",
            "data.train": data / "train.csv",
            "data.val": data / "val.csv",
            "data.batch_size": BATCH,
            "data.num_workers": 0,
            "trainer.accelerator": "cpu",
            "wandb.mode": "disabled",
            "report.every_n_epochs": 0,
        }
        results: list[Any] = []

        def probe() -> None:
            results.append(train(None, {**options, "run_dir": folder / "probe", "probe": True}, progress=False).probe)

        def fine_tune(steps: int, folder_name: str) -> None:
            limits = {"trainer.max_steps": steps, "trainer.limit_val_batches": 1, "run_dir": folder / folder_name}
            train(None, {**options, **limits}, progress=False)

        of_probe = cpu_seconds(probe)
        first, all_steps = (
            cpu_seconds(lambda: fine_tune(1, "first")),
            cpu_seconds(lambda: fine_tune(1 + fine_tuning_steps, "all")),
        )
        step = (all_steps - first) / fine_tuning_steps
        steps = EPOCHS * ((videos - num_val) // BATCH)
        return {
            "videos": videos,
            "probe_seconds": of_probe,
            "probe_wall_seconds": dict(results[0].seconds),
            "fine_tuning_seconds_per_step": step,
            "fine_tuning_steps": steps,
            "fine_tuning_seconds": step * steps,
            "ratio": of_probe / (step * steps),
            "note": "fine-tuning is extrapolated, without its validations",
        }


def compare_formats(weights: str | None) -> dict[str, Any]:
    """Train non-local heads on maps in float32 and in float16; return the differences of their test scores."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = synthesize("figures", folder / "data", num_train=100, num_val=50, num_test=100)
        if weights is None:  # the features of random weights hardly differ, so that rounding matters more
            save_model(build_model("tiny", num_classes=10), folder / "weights.ckpt")
        tests = {}
        for dtype in ("float32", "float16"):
            heads = {"heads": ["non_local"], "learning_rates": [1e-3], "weight_decays": [0.1], "curve_draws": 0}
            probe = {**heads, "dtype": dtype, "test": str(data / "test.csv"), "epochs": 5, "min_steps": 50}
            options = {
                "model.backbone": "tiny",
                "model.weights": weights or folder / "weights.ckpt",
                "data.train": data / "train.csv",
                "data.val": data / "val.csv",
                "data.num_workers": 0,
                "trainer.accelerator": "cpu",
                "run_dir": folder / dtype,
                "probe": probe,
            }
            result = train(None, options, progress=False).probe
            assert result is not None
            assert result.test is not None
            tests[dtype] = result.test
        full, half = (tests[dtype].scores.probabilities for dtype in ("float32", "float16"))
        return {
            "largest_difference_of_probabilities": float((full - half).abs().max()),
            "videos_with_another_class": int((full.argmax(1) != half.argmax(1)).sum()),
            "videos": len(full),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["steps", "heads", "whole", "float16"])
    parser.add_argument("--videos", type=int, default=500, help="training and validation videos")
    parser.add_argument("--fine_tuning_steps", type=int, default=5, help=f"measured steps of {BATCH} clips")
    parser.add_argument("--backbone", default="x3d_s")
    parser.add_argument("--weights", help="for float16: checkpoint of a trained tiny; default: random weights")
    parser.add_argument("--batch_size", type=int, default=32, help="for steps: clips in a training step of heads")
    parser.add_argument("--heads", nargs="+", default=["linear"], help="for heads: which")
    parser.add_argument("--depth", type=int, default=4, help="for heads: blocks of the attentive head")
    parser.add_argument("--repeats", type=int, default=5, help="for heads: rounds in turns")
    parser.add_argument("--clip", default="{}", help="for heads: clip settings that differ from those of tiny, JSON")
    given = parser.parse_args()
    with progress_bars(False):
        if given.what == "steps":
            found = compare_steps(given.batch_size)
        elif given.what == "heads":
            found = compare_heads(given.videos, given.heads, json.loads(given.clip), given.repeats, given.depth)
        elif given.what == "whole":
            found = compare_whole(given.videos, given.fine_tuning_steps, given.backbone)
        else:
            found = compare_formats(given.weights)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
