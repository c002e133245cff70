"""NaN guard: stop a run at a NaN or infinite loss or gradient, and report where it arose."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from farfield.errors import FarfieldError
from farfield.lightning_compat import data_module
from farfield.training.activation_checkpointing import keep_running_statistics
from farfield.training.execution import run_eagerly
from farfield.training.fsdp import full_tensor, local_tensor, unsharded

_REMEDY = (
    "Lower the learning rate or lengthen the warm-up, clip gradients (--trainer.gradient_clip_val 1), or, in 16-mixed, "
    "use bf16-mixed."
)


class NaNGuard(Callback):
    """Stop a run with a `FarfieldError` if a loss or gradient is NaN or infinite.

    The loss and gradients of each step are checked before they change the weights. If one of them is not finite, the
    error of the process that found it names the batch's clips. If it can be found, the error also names the layer where
    the problem arose, or for gradients, the parameter.

    The loss of each validation is checked, too. If it is not finite, the error names the first weight or buffer of the
    network that has NaN or infinite values, if there is one.

    In 16-mixed precision, gradients are not checked: the gradient scaler skips steps with infinite gradients. In
    distributed training, all processes stop when one process finds a NaN or infinite value, since the averaged
    gradients would spread it to the weights of all processes. Reading the loss synchronises the host with the device
    once per step.
    """

    def __init__(self) -> None:
        self._batch: Any = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._batch = batch

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        network: Any = pl_module.network
        gradients = {name: local_tensor(p.grad) for name, p in network.named_parameters() if p.grad is not None}
        if trainer.precision == "16-mixed":
            gradients = {}  # its gradient scaler skips steps with infinite gradients by design
        self._check(trainer, pl_module, gradients)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.accumulate_grad_batches > 1:  # most of these batches are not followed by an optimiser step
            self._check(trainer, pl_module, {})
        self._batch = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the validation loss, which is the same in all processes, before checkpoints are written."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is None or bool(torch.isfinite(loss)):
            return
        state = pl_module.network.state_dict()  # type: ignore[union-attr]
        unsound = [name for name, value in state.items() if not is_finite(full_tensor(value))]
        where = (
            f"{unsound[0]} has NaN or infinite values."
            if unsound
            else "All weights are finite, so a layer's output is NaN or infinite."
        )
        raise FarfieldError(
            f"the validation loss is NaN or infinite after epoch {trainer.current_epoch + 1}, and training has "
            f"stopped; best.ckpt is unchanged. {where} {_REMEDY}"
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
        network: Any = pl_module.network
        batch = self._batch
        if unsound[0]:
            # In every process, since synchronised norms communicate in the forward pass.
            with trainer.precision_plugin.forward_context(), run_eagerly(), unsharded(network):
                found = first_non_finite_layer(network, batch.clips)
            if bool(torch.isfinite(loss)):
                raise FarfieldError(
                    "the loss of another process is NaN or infinite, and training has stopped. That process's message "
                    "has the details."
                )
            what = f"the loss is {float(loss)}"
            where = found or "All layers' outputs are finite; only the loss is NaN or infinite."
        else:
            layers = [name for name, gradient in gradients.items() if not is_finite(gradient)]
            if not layers:
                raise FarfieldError(
                    "a gradient of another process is NaN or infinite, and training has stopped. That process's "
                    "message has the details."
                )
            what = f"the loss is {float(loss):.4g}, and gradients are NaN or infinite,"
            where = f"The first such gradient in the backward pass is that of {layers[-1]}."
        paths = data_module(trainer).training_paths(batch.indices.tolist())
        raise FarfieldError(
            f"{what} at step {trainer.global_step}, in epoch {trainer.current_epoch + 1}, and training has stopped; "
            f"the last checkpoint is unchanged. {where} The batch's clips: {', '.join(paths)}. {_REMEDY}"
        )


@torch.no_grad()
def first_non_finite_layer(network: nn.Module, clips: Tensor) -> str | None:
    """Run a network once to find the first layer whose weights or output have a NaN or infinite value.

    Args:
        network: network to run, in its current mode (training or evaluation). Batch-norm statistics do not change.
        clips: network input, (b 3 t h w).

    Returns:
        A sentence that names the layer, or says that the clips have NaN or infinite values; None if the clips and all
        layers are finite.
    """
    if not is_finite(clips):
        return "The clips have NaN or infinite values."
    found: list[str] = []
    names = {module: name for name, module in network.named_modules()}

    def check_weights(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Forward pre-hook: record the module if it is the first whose own weights have a NaN or infinite value."""
        weights = [name for name, p in module.named_parameters(recurse=False) if not is_finite(p)]
        if weights and not found:
            found.append(f"The first layer with NaN or infinite weights is {names[module]} (in its {weights[0]}).")

    def check_output(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Forward hook: record the module if it is the first with a finite input and a NaN or infinite output.

        A submodule's hook runs before its parent's, so that the innermost of several such modules is recorded.
        """
        given, returned = _tensors(inputs), _tensors(output)
        if found or all(map(is_finite, returned)) or not all(map(is_finite, given)):
            return
        largest = max((float(each.abs().max()) for each in given if each.numel()), default=0.0)
        found.append(
            f"The first layer with a NaN or infinite output is {names[module]}; the largest absolute value of its "
            f"input is {largest:.3g}."
        )

    hooks = [
        hook
        for m in names
        for hook in (m.register_forward_pre_hook(check_weights), m.register_forward_hook(check_output))
    ]
    try:
        with keep_running_statistics(network):
            network(clips)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _tensors(values: Any) -> list[Tensor]:
    given = values if isinstance(values, list | tuple) else [values]
    return [each for each in given if isinstance(each, Tensor)]


def is_finite(x: Tensor) -> bool:
    """Return whether a tensor has neither NaN nor infinite values."""
    return bool(torch.isfinite(x).all())
