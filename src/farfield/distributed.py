"""Collect Python objects from all processes."""

from __future__ import annotations

from typing import Any

import torch


def all_gather_list(items: list[Any]) -> list[Any]:
    """Return the concatenated lists of all processes, in rank order. Every process must call this function."""
    per_rank: list[list[Any]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(per_rank, items)
    return [item for of_rank in per_rank for item in of_rank]
