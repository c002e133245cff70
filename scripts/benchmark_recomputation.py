"""Measure what each way of recomputing activations saves in a training step, and what it costs. Ratios, in one run.

python scripts/benchmark_recomputation.py                                          a few minutes on 2 CPU cores
python scripts/benchmark_recomputation.py --num_frames 4 --side_px 32 --steps 1    whether it runs
python scripts/benchmark_recomputation.py --backbone hf --backbone_options '{"config": {"model_type": "videomae"}}' \
    --num_frames 16 --side_px 224                                                  an encoder of transformers

Memory is what the forward pass leaves allocated for the backward pass. Time is that of forward and backward pass, the
median of the steps, of which the ways take turns.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import AbstractContextManager
from statistics import median

import torch
from allocations import held_bytes
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from farfield import build_model
from farfield.training.activation_checkpointing import ALL_LAYERS
from farfield.training.execution import Execution, apply_execution

STAGES = ("res2", "res3", "res4", "res5")
WAYS = {
    "nothing": Execution(recompute_norms=False),
    "norms (the default)": Execution(),
    "norms, two sums of three": Execution(recompute_sums=2),
    "norms, res2 and res3": Execution(recompute_stages=STAGES[:2]),
    "norms, all stages": Execution(recompute_stages=STAGES),
}
"""The settings by what is computed again."""
ENCODER_WAYS = {
    "nothing": Execution(),
    "all layers": Execution(recompute_stages=(ALL_LAYERS,)),
}
"""The settings for a network that has layers in place of stages."""


def held_mib(network: nn.Module, clips: Tensor, context: AbstractContextManager[None]) -> float:
    """Return the memory that a forward pass leaves allocated."""
    with context:
        logits, held = held_bytes(lambda: network(clips))
    return (held - logits.nbytes) / 2**20


def seconds(network: nn.Module, clips: Tensor, execution: Execution) -> float:
    start = time.perf_counter()
    with execution.forward_context():
        loss = cross_entropy(network(clips), torch.zeros(len(clips), dtype=torch.long))
    loss.backward()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="i3d_r50")
    parser.add_argument("--backbone_options", type=json.loads, default={})
    parser.add_argument("--insert", default=None, help="nl5 for a network with stages, unless given")
    parser.add_argument("--num_frames", type=int, default=8)
    parser.add_argument("--side_px", type=int, default=112)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    shape = (options.batch_size, 3, options.num_frames, options.side_px, options.side_px)
    clips = torch.randn(shape).contiguous(memory_format=torch.channels_last_3d)
    is_encoder = options.backbone == "hf"
    ways = ENCODER_WAYS if is_encoder else WAYS
    insert = options.insert or ({} if is_encoder else "nl5")
    networks, memory = {}, {}
    for name, execution in ways.items():
        network = build_model(
            options.backbone, num_classes=400, insert=insert, backbone_options=options.backbone_options
        ).train()
        network.to(memory_format=torch.channels_last_3d)
        apply_execution(network, execution, has_region_loss=False)
        seconds(network, clips, execution)  # the first allocates gradients
        networks[name], memory[name] = network, held_mib(network, clips, execution.forward_context())
    times = [{name: seconds(networks[name], clips, ways[name]) for name in ways} for _ in range(options.steps)]
    print("| computed again | memory | time |\n|---|---|---|")
    for name in ways:
        slower = median(each[name] / each["nothing"] for each in times)
        print(f"| {name} | {memory[name] / memory['nothing']:.2f} | {slower:.2f} |")


if __name__ == "__main__":
    main()
