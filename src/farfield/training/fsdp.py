"""Fully sharded data parallel: each process keeps its share of the weights, their gradients and the optimiser's state.

Zhao et al., "PyTorch FSDP", 2023, in PyTorch's second form, `fully_shard`: a residual block's weights are gathered when
it runs, and given back after it. What is learned is what DDP learns.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from farfield.errors import FarfieldError
from farfield.models.network import ActionNet

log = logging.getLogger("farfield")


class FullySharded(ModelParallelStrategy):
    """`--trainer.strategy fsdp2`: Lightning's strategy for `fully_shard`, over all processes.

    Its checkpoints are files as of any other run: with as many processes, a run of DDP goes on sharded, and the other
    way.
    """

    NAME = "fsdp2"

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)
        self._validation = ExitStack()

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        precision = self.precision_plugin.precision
        if str(precision).startswith("16"):
            raise FarfieldError(
                f"trainer.precision is {precision}, whose loss scale would differ between the shares of "
                f"{self.NAME}. Take bf16-mixed or 32-true."
            )
        # Nothing here changes logits in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        super().setup(trainer)
        weights = list(self.model.parameters())  # type: ignore[union-attr]  # set by Lightning
        mine, all_ = sum(own_part(weight).numel() for weight in weights), sum(weight.numel() for weight in weights)
        log.info("process %d keeps %d of %d parameters", self.global_rank, mine, all_)

    def on_validation_start(self) -> None:
        """The weights are whole during a validation, in which processes may have unequal numbers of batches."""
        network: Any = self.lightning_module.network  # type: ignore[union-attr]
        for buffer in network.buffers():  # as DDP: the norms' statistics are the first process's
            torch.distributed.broadcast(buffer, 0)
        self._validation.enter_context(whole(network))

    def on_validation_end(self) -> None:
        self._validation.close()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """As `optimizer.state_dict()` of a network that is whole, in the first process; empty in the others.

        Lightning's own numbers parameters in the module's order, and other strategies in the optimiser's.
        """
        assert self.model is not None
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        inner = getattr(optimizer, "_optimizer", optimizer)  # of Lightning's wrapper
        state: dict[str, Any] = get_optimizer_state_dict(self.model, inner, options=options)
        if not state:
            return state
        names = [name for group in state["param_groups"] for name in group["params"]]
        return _renamed(state, {name: number for number, name in enumerate(names)})

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        checkpoint = self.checkpoint_io.load_checkpoint(checkpoint_path, map_location="cpu", weights_only=weights_only)
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.model, checkpoint["state_dict"], options=options)  # type: ignore[arg-type]
        names = {parameter: name for name, parameter in self.model.named_parameters()}  # type: ignore[union-attr]
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=False):
            ours = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
            theirs = [number for group in state["param_groups"] for number in group["params"]]
            renamed = _renamed(state, dict(zip(theirs, ours, strict=True)))
            set_optimizer_state_dict(self.model, optimizer, renamed, options=options)  # type: ignore[arg-type]
        return checkpoint


StrategyRegistry.register(FullySharded.NAME, FullySharded, description="fully sharded data parallel (fully_shard)")


def _renamed(state: dict[str, Any], names: dict[Any, Any]) -> dict[str, Any]:
    """An optimiser's state with its parameters called otherwise."""
    groups = [{**group, "params": [names[each] for each in group["params"]]} for group in state["param_groups"]]
    return {"state": {names[each]: value for each, value in state["state"].items()}, "param_groups": groups}


def shard(network: ActionNet, mesh: DeviceMesh) -> None:
    """Leaves each process its share of every weight; in place.

    What is gathered at once is a residual block with what is inserted after it.
    """
    network.to(memory_format=torch.contiguous_format)  # fully_shard takes no other
    for stage in network.backbone.stage_specs:
        for block in network.backbone.blocks(stage):
            fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


@contextmanager
def whole(network: nn.Module) -> Iterator[None]:
    """Within, each process has all weights, and runs the network without the others. All must enter, and leave.

    Of a network that is not sharded, nothing changes.
    """
    units = [module for module in network.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        unit.unshard()
        unit.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(unit is not network, recurse=False)  # PyTorch's defaults
            unit.reshard()


def whole_tensor(x: Tensor) -> Tensor:
    """All of a tensor of which each process may have a share. All must call."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def own_part(x: Tensor) -> Tensor:
    """What this process keeps of a tensor."""
    return x.to_local() if isinstance(x, DTensor) else x
