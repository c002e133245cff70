"""Train one head with several configurations (learning rate and weight decay) at once.

The parameters of all configurations are stacked along a first axis k. All configurations begin with the same random
weights and see the same clips. So each batch is read only once, and an optimiser's step is a few operations on the
stacks.

Linear heads run together, as one matrix product, so that 24 heads cost little more than one head. In each step, heads
with attention run one after the other, because their large matrix products are no faster when stacked. On the CPU,
stacking would even make them slower: `torch.vmap` turns the convolutions of a non-local block into grouped ones.
Running one after the other also frees the activations of one head before the next.

The optimiser is AdamW (Loshchilov and Hutter, ICLR 2019) with a learning rate and a weight decay for each
configuration. It is implemented here, because torch's optimisers have one learning rate for a whole tensor:

    m = b1 m + (1 - b1) g,    v = b2 v + (1 - b2) g^2
    p = p - lr wd p - lr m / (1 - b1^step) / (sqrt(v / (1 - b2^step)) + eps)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from farfield.probing.heads import ProbeHead
from farfield.probing.options import Configuration
from farfield.progress import ProgressBar

Loss = Callable[[Tensor, Tensor], Tensor]
"""Function that computes the mean loss of a batch from scores (b classes) and targets."""

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # torch's defaults


class Grid:
    """Several configurations of one head, which are trained together.

    Args:
        head: the head, with the weights that all configurations begin with. `train` does not change these weights;
            `take` overwrites them.
        configurations: hyperparameters of each configuration.
        loss: training loss.

    Attributes:
        train_losses: moving average of each configuration's training loss; NaN before the first step.
    """

    def __init__(self, head: ProbeHead, configurations: Sequence[Configuration], loss: Loss) -> None:
        self.head = head
        self.configurations = list(configurations)
        self.loss = loss
        k = len(self.configurations)
        trained = head.trainable()
        self.parameters = {name: _stacked(each, k) for name, each in trained.items()}
        self.shared = {name: each.detach() for name, each in head.named_parameters() if name not in trained}
        own = [name for name, _ in head.tops.named_buffers(prefix="tops")]
        self.buffers = {name: _stacked(each, k) for name, each in head.named_buffers() if name in own}
        self.shared |= {name: each for name, each in head.named_buffers() if name not in own}
        self.train_losses = torch.full((k,), torch.nan)
        device = next(iter(self.parameters.values())).device
        self._lr = torch.tensor([each.lr for each in self.configurations], device=device)
        self._weight_decay = torch.tensor([each.weight_decay for each in self.configurations], device=device)
        self._decays = {name for name, each in trained.items() if each.ndim > 1 and not name.endswith(".query")}

    def scores(self, inputs: Sequence[Tensor], *, own_inputs: bool = False) -> Float[Tensor, "k b classes"]:
        """Return the scores of clips from the heads of all k configurations.

        Args:
            inputs: inputs of the head, each (b ...).
            own_inputs: whether each configuration has its own batch; inputs are then (k b ...).
        """
        if not self.head.takes_maps:
            return self._linear_scores(inputs[0], self.parameters)
        return torch.stack(
            [
                self._run(self._of(self.parameters, place), self._of(self.buffers, place), *own)
                for place, own in enumerate(self._inputs(inputs, own_inputs))
            ]
        )

    def _linear_scores(self, vectors: Tensor, parameters: Mapping[str, Tensor]) -> Float[Tensor, "k b classes"]:
        weight, bias = parameters["head.fc.weight"], parameters["head.fc.bias"]
        z = (vectors - self.head.mean) / self.head.std
        if z.ndim == 3:  # own inputs
            logits = z @ weight.mT
        else:  # one product of matrices, faster than a stack of them
            logits = (z @ weight.flatten(0, 1).T).unflatten(1, weight.shape[:2]).transpose(0, 1)
        return self.head.head.normalise_heads(logits + bias[:, None])

    def _run(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], *features: Tensor) -> Tensor:
        return functional_call(self.head, {**self.shared, **parameters, **buffers}, features)

    def _of(self, stacks: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
        """Return the parameters or buffers of the configuration at index `place`. They share memory with the stacks."""
        return {name: value[place] for name, value in stacks.items()}

    def _inputs(self, inputs: Sequence[Tensor], own_inputs: bool) -> list[Sequence[Tensor]]:
        """Return the inputs of each configuration."""
        count = len(self.configurations)
        return [[each[place] for each in inputs] if own_inputs else inputs for place in range(count)]

    def _gradients(
        self, inputs: Sequence[Tensor], targets: Tensor, own_inputs: bool
    ) -> tuple[Float[Tensor, " k"], list[Tensor]]:
        """Return the loss of each configuration, and the stacked gradients of the parameters."""
        if not self.head.takes_maps:
            stacks = {name: value.detach().requires_grad_() for name, value in self.parameters.items()}
            losses = torch.vmap(self.loss, in_dims=(0, 0 if own_inputs else None))
            found = losses(self._linear_scores(inputs[0], stacks), targets)
            gradients = torch.autograd.grad(found.sum(), list(stacks.values()))  # of a sum: one part for each
            return found.detach(), list(gradients)
        losses_of, gradients_of = [], []
        for place, own in enumerate(self._inputs(inputs, own_inputs)):
            parameters = {
                name: each.detach().requires_grad_() for name, each in self._of(self.parameters, place).items()
            }
            scores = self._run(parameters, self._of(self.buffers, place), *own)
            loss = self.loss(scores, targets[place] if own_inputs else targets)
            gradients_of.append(torch.autograd.grad(loss, list(parameters.values())))
            losses_of.append(loss.detach())
        return torch.stack(losses_of), [torch.stack(each) for each in zip(*gradients_of, strict=True)]

    def train(
        self,
        batches: Iterable[tuple[Sequence[Tensor], Tensor]],
        num_steps: int,
        *,
        own_inputs: bool = False,
        after_step: Callable[[int], Sequence[int] | None] | None = None,
        description: str,
    ) -> None:
        """Train the heads of all k configurations for `num_steps` steps.

        Args:
            batches: (inputs of the head, targets) of each batch; at least `num_steps` batches.
            num_steps: number of steps.
            own_inputs: whether each configuration has its own batch; inputs and targets are then (k b ...).
            after_step: function called after each step with the number of steps so far. It returns the configurations
                to keep, as indices into the grid's current `configurations`; None keeps all.
            description: text beside the progress bar.
        """
        self.head.train()
        state = {name: (torch.zeros_like(each), torch.zeros_like(each)) for name, each in self.parameters.items()}
        self.train_losses = torch.zeros_like(self._lr)
        steps = ProgressBar(range(num_steps), description, unit="step", leave=False)
        for step, (inputs, targets) in zip(steps, batches, strict=False):
            found, gradients = self._gradients(inputs, targets, own_inputs)
            factor = (1 + math.cos(math.pi * step / num_steps)) / 2
            for (name, parameter), gradient in zip(self.parameters.items(), gradients, strict=True):
                self._update(parameter, gradient, *state[name], step + 1, factor, decays=name in self._decays)
            self.train_losses.lerp_(found, 1 if step == 0 else 0.1)
            places = after_step(step + 1) if after_step else None
            if places is not None:
                self._keep(places)
                state = {name: (m[places], v[places]) for name, (m, v) in state.items()}
                self.head.train()
        self.head.eval()

    def _keep(self, places: Sequence[int]) -> None:
        """Remove all configurations except those at the indices `places`."""
        self.configurations = [self.configurations[place] for place in places]
        self.parameters = {name: each[places] for name, each in self.parameters.items()}
        self.buffers = {name: each[places] for name, each in self.buffers.items()}
        self.train_losses, self._lr, self._weight_decay = (
            each[places] for each in (self.train_losses, self._lr, self._weight_decay)
        )

    @torch.no_grad()
    def _update(
        self, parameter: Tensor, gradient: Tensor, m: Tensor, v: Tensor, step: int, factor: float, *, decays: bool
    ) -> None:
        shape = (-1,) + (1,) * (parameter.ndim - 1)
        lr = factor * self._lr.view(shape)
        m.lerp_(gradient, 1 - BETA1)
        v.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        if decays:
            parameter.mul_(1 - lr * self._weight_decay.view(shape))
        scale = (v / (1 - BETA2**step)).sqrt_().add_(EPS)
        parameter.sub_((lr / (1 - BETA1**step) * m).div_(scale))

    @torch.no_grad()
    def take(self, place: int) -> ProbeHead:
        """Copy the weights of the configuration at index `place` into the head, and return the head."""
        own: dict[str, nn.Parameter | Tensor] = {
            **dict(self.head.named_parameters()),
            **dict(self.head.named_buffers()),
        }
        for name, value in (self.parameters | self.buffers).items():
            own[name].copy_(value[place])
        return self.head.eval()


def _stacked(value: Tensor, k: int) -> Tensor:
    return value.detach().expand(k, *value.shape).clone()
