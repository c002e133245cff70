"""Exchange of results between the processes of a distributed run."""

from __future__ import annotations

from typing import Any


def gather(own: list[Any]) -> list[Any]:
    """Concatenate the lists of all processes, in the order of their ranks."""
    import torch.distributed as dist

    of_ranks: list[list[Any]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(of_ranks, own)
    return [each for of_rank in of_ranks for each in of_rank]
