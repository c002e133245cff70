"""Train the quickstart's network with and without recomputed activations, and compare the loss of every step.

python scripts/check_recomputation.py                                          a few minutes on 2 CPU cores
python scripts/check_recomputation.py --steps 2 --num_train 32 --num_test 16   whether it runs

All runs have the same seed, videos and options. Also compares the top-1 accuracy after the last step, on the task's
test videos. Exits with status 1 if a loss differs by more than --tolerance, or an accuracy differs.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch import Callback

from farfield import evaluate
from farfield.synthetic.synthesize import synthesize
from farfield.training.config import make_run
from farfield.training.train import train_run

RUNS = {
    "nothing": ["--model.execution.recompute_norms=false"],
    "norms (the default)": [],
    "norms, two sums of three": ["--model.execution.recompute_sums=2"],
}
"""The runs' options by what is computed again."""


class Losses(Callback):
    """Callback that records the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.values.append(float(pl_module.last_loss))


def curve(data: Path, run_dir: Path, words: list[str], options: argparse.Namespace) -> tuple[list[float], float]:
    """Train a run; return the loss of each step, and top-1 on the test videos after the last."""
    shared = {
        "run_dir": run_dir,
        "data.train": data / "train.csv",
        "data.val": data / "val.csv",
        "data.num_workers": 0,
        "trainer.max_steps": options.steps,
        "trainer.max_epochs": -1,
        "trainer.accelerator": "cpu",
        "trainer.limit_val_batches": 0,
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "wandb.mode": "disabled",
    }
    run = make_run(["--config", "figures_tiny_nl2", *(f"--{name}={value}" for name, value in shared.items()), *words])
    losses = Losses()
    run.trainer.callbacks.append(losses)  # type: ignore[attr-defined]  # Lightning sets it later
    result = train_run(run)
    assert result.last_checkpoint is not None
    return losses.values, evaluate(result.last_checkpoint, data / "test.csv", progress=False).metrics().top1.value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest difference of two losses")
    parser.add_argument("--num_train", type=int, default=600)
    parser.add_argument("--num_test", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        data = Path(folder, "data")
        synthesize("figures", data, num_train=options.num_train, num_val=10, num_test=options.num_test)
        found = {
            name: curve(data, Path(folder, f"run{number}"), words, options)
            for number, (name, words) in enumerate(RUNS.items())
        }
    base, accuracy = found["nothing"]
    rows = [
        {
            "computed again": name,
            "largest difference of a loss": max(abs(a - b) for a, b in zip(losses, base, strict=True)),
            "first loss": losses[0],
            "last loss": losses[-1],
            "top1": top1,
        }
        for name, (losses, top1) in found.items()
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
        for row in rows:
            print(f"| {' | '.join(v if isinstance(v, str) else f'{v:.3g}' for v in row.values())} |")
    same = all(row["largest difference of a loss"] <= options.tolerance and row["top1"] == accuracy for row in rows)
    return 0 if same else 1


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    sys.exit(main())
