"""Parts of Lightning that are private or untyped, each behind one function.

`tests/test_lightning_compat.py` has a test for each part. If a Lightning release changes a part, the failing test names
it. Tested with Lightning 2.6.0 to 2.6.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_only
from torch import nn


def process_rank() -> int:
    """Return the global rank of this process; 0 if training is not distributed.

    Before a `Trainer` exists, Lightning takes the rank from environment variables (RANK, SLURM_PROCID, ...) and keeps
    it as an attribute of the function `rank_zero_only`. Type checkers do not see this attribute.
    """
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
    return rank


def data_module(trainer: Trainer) -> Any:
    """Return the data module given to `fit(datamodule=)`, or None.

    Lightning documents `Trainer.datamodule`, but sets it in a connector and does not declare it in the class.
    """
    return getattr(trainer, "datamodule", None)


def log_every_n_steps(trainer: Trainer) -> int:
    """Return the trainer's `log_every_n_steps`; 0 turns step logs off.

    Lightning documents it as an argument of `Trainer`, but sets the attribute in a connector without declaring it.
    """
    steps: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return steps


def processed_batches(trainer: Trainer) -> int:
    """Return the number of training batches that this process has finished in the whole run.

    The count includes the batches before a resume, because checkpoints restore it. The public `global_step` counts
    optimiser steps, which are fewer if gradients are accumulated. Lightning has no public count of batches.
    """
    done: int = trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
    return done


def synchronize_batch_norm(strategy: Strategy, network: nn.Module) -> nn.Module:
    """Replace a network's batch norms by synchronised ones if the trainer has `sync_batchnorm=True`.

    Lightning does this under DDP, but `ModelParallelStrategy` ignores the setting. The trainer keeps the setting only
    as the strategy's `_layer_sync`.

    Returns:
        The network with synchronised batch norms, or the unchanged network if the setting is off.
    """
    layer_sync = strategy._layer_sync  # type: ignore[attr-defined]  # of ParallelStrategy
    return network if layer_sync is None else layer_sync.apply(network)


def set_mesh_sizes(strategy: ModelParallelStrategy, *, data_parallel: int, tensor_parallel: int) -> None:
    """Set the shape of a strategy's device mesh; call before `setup_environment`, which builds the mesh.

    The mesh has a data-parallel and a tensor-parallel axis. Processes that differ in their place on the data-parallel
    axis train on different clips. Processes that differ only on the tensor-parallel axis share the work on the same
    clips.

    The strategy's constructor also takes the sizes, but the number of processes is not known at that time. With the
    constructor's default, "auto", the data-parallel size is the number of nodes.

    Args:
        strategy: the strategy to change.
        data_parallel: size of the data-parallel axis.
        tensor_parallel: size of the tensor-parallel axis.
    """
    strategy._data_parallel_size = data_parallel
    strategy._tensor_parallel_size = tensor_parallel


def relocate_best(state: Mapping[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Return a `ModelCheckpoint`'s state with `checkpoint` as the path of the best checkpoint.

    This is needed after a run folder was moved or copied, because Lightning's own `load_state_dict` ignores the best
    score when the folder's path has changed. The keys of the state are not documented.
    """
    return {
        **state,
        "dirpath": str(checkpoint.parent),
        "best_model_path": str(checkpoint),
        "kth_best_model_path": str(checkpoint),
        "best_k_models": {str(checkpoint): state["best_model_score"]},
    }


def best_score(state: Mapping[str, Any]) -> float | None:
    """Return the best monitored value in a `ModelCheckpoint`'s state; None before the first validation."""
    score = state["best_model_score"]
    return None if score is None else float(score)


def monitored_metric(state: Mapping[str, Any]) -> str:
    """Return the name of the monitored metric in a `ModelCheckpoint`'s state, whose keys are not documented."""
    name: str = state["monitor"]
    return name
