"""Weights and inputs by rule, from a weight's name and shape alone, as they were when the records were made."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

RECORDS = Path(__file__).with_name("recorded_outputs")


def fill(name: str, shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """A weight; `gain` is for theta and phi of non-local blocks, so that their softmax is neither flat nor sharp."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if name.endswith("running_var"):
        return 0.5 + torch.rand(shape, generator=generator)
    if name.endswith(("running_mean", "bias")):
        return 0.1 * torch.randn(shape, generator=generator)
    if len(shape) == 1:  # of a norm
        return (0.5 + torch.rand(shape, generator=generator)) * 0.5
    weight = torch.randn(shape, generator=generator) * (1 / math.sqrt(math.prod(shape) // shape[0]))
    pairwise = len(shape) >= 3 and any(part in name for part in ("conv_theta", "conv_phi", ".theta.", ".phi."))
    return weight * gain if pairwise else weight


@dataclass(frozen=True)
class Record:
    """What a peer's network gave.

    Attributes:
        about: the line of JSON.
        shapes: of each weight, by the peer's name.
        second_names: the peer's name to that of another project.
    """

    about: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    second_names: dict[str, str]

    def state(self) -> dict[str, Tensor]:
        return {name: fill(name, shape, self.about["gain"]) for name, shape in self.shapes.items()}

    def input(self) -> Tensor:
        return torch.randn(self.about["input"], generator=torch.Generator().manual_seed(0))

    def tolerance(self) -> float:
        """1e-12 where this machine's random numbers are bit for bit the recorded ones, else float32's."""
        return 1e-12 if float(self.input().double().sum()) == self.about["input_sum"] else 2e-5

    def error(self, output: Tensor, kind: str = "output") -> float:
        """The relative L2 distance of an output (b classes) to the recorded one, over what was kept of it.

        `kind` "sigmoid" takes what the network gives with MODEL.HEAD_ACT sigmoid.
        """
        flat = output.detach().double().flatten()
        kept = torch.tensor(self.about[f"{kind}_sample"], dtype=torch.float64)
        sample = flat[torch.linspace(0, flat.numel() - 1, 64).long()]
        norm = abs(float(flat.norm()) / self.about[f"{kind}_norm"] - 1)
        return max(float((sample - kept).norm() / kept.norm()), norm)


def read_record(name: str) -> Record:
    head, *lines = (RECORDS / f"{name}.txt").read_text().splitlines()
    shapes, second = {}, {}
    for line in lines:
        key, shape, *other = line.split(" ")
        shapes[key] = () if shape == "-" else tuple(map(int, shape.split("x")))
        if other:
            second[key] = other[0]
    return Record(json.loads(head), shapes, second)


def pyslowfast_cfg(arch: str, *, frames: int, crop: int = 64, **more: Any) -> str:
    """The part of PySlowFast's config that its checkpoints carry and a network depends on, as YAML."""
    cfg: dict[str, Any] = {
        "MODEL": {"ARCH": arch, "HEAD_ACT": "softmax"},
        "DATA": {"NUM_FRAMES": frames, "SAMPLING_RATE": 8, "TRAIN_CROP_SIZE": crop, "TEST_CROP_SIZE": 256},
        "TEST": {"NUM_ENSEMBLE_VIEWS": 10, "NUM_SPATIAL_CROPS": 3},
    }
    for section, values in more.items():
        cfg.setdefault(section, {}).update(values)
    return json.dumps(cfg)  # which is YAML
