"""Measure how long commands take to answer, and the memory of an idle server. Ratios, in one run.

python scripts/benchmark_startup.py                         a few minutes on 2 CPU cores
python scripts/benchmark_startup.py --repeats 1             whether it runs
python scripts/benchmark_startup.py --only predict          the commands whose words contain "predict"
python scripts/benchmark_startup.py --baseline CHECKOUT     also against another version of farfield

Times are seconds of CPU, user and system, of whole processes that take turns; medians. Those of a command are relative
to importing PyTorch or Lightning. The time from `farfield fit` to the first step is that of the quickstart's recipe,
without the processes that decode. The server's memory is the proportional set size (PSS) of all of its processes, with
two workers and the quickstart's network. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]

CLI = "import sys; from farfield.cli import main; sys.exit(main(sys.argv[1:]))"

FIRST_STEP = """
import os, sys
from torch.optim.optimizer import register_optimizer_step_post_hook

def stop(*_):
    times = os.times()
    print(times.user + times.system, flush=True)
    os._exit(0)

register_optimizer_step_post_hook(stop)
from farfield.cli import main
sys.exit(main(sys.argv[1:]))
"""

SAVE_NETWORKS = """
import sys
from farfield import build_model, save_model

small = {"num_frames": 4, "crop_px": 64, "num_clips": 1, "num_crops": 1}
for path in sys.argv[1:]:
    name = path.split("/")[-1].removesuffix(".ckpt")
    options = {"insert": {"res3": [1], "res4": [1]}} if name == "tiny" else {"clip": small}
    save_model(build_model(name, num_classes=8, **options), path)
"""

WRITE_CLIP = """
import sys
import numpy as np
from farfield.video.writer import write_video

write_video(sys.argv[1], np.random.default_rng(0).integers(0, 255, (50, 120, 160, 3), dtype=np.uint8), fps=25)
"""

COMMANDS = {
    "farfield predict --help": "torch",
    "farfield test --help": "torch",
    "farfield data index --help": "torch",
    "farfield predict clip.mp4 --checkpoint tiny.ckpt": "torch",
    "farfield predict clip.mp4 --checkpoint slow_r50.ckpt": "pytorchvideo.models.resnet",
    "farfield predict clip.mp4 --checkpoint r3d_18.ckpt": "torchvision.models",
    "farfield fit --help": "lightning.pytorch",
    "farfield fit --config figures_tiny_nl2 --print_config": "lightning.pytorch",
}
"""Commands, and the package to whose import each is compared."""

Measure = Callable[[], float]


def start(code: str, *words: object, checkout: Path = ROOT) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as those of an installed package
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
    )


def output_of(code: str, *words: object, checkout: Path = ROOT) -> str:
    with start(code, *words, checkout=checkout) as process:
        output = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} ended with status {process.returncode}.")
    return output


def cpu_seconds(code: str, *words: object) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output_of(code, *words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def first_step_seconds(checkout: Path, data: Path) -> float:
    with TemporaryDirectory() as folder:
        manifests = (f"--data.train={data / 'train.csv'}", f"--data.val={data / 'val.csv'}")
        config = checkout / "configs/figures_tiny_nl2.yaml"
        words = ("fit", "--config", config, "--run_dir", Path(folder, "run"), *manifests)
        return float(output_of(FIRST_STEP, *words, checkout=checkout).splitlines()[-1])


def server_mib(checkout: Path, checkpoint: Path) -> float:
    """Start a server and return the PSS of its processes after its workers have loaded the network."""
    with start(CLI, "serve", "--checkpoint", checkpoint, "--port", 0, checkout=checkout) as server:
        assert server.stdout is not None
        server.stdout.readline()  # printed when the first worker is ready
        time.sleep(5)  # for the others
        total = sum(map(pss_mib, process_tree(server.pid)))
        server.send_signal(signal.SIGTERM)
        return total


def process_tree(pid: int) -> list[int]:
    children = " ".join(each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children")).split()
    return [pid, *(found for child in children for found in process_tree(int(child)))]


def pss_mib(pid: int) -> float:
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return 0.0 if found is None else int(found[1]) / 1024


def in_turns(measures: dict[str, Measure], repeats: int) -> dict[str, float]:
    """Return the median of each measure. The measures take turns."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            found[name].append(measure())
    return {name: median(values) for name, values in found.items()}


def command_rows(commands: Mapping[str, str], folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Measure commands in a folder that holds the clip and the checkpoints.

    Args:
        commands: commands, and the package to whose import each is compared.
        folder: the folder.
        repeats: number of rounds.
    """
    measures: dict[str, Measure] = {
        f"import {package}": partial(cpu_seconds, f"import {package}") for package in dict.fromkeys(commands.values())
    }
    for command in commands:
        words = [folder / word if word.endswith((".mp4", ".ckpt")) else word for word in command.split()[1:]]
        measures[command] = partial(cpu_seconds, CLI, *words)
    times = in_turns(measures, repeats)
    compared = {f"import {package}": None for package in commands.values()} | {
        command: f"import {package}" for command, package in commands.items()
    }
    return [row(f"seconds of {name}", times[name], to, times.get(to or "")) for name, to in compared.items()]


def row(measured: str, value: float, relative_to: str | None, reference: float | None) -> dict[str, Any]:
    ratio = None if reference is None else value / reference
    return {"measured": measured, "value": value, "relative_to": relative_to, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, help="a checkout of another version of farfield")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", metavar="TEXT", help="measure what contains this text")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    checkouts = [ROOT, *([options.baseline.resolve()] if options.baseline else [])]
    with TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint, data = folder / "tiny.ckpt", folder / "figures"
        output_of(SAVE_NETWORKS, checkpoint, checkout=checkouts[-1])  # newer versions read it, too
        output_of(SAVE_NETWORKS, folder / "slow_r50.ckpt", folder / "r3d_18.ckpt")
        output_of(WRITE_CLIP, folder / "clip.mp4")
        output_of(
            CLI, "data", "synthesize", "figures", data, *["--num_train", "32", "--num_val", "16", "--num_test", "16"]
        )
        rows = command_rows(
            {command: to for command, to in COMMANDS.items() if options.only in command}, folder, options.repeats
        )
        for measured, measure in (
            ("seconds from farfield fit to the first step", partial(first_step_seconds, data=data)),
            ("MiB of an idle farfield serve", partial(server_mib, checkpoint=checkpoint)),
        ):
            if options.only not in measured:
                continue
            found = in_turns({str(each): partial(measure, each) for each in checkouts}, options.repeats)
            ours, *others = found.values()
            rows.append(row(measured, ours, "baseline", *others) if others else row(measured, ours, None, None))
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print("| measured | value | relative to | ratio |\n|---|---|---|---|")
    for each in rows:
        ratio = "" if each["ratio"] is None else f"{each['ratio']:.2f}"
        print(f"| {each['measured']} | {each['value']:.2f} | {each['relative_to'] or ''} | {ratio} |")


if __name__ == "__main__":
    main()
