"""Benchmark of inference against PyTorchVideo's network and blocks. Ratios, measured in one run.

python scripts/benchmark_inference.py                                        some minutes on 2 CPU cores
python scripts/benchmark_inference.py --compile --bf16
python scripts/benchmark_inference.py --num_frames 4 --side_px 64 --rounds 1 --only ONNX          whether it runs

The baseline is PyTorchVideo's hub network with its own `NonLocal` at the same places, in evaluation and inference mode,
with PyTorch's defaults (contiguous memory). All variants have the same weights, clips and number of threads. Exported
variants are exported in the same run, as by `farfield export`, and every variant's logits are compared with
PyTorchVideo's: in float32 they must agree.

The variants are interleaved; a ratio is PyTorchVideo's time over the variant's in the same round, as the median over
the rounds. The weights are random, and 8 bits are calibrated on noise: the difference of the 8-bit logits shows the
effect of rounding on such a network, not the loss of accuracy of a trained one. `farfield export --int8` measures that.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from benchmark_training import add_network_arguments
from compared_networks import our_network, their_network
from torch import Tensor

from farfield.allocator import keep_freed_memory
from farfield.data.transforms import network_input
from farfield.errors import FarfieldError
from farfield.exporters.export_metadata import describe_export
from farfield.exporters.onnx import OPSET, onnx_model, write_onnx
from farfield.exporters.openvino import openvino_model
from farfield.exporters.trace import trace
from farfield.models.inference_optimization import optimize_for_inference
from farfield.models.network import ActionNet
from farfield.optional_dependencies import require_packages
from farfield.parallel import usable_cores
from farfield.runtimes.exported_network import compile_openvino, load_exported, run_openvino

BASE, PLAIN, FOLDED = "PyTorchVideo, eager", "farfield, as trained", "farfield, for inference"
COMPILED, BF16 = "farfield, for inference, compiled", "farfield, for inference, bfloat16"
BF16_PLAIN = "the same, the first convolution as it is"
ONNX, OPENVINO, OPENVINO_BF16 = "ONNX, onnxruntime", "OpenVINO", "OpenVINO, bfloat16"
INT8 = "OpenVINO, 8 bits"
EXACT = (PLAIN, FOLDED, COMPILED, ONNX, OPENVINO)
"""Variants whose logits must agree with PyTorchVideo's network."""

Score = Callable[[], Tensor]
"""Scores the clips of the benchmark, once."""


def variants(options: argparse.Namespace) -> Iterator[tuple[str, Score]]:
    """Build all variants by name, PyTorchVideo's first."""
    torch.manual_seed(0)
    ours = our_network(options.backbone, options.insert, options.num_frames, options.side_px).eval()
    theirs = their_network(ours).eval()
    frames = torch.randint(256, (options.batch_size, 1, options.num_frames, options.side_px, options.side_px, 3))
    clips = network_input(
        frames.to(torch.uint8), ours.clip
    )  # in channels_last_3d memory, as `farfield predict` has them
    contiguous = clips.contiguous()
    yield BASE, lambda: theirs(contiguous)
    if wanted(PLAIN, options):
        yield PLAIN, lambda: ours(clips)
    fast = optimize_for_inference(ours)
    if wanted(FOLDED, options):
        yield FOLDED, lambda: fast(clips)
    if options.compile:
        compiled = torch.compile(optimize_for_inference(ours))
        yield COMPILED, lambda: compiled(clips)
    if options.bf16:
        half, rounded = optimize_for_inference(ours, torch.bfloat16), clips.to(torch.bfloat16)
        yield BF16, lambda: half(rounded).float()
        plain = optimize_for_inference(ours).to(torch.bfloat16)
        yield BF16_PLAIN, lambda: plain(rounded).float()
    if any(wanted(name, options) for name in (ONNX, OPENVINO, INT8)):
        yield from exported(ours, contiguous, options)


def exported(ours: ActionNet, clips: Tensor, options: argparse.Namespace) -> Iterator[tuple[str, Score]]:
    traced = trace(ours)
    description = describe_export(ours, traced, opset=OPSET).to_json()
    graph = onnx_model(traced.program, description)
    if wanted(ONNX, options):
        with tempfile.TemporaryDirectory() as folder:
            write_onnx(graph, Path(folder, "network.onnx"))
            network = load_exported(Path(folder, "network.onnx"), num_threads=options.threads)
        yield ONNX, lambda: network(clips)
    if wanted(OPENVINO, options):
        plain = run_openvino(compile_openvino(openvino_model(graph, description), options.threads))
        yield OPENVINO, lambda: plain(clips)
    if options.bf16:
        half = run_openvino(compile_openvino(openvino_model(graph, description), options.threads, "bfloat16"))
        yield OPENVINO_BF16, lambda: half(clips)
    if wanted(INT8, options):
        noise = [torch.randn_like(clips).numpy() for _ in range(options.calibration_clips)]
        with redirect_stdout(sys.stderr), require_packages("nncf"):  # it shows its progress there
            import nncf

            nncf.set_log_level(logging.ERROR)
            eight = nncf.quantize(openvino_model(graph, description), nncf.Dataset(noise), subset_size=len(noise))
        quantised = run_openvino(compile_openvino(eight, options.threads))
        yield INT8, lambda: quantised(clips)


def wanted(name: str, options: argparse.Namespace) -> bool:
    return not options.only or any(part in name for part in options.only)


@torch.inference_mode()
def run(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `farfield predict` does; PyTorchVideo's network gains by it, too
    with torch.inference_mode(False), torch.no_grad():
        scores = dict(variants(options))
    expected = scores[BASE]()
    apart = {name: differences(score(), expected) for name, score in scores.items()}  # and a turn that does not count
    for name in EXACT:
        logits = apart.get(name, {"logits": 0.0})["logits"]
        assert logits < 1e-4, f"{name}: logits are {logits:.1e} apart; it does not compute the same."
    seconds: dict[str, list[float]] = {name: [] for name in scores}
    for _ in range(options.rounds):
        for name, score in scores.items():
            began = time.perf_counter()
            score()
            seconds[name].append(time.perf_counter() - began)
    rows = []
    for name, own in seconds.items():
        ratios = [base / each for base, each in zip(seconds[BASE], own, strict=True)]
        clips_per_second = options.batch_size / statistics.median(own)
        row = {"variant": name, "seconds": statistics.median(own), "clips_per_second": clips_per_second}
        rows.append({**row, "times_faster": statistics.median(ratios), "ratios": ratios, "apart": apart[name]})
    return {
        "on": f"{os.cpu_count()} CPU cores, {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "options": vars(options),
        "variants": rows,
    }


def differences(logits: Tensor, expected: Tensor) -> dict[str, float]:
    return {
        "logits": float((logits - expected).abs().max() / expected.abs().max()),
        "probabilities": float((logits.softmax(-1) - expected.softmax(-1)).abs().max()),
    }


def as_text(about: dict[str, Any]) -> str:
    given = about["options"]
    lines = [
        f"{about['on']}, {given['threads']} threads, torch {about['torch']}; {given['backbone']} with "
        f"{given['insert']}, {given['batch_size']} clips of {given['num_frames']} x {given['side_px']} x "
        f"{given['side_px']}; {given['rounds']} turns",
        "",
        "| variant | times faster | lowest to highest | clips/s | logits apart | probabilities apart |",
        "|---|---|---|---|---|---|",
    ]
    for each in about["variants"]:
        apart = " | ".join(f"{each['apart'][what]:.1e}" for what in ("logits", "probabilities"))
        lines.append(
            f"| {each['variant']} | {each['times_faster']:.2f} | {min(each['ratios']):.2f} to "
            f"{max(each['ratios']):.2f} | {each['clips_per_second']:.2f} | {apart} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_network_arguments(parser, batch_size=1)
    parser.add_argument("--rounds", type=int, default=7, help="number of timed rounds")
    parser.add_argument(
        "--threads", type=int, default=usable_cores(), help="threads of every variant; default: all usable cores"
    )
    parser.add_argument("--calibration_clips", type=int, default=4, help="clips of noise for the 8-bit calibration")
    parser.add_argument("--compile", action="store_true", help="also measure our network with torch.compile")
    parser.add_argument(
        "--bf16", action="store_true", help="also measure bfloat16 (not exact; its speed depends on the processor)"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", help="measure only variants whose names contain one of these"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if min(options.rounds, options.batch_size, options.threads, options.calibration_clips) < 1:
        parser.error("--rounds, --batch_size, --threads and --calibration_clips must be at least 1.")
    warnings.filterwarnings("ignore")
    try:
        about = run(options)
    except FarfieldError as error:
        parser.error(str(error))
    print(json.dumps(about, indent=2) if options.json else as_text(about))


if __name__ == "__main__":
    main()
