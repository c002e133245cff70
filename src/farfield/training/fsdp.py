"""Fully sharded data parallel (FSDP): weights, gradients and optimiser state are split over the processes.

The method is that of Zhao et al., "PyTorch FSDP", 2023, in PyTorch's second implementation, `fully_shard`. The
weights of a residual block, or of a transformer's layer, are gathered before it runs, and released afterwards. Results
equal those of DDP.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
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
from farfield.lightning_compat import set_mesh_sizes
from farfield.models.network import ActionNet

log = logging.getLogger("farfield")


class FullySharded(ModelParallelStrategy):
    """Strategy of `--trainer.strategy fsdp2`: shard the network over all processes with `fully_shard`.

    Checkpoints are single files in the same format as those of other strategies: a DDP run can be resumed under FSDP
    with the same number of processes, and an FSDP run under DDP.
    """

    NAME = "fsdp2"

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)
        self._validation = ExitStack()

    def setup_environment(self) -> None:
        set_mesh_sizes(self, data_parallel=self.num_nodes * self.num_processes, tensor_parallel=1)
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        precision = self.precision_plugin.precision
        if str(precision).startswith("16"):
            raise FarfieldError(
                f"trainer.precision is {precision}, which trainer.strategy {self.NAME} does not support: the loss "
                "scale would differ between the processes. Use bf16-mixed or 32-true."
            )
        # Nothing here changes logits in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        super().setup(trainer)
        weights = list(self.model.parameters())  # type: ignore[union-attr]  # set by Lightning
        local, total = sum(local_tensor(weight).numel() for weight in weights), sum(w.numel() for w in weights)
        log.info("process %d holds %d of %d parameters", self.global_rank, local, total)

    def on_validation_start(self) -> None:
        """Gather the weights, and keep them gathered until the end of the validation.

        If each forward pass gathered them, processes that validate different numbers of batches would hang.
        """
        network: Any = self.lightning_module.network  # type: ignore[union-attr]
        for buffer in network.buffers():  # like DDP: all use the norm statistics of the first process
            torch.distributed.broadcast(buffer, 0)
        self._validation.enter_context(unsharded(network))

    def on_validation_end(self) -> None:
        self._validation.close()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return an optimiser's unsharded state dict in the first process, and an empty dict in the other processes.

        Parameters are numbered in the optimiser's order, as in checkpoints of other strategies, so that a DDP run can
        resume from an FSDP checkpoint. Lightning's method for sharded networks would number them in the module's order.
        """
        assert self.model is not None
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        inner = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        state: dict[str, Any] = get_optimizer_state_dict(self.model, inner, options=options)
        if not state:
            return state
        names = [name for group in state["param_groups"] for name in group["params"]]
        return _rename_parameters(state, {name: number for number, name in enumerate(names)})

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        checkpoint = self.checkpoint_io.load_checkpoint(checkpoint_path, map_location="cpu", weights_only=weights_only)
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.model, checkpoint["state_dict"], options=options)  # type: ignore[arg-type]
        names = {parameter: name for name, parameter in self.model.named_parameters()}  # type: ignore[union-attr]
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=False):
            own_names = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
            numbers = [number for group in state["param_groups"] for number in group["params"]]
            renamed = _rename_parameters(state, dict(zip(numbers, own_names, strict=True)))
            set_optimizer_state_dict(self.model, optimizer, renamed, options=options)  # type: ignore[arg-type]
        return checkpoint


StrategyRegistry.register(FullySharded.NAME, FullySharded, description="fully sharded data parallel (fully_shard)")


def _rename_parameters(state: dict[str, Any], names: dict[Any, Any]) -> dict[str, Any]:
    """Rename the parameters in an optimiser's state dict; `names` maps each current identifier to the new one."""
    groups = [{**group, "params": [names[each] for each in group["params"]]} for group in state["param_groups"]]
    return {"state": {names[each]: value for each, value in state["state"].items()}, "param_groups": groups}


def shard(network: ActionNet, mesh: DeviceMesh) -> None:
    """Shard every weight over the processes of a mesh, in place.

    The weights of a residual block and of the blocks inserted after it are gathered together, as are those of a
    transformer's layer.
    """
    network.to(memory_format=torch.contiguous_format)  # the only format that fully_shard accepts
    for stage in network.backbone.stage_specs:
        for block in network.backbone.blocks(stage):
            fully_shard(block, mesh=mesh)
    for layer in network.backbone.layers():
        fully_shard(layer, mesh=mesh)
    for name in network.backbone.tops:
        for block in network.backbone.top_blocks(name):
            fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


@contextmanager
def unsharded(network: nn.Module) -> Iterator[None]:
    """Gather all weights in every process, so that each process can run the network without the others.

    All processes must enter and leave the `with` block together. A network that is not sharded is left unchanged.
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


def full_tensor(x: Tensor) -> Tensor:
    """Return the whole tensor, gathered from all processes if it is sharded. Every process must call this function."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def local_tensor(x: Tensor) -> Tensor:
    """Return this process's shard of a tensor; the whole tensor if it is not sharded."""
    return x.to_local() if isinstance(x, DTensor) else x
