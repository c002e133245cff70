#!/usr/bin/env bash
# torch 2.14.1 (CPU): batch norm's gradients are wrong for one sample whose map was made from rows (1, positions, channels).
#
# Expected: the gradients do not depend on strides, as for two samples, or for a copy in either memory format.
# Seen: x = rows.transpose(1, 2).unflatten(2, (h, w)) is channels-last, but the stride of its batch axis is that of a row. With a
#   contiguous gradient of the output, the gradients of x, gamma and beta are off by more than half of their norm, in training and
#   in evaluation, for 2D and 3D. The output is right, nothing is raised. With two samples, or after x.contiguous() or
#   x.clone(memory_format=torch.channels_last), they are right to 1e-6.
# Why it matters: tokens become a map in this way in many networks with attention; a batch norm behind them then learns from wrong
#   gradients whenever a batch has one sample, as the last batch of an epoch may have, and with one clip on each process always.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 numpy==2.2.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import copy
import math
import sys

import torch
from torch import nn


def error(norm, x, cotangent):
    """The largest relative error of the gradients of x, gamma and beta, against float64 and contiguous tensors."""
    exact = copy.deepcopy(norm).double()

    def gradients(norm, x, cotangent):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(norm(x), [x, *norm.parameters()], cotangent)

    wanted = gradients(exact, x.double().contiguous(), cotangent.double())
    return max(float((a - b).norm() / b.norm()) for a, b in zip(gradients(norm, x, cotangent), wanted))


torch.manual_seed(0)
changed = False
for norm, size, last in [
    (nn.BatchNorm2d(16), (8, 9), torch.channels_last),
    (nn.BatchNorm3d(16), (2, 8, 9), torch.channels_last_3d),
]:
    for training in (True, False):
        norm.train(training)
        of = {}
        for samples in (1, 2):
            rows = torch.randn(samples, math.prod(size), 16)
            x = rows.transpose(1, 2).unflatten(2, size)
            cotangent = torch.randn(samples, 16, *size)
            of[samples] = error(norm, x, cotangent)
            if samples == 1:
                of["contiguous"] = error(norm, x.contiguous(), cotangent)
                of["copied"] = error(norm, x.clone(memory_format=last), cotangent)
        mode = "training" if training else "evaluation"
        print(f"{type(norm).__name__}, {mode}: " + ", ".join(f"{name}: {value:.1e}" for name, value in of.items()))
        changed |= of[1] < 0.5 or max(of[2], of["contiguous"], of["copied"]) > 1e-4
if changed:
    sys.exit("changed")
PY
