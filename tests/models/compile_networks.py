"""Compiles every layer and two whole networks and compares with eager; prints what differed, by name, as JSON.

All in one process: its imports, and what the compiler does only once, take seconds.
"""

from __future__ import annotations

import copy
import gc
import json

import torch
import torch._dynamo

from exporters.networks import without_repeats
from farfield import build_model
from layers.compile_blocks import BACKEND, differences_of_layers

NETWORKS = {
    "tiny": {"insert": {"res3": [0]}, "head": "window_softmax_mean", "backbone_options": {"depth": 1}},
    "slowfast_r50": {
        "insert": {"res3": [0], "fast_res3": [0]},
        "backbone_options": {"width": 8},
        "clip": {"num_frames": 8, "crop_px": 32},
    },
}


def difference(name: str) -> str:
    torch.compiler.reset()  # else the second network compiles with symbols for its sizes, three times as slowly
    eager = build_model(name, num_classes=5, **NETWORKS[name]).eval()
    without_repeats(eager, keep=1)
    for module in eager.modules():
        for parameter in getattr(module, "zero_at_init", ()):
            torch.nn.init.ones_(module.get_parameter(parameter))
    clip = eager.clip
    x = torch.randn(2, 3, clip.num_frames, clip.crop_px + 32, clip.crop_px + 64)
    compiled = torch.compile(copy.deepcopy(eager), fullgraph=True, backend=BACKEND)
    try:
        if name == "tiny":  # with symbols for height and width, which take long to trace backward, too
            for axis in (3, 4):
                torch._dynamo.mark_dynamic(x, axis)
            with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=True):
                larger = torch.randn(2, 3, clip.num_frames, clip.crop_px + 64, clip.crop_px + 40)
                for clips in (x, larger):
                    torch.testing.assert_close(compiled(clips), eager(clips), rtol=1e-4, atol=1e-4)
        else:
            torch.testing.assert_close(compiled(x), eager(x), rtol=1e-4, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            low = eager(x).float()
        torch.testing.assert_close(low.softmax(-1), eager(x).softmax(-1), rtol=0.05, atol=0.02)
    except Exception as error:
        return repr(error)
    return ""


if __name__ == "__main__":
    gc.set_threshold(50_000)  # the compiler makes many objects
    torch.manual_seed(0)
    print(json.dumps(differences_of_layers() | {name: difference(name) for name in NETWORKS}))
