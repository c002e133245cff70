"""Benchmark of overlapping windows that share work against windows scored one by one. Ratios, measured in one run.

python scripts/benchmark_shared_windows.py                                   half an hour on 2 CPU cores
python scripts/benchmark_shared_windows.py --device cuda --precision bfloat16 --windows 128 --view_batch_size 32
python scripts/benchmark_shared_windows.py --networks slow_r50 --num_frames 4 --side_px 64 --windows 8 --rounds 1

Both variants score the same windows with `score_windows`, as `farfield predict --timeline` does, with and without
`sharing`. Frames are random and in memory: decoding, which is the same for both, is not measured. The variants are
interleaved; a ratio is the time without sharing over the time with it in the same round, as the median over the rounds.

Beside it stands what the arithmetic allows: the ratio of the multiply-adds, counted as by `farfield summary`, for the
windows of this run, of which the first shares nothing, and for a video without end. The peak memory of each variant is
measured in a process of its own: the whole process's on the CPU, PyTorch's allocated memory on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from farfield import build_model
from farfield.allocator import keep_freed_memory
from farfield.errors import FarfieldError
from farfield.models.frame_level_costs import count_levels
from farfield.models.inference_optimization import optimize_for_inference
from farfield.models.network import ActionNet
from farfield.parallel import usable_cores
from farfield.precision import Precision
from farfield.timelines.shared_frames import share_frames
from farfield.timelines.sliding_windows import Windows, assemble_windows, window_indices
from farfield.timelines.window_scores import WindowScore, score_windows

NETWORKS = ("slow_r50", "c2d_r50", "c2d_r50+nl5")
CLOSE = 1e-5
"""Largest difference of logits in float32, relative to the largest one."""


@dataclass
class Bench:
    """A network and the windows that it scores."""

    model: ActionNet
    indices: np.ndarray
    frames: dict[int, Tensor]
    batch: int

    def windows(self) -> Windows:
        seconds = self.indices[:, 0] / 25.0
        clips = assemble_windows(self.frames.items(), iter(self.indices))
        return Windows(seconds, seconds + 1, self.indices, clips)

    def score(self, *, sharing: bool, features: bool = False) -> list[WindowScore]:
        scores = list(score_windows(self.windows(), self.model, self.batch, features, sharing=sharing))
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        return scores

    def logits(self, *, sharing: bool) -> Tensor:
        scores = self.score(sharing=sharing, features=True)
        vectors = torch.from_numpy(np.stack([score.features for score in scores if score.features is not None]))
        with torch.inference_mode():
            return self.model.head.classify(vectors[:, None].to(self.model.device, self.model.dtype)).float()


def bench(name: str, options: argparse.Namespace) -> tuple[Bench, ActionNet]:
    """Build a network with random weights and windows of random frames; return them, and the unfolded network."""
    torch.manual_seed(0)
    backbone, _, insert = name.partition("+")
    given = {"num_frames": options.num_frames, "crop_px": options.side_px}
    clip: Any = {key: value for key, value in given.items() if value is not None}
    trained = build_model(backbone, num_classes=400, insert=insert or None, clip=clip)
    spec = trained.clip
    hop = (options.hop or max(spec.num_frames // 4, 1)) * spec.frame_stride
    length = (options.windows - 1) * hop + spec.span
    indices, _ = window_indices(length, spec, spec.span, hop, spread=False)
    side = spec.test_side_px
    frames = {
        index: torch.randint(256, (options.num_crops, side, side, 3), dtype=torch.uint8)
        for index in np.unique(indices).tolist()
    }
    model = optimize_for_inference(trained.to(options.device), getattr(torch, options.precision))
    return Bench(model, indices, frames, options.view_batch_size), trained


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    made, trained = bench(name, options)
    costs = count_levels(trained)
    if costs is None or share_frames(made.windows(), made.model, made.batch) is None:
        raise FarfieldError(f"the windows of {name} share no work. Choose another network, or a shorter --hop.")
    num_frames, stride = trained.clip.num_frames, trained.clip.frame_stride
    hop = (options.hop or max(num_frames // 4, 1)) * stride
    endless = np.arange(2000)[:, None] * hop + np.arange(num_frames) * stride
    expected, found = (made.logits(sharing=sharing) for sharing in (False, True))  # and a turn that does not count
    apart = float((found - expected).abs().max() / expected.abs().max())
    assert options.precision != "float32" or apart < CLOSE, f"{name}: logits are {apart:.1e} apart."
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(options.rounds):
        for sharing, times in seconds.items():
            began = time.perf_counter()
            made.score(sharing=sharing)
            times.append(time.perf_counter() - began)
    ratios = [alone / shared for alone, shared in zip(seconds[False], seconds[True], strict=True)]
    bound = costs.times_faster(made.indices)
    memory = {sharing: peak_memory(name, sharing, options) for sharing in (False, True)}
    return {
        "network": name,
        "clip": [num_frames, stride, trained.clip.test_side_px],
        "hop_sampled_frames": hop // stride,
        "multiply_adds": costs.total,
        "frames_per_map": costs.spans,
        "shares": costs.shares,
        "arithmetic_endless": costs.times_faster(endless),
        "arithmetic": bound,
        "times_faster": statistics.median(ratios),
        "ratios": ratios,
        "of_the_arithmetic": statistics.median(ratios) / bound,
        "windows_per_second": {
            "alone": len(made.indices) / statistics.median(seconds[False]),
            "shared": len(made.indices) / statistics.median(seconds[True]),
        },
        "peak_bytes": {"alone": memory[False], "shared": memory[True]},
        "memory_ratio": memory[True] / memory[False],
        "logits_apart": apart,
    }


def peak_memory(name: str, sharing: bool, options: argparse.Namespace) -> int:
    """Measure the peak memory of a variant in a process of its own, in bytes."""
    words = ["--networks", name, "--memory_of", "shared" if sharing else "alone"]
    for option in (*("device", "precision", "windows", "view_batch_size", "num_crops", "threads"), *OPTIONAL):
        if getattr(options, option) is not None:
            words += [f"--{option}", str(getattr(options, option))]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise FarfieldError(f"the process that measures memory failed: {done.stderr.strip()[-500:]}")
    return int(done.stdout)


def print_peak_memory(options: argparse.Namespace) -> None:
    made, _ = bench(options.networks[0], options)
    made.score(sharing=options.memory_of == "shared")
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(torch.cuda.max_memory_allocated() if options.device == "cuda" else kib * 1024)


def as_text(about: dict[str, Any]) -> str:
    given = about["options"]
    lines = [
        f"{about['on']}, {given['threads']} threads, torch {about['torch']}, {given['precision']}; "
        f"{given['windows']} windows, {given['view_batch_size']} views a forward pass, {given['num_crops']} crops; "
        f"{given['rounds']} turns",
        "",
        "| network | hop, sampled frames | share of multiply-adds | arithmetic, endless | arithmetic, this run | times "
        "faster | lowest to highest | of the arithmetic | windows/s | memory | logits apart |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in about["networks"]:
        shares = " + ".join(f"{share:.1%}" for share in each["shares"])
        speeds = each["windows_per_second"]
        lines.append(
            f"| {each['network']} | {each['hop_sampled_frames']} of {each['clip'][0]} | {shares} | "
            f"{each['arithmetic_endless']:.2f} | {each['arithmetic']:.2f} | {each['times_faster']:.2f} | "
            f"{min(each['ratios']):.2f} to {max(each['ratios']):.2f} | {each['of_the_arithmetic']:.2f} | "
            f"{speeds['alone']:.2f} to {speeds['shared']:.2f} | {each['memory_ratio']:.2f} | "
            f"{each['logits_apart']:.1e} |"
        )
    return "\n".join(lines)


OPTIONAL = ("hop", "num_frames", "side_px")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--networks",
        nargs="+",
        default=list(NETWORKS),
        metavar="BACKBONE[+PRESET]",
        help="backbones and blocks",
    )
    parser.add_argument("--hop", type=int, help="sampled frames between windows; default: a quarter of a window")
    parser.add_argument("--windows", type=int, default=32, help="number of windows in a turn")
    parser.add_argument("--view_batch_size", type=int, default=8, help="windows x crops in a forward pass")
    parser.add_argument("--num_crops", type=int, default=1)
    parser.add_argument("--num_frames", type=int, help="frames of a window; default: the network's own")
    parser.add_argument("--side_px", type=int, help="height and width of the input; default: the network's own")
    parser.add_argument("--rounds", type=int, default=7, help="number of timed rounds")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="CPU threads; default: all usable cores")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory_of", choices=["alone", "shared"], help=argparse.SUPPRESS)  # used by this script
    options = parser.parse_args()
    counts = ("windows", "view_batch_size", "num_crops", "rounds", "threads")
    if min(getattr(options, name) for name in counts) < 1:
        parser.error(f"{', '.join(f'--{name}' for name in counts)} must be at least 1.")
    if any(getattr(options, name) is not None and getattr(options, name) < 1 for name in OPTIONAL):
        parser.error(f"{', '.join(f'--{name}' for name in OPTIONAL)} must be at least 1.")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, and PyTorch sees no GPU here. Leave it out.")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `farfield predict` does
    try:
        if options.memory_of:
            print_peak_memory(options)
            return
        measured = [measure(name, options) for name in options.networks]
    except FarfieldError as error:
        parser.error(str(error))
    on = torch.cuda.get_device_name() if options.device == "cuda" else f"{os.cpu_count()} CPU cores"
    about = {"on": on, "torch": torch.__version__, "options": vars(options), "networks": measured}
    print(json.dumps(about, indent=2) if options.json else as_text(about))


if __name__ == "__main__":
    main()
