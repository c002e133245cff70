#!/usr/bin/env bash
# torch 2.14.1 (CPU, AVX-512): in bfloat16, a Conv3d's weight gradient is unwritten memory for clips shorter than the kernel.
#
# Expected: the gradient of float32, within bfloat16's rounding (1%), as for longer clips.
# Seen: with a temporal kernel of 5 and 3 or 4 frames, 3 and 2, or 7 and 3 to 6 (padding of half a kernel, stride 1), parts of
#   the gradient are what freed memory held: NaN where the memory held NaN, any number otherwise. From as many frames as the
#   kernel has on, in float32, or with mkldnn off, it is right; so are the output and the gradient of the input.
# Why it matters: networks halve the frames on their way, so that a kernel of 3 meets 2 frames in the last stage of many; under
#   torch.autocast("cpu", torch.bfloat16) their weights take steps in random directions, or training stops with a NaN now and
#   then, and never in a run that is repeated alone.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 numpy==2.2.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import torch
from torch.nn.functional import conv3d

torch.set_num_threads(1)
if "AVX512" not in torch.backends.cpu.get_cpu_capability():
    sys.exit(f"seen with AVX-512 only; this CPU has {torch.backends.cpu.get_cpu_capability()}")


def fill_freed_memory():
    blocks = [torch.full((2**power,), torch.nan) for power in range(8, 21, 2) for _ in range(3)]
    del blocks


def wrong_of_ten(kernel, frames, dtype=torch.bfloat16):
    wrong = 0
    for seed in range(10):
        torch.manual_seed(seed)
        x = torch.randn(2, 16, frames, 8, 8).to(dtype)
        weight = torch.randn(16, 16, kernel, 1, 1).to(dtype).requires_grad_()
        y = conv3d(x, weight, padding=(kernel // 2, 0, 0))
        cotangent = torch.randn_like(y)
        fill_freed_memory()
        y.backward(cotangent)
        exact = weight.detach().double().requires_grad_()
        conv3d(x.double(), exact, padding=(kernel // 2, 0, 0)).backward(cotangent.double())
        error = (weight.grad.double() - exact.grad).abs().max() / exact.grad.abs().max()
        wrong += not error < 0.02  # NaN is not below
    return wrong


seen = {(k, t): wrong_of_ten(k, t) for k, t in [(3, 2), (3, 3), (5, 4), (5, 5), (7, 3), (7, 6), (7, 7)]}
for (kernel, frames), wrong in seen.items():
    print(f"kernel {kernel}, {frames} frames: wrong in {wrong} of 10")
in_float32 = wrong_of_ten(3, 2, torch.float32)
with torch.backends.mkldnn.flags(enabled=False):
    without = wrong_of_ten(3, 2)
print(f"kernel 3, 2 frames: in float32 {in_float32}, without mkldnn {without}")
short = [seen[3, 2], seen[5, 4], seen[7, 3], seen[7, 6]]
if min(short) < 5 or any([seen[3, 3], seen[5, 5], seen[7, 7], in_float32, without]):
    sys.exit("changed")
PY
