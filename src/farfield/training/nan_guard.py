"""A loss or a gradient that is no number any more stops the run, and says where that came from."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from farfield.errors import FarfieldError
from farfield.training.activation_checkpointing import norms_keep_statistics
from farfield.training.execution import uncompiled
from farfield.training.fsdp import own_part, whole, whole_tensor

_REMEDY = (
    "Lower the learning rate or lengthen the warm-up, clip gradients (--trainer.gradient_clip_val 1), or, in 16-mixed, "
    "take bf16-mixed."
)


class NaNGuard(Callback):
    """Looks at each step's loss and gradients before they change the weights, and at each validation's loss.

    Of several processes all stop where one does, or its gradients, which all share, would reach the others' weights.
    Reading the loss makes the host wait for the device once a step.
    """

    def __init__(self) -> None:
        self._batch: Any = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._batch = batch

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        network: Any = pl_module.network
        gradients = {name: own_part(p.grad) for name, p in network.named_parameters() if p.grad is not None}
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            gradients = {}  # in 16-mixed, the scaler leaves such steps out
        self._check(trainer, pl_module, gradients)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.accumulate_grad_batches > 1:  # the loss of a batch whose step is yet to come
            self._check(trainer, pl_module, {})
        self._batch = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Comes before the callbacks that keep checkpoints. All processes have the same figures."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is None or bool(torch.isfinite(loss)):
            return
        state = pl_module.network.state_dict()  # type: ignore[union-attr]
        unsound = [name for name, value in state.items() if not is_finite(whole_tensor(value))]
        where = (
            f"{unsound[0]} holds such values." if unsound else "The weights are finite; what layers give out is not."
        )
        raise FarfieldError(
            f"the validation's loss is no number after epoch {trainer.current_epoch + 1}, and training has stopped; "
            f"the best checkpoint is as it was. {where} {_REMEDY}"
        )

    def _check(self, trainer: Trainer, pl_module: LightningModule, gradients: dict[str, Tensor]) -> None:
        loss = pl_module.last_loss
        assert isinstance(loss, Tensor)
        largest = torch.nn.utils.get_total_norm(list(gradients.values()), torch.inf).to(loss.device)
        unsound = (~torch.isfinite(torch.stack([loss.float(), largest.float()]))).float()
        if trainer.world_size > 1:
            torch.distributed.all_reduce(unsound, torch.distributed.ReduceOp.MAX)
        if not unsound.any():
            return
        network, batch = pl_module.network, self._batch
        found = None
        if unsound[0]:
            # In every process, since norms over all of them meet on the way.
            with trainer.precision_plugin.forward_context(), uncompiled(network), whole(network):  # type: ignore[arg-type]
                found = first_not_finite(network, batch.clips)  # type: ignore[arg-type]
            if bool(torch.isfinite(loss)):
                raise FarfieldError("the loss of another process is no number, and training has stopped; see there.")
            what = f"the loss is {float(loss)}"
            where = found or "No layer gives out such values; the loss itself does."
        else:
            layers = [name for name, gradient in gradients.items() if not is_finite(gradient)]
            if not layers:
                raise FarfieldError("a gradient of another process is no number, and training has stopped; see there.")
            what = f"the loss is {float(loss):.4g}, and gradients are no numbers,"
            where = f"On the way back, the first is that of {layers[-1]}."
        paths = trainer.datamodule.training_paths(batch.indices.tolist())  # type: ignore[attr-defined]
        raise FarfieldError(
            f"{what} at step {trainer.global_step} of epoch {trainer.current_epoch + 1}, and training has stopped; the "
            f"last checkpoint is as it was. {where} The batch's clips: {', '.join(paths)}. {_REMEDY}"
        )


@torch.no_grad()
def first_not_finite(network: nn.Module, clips: Tensor) -> str | None:
    """Which layer is the first whose weights, or whose output, hold a NaN or an infinity; None for none.

    Args:
        network: runs once more, in the mode that it is in, its norms' statistics unchanged.
        clips: (b 3 t h w).
    """
    if not is_finite(clips):
        return "The clips themselves hold such values."
    found: list[str] = []
    names = {module: name for name, module in network.named_modules()}

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Weights are looked at on the way in: a block comes before its parts."""
        weights = [name for name, p in module.named_parameters(recurse=False) if not is_finite(p)]
        if weights and not found:
            found.append(f"The first layer with such values is {names[module]}: its {weights[0]} holds them.")

    def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Outputs on the way out: of nested modules, the innermost is the one; what it was given must be sound."""
        given, gives = _tensors(inputs), _tensors(output)
        if found or all(map(is_finite, gives)) or not all(map(is_finite, given)):
            return
        largest = max((float(each.abs().max()) for each in given if each.numel()), default=0.0)
        found.append(
            f"The first layer that gives out such values is {names[module]}; the largest number that it is given is "
            f"{largest:.3g}."
        )

    hooks = [hook for m in names for hook in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))]
    try:
        with norms_keep_statistics(network):
            network(clips)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _tensors(values: Any) -> list[Tensor]:
    given = values if isinstance(values, list | tuple) else [values]
    return [each for each in given if isinstance(each, Tensor)]


def is_finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x).all())
