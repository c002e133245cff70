from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, MultiStepLR, SequentialLR

from farfield import build_model
from farfield.errors import FarfieldError
from farfield.training.optimisation import Optimisation, make_optimizer
from farfield.training.schedule import lr_factor


def rates(settings: Optimisation, *, steps_per_epoch: int, total: int) -> list[float]:
    return [
        settings.lr * lr_factor(i, settings, steps_per_epoch=steps_per_epoch, total_steps=total) for i in range(total)
    ]


def torchs(make_scheduler, total: int, lr: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make_scheduler(optimizer)
    out = []
    for _ in range(total):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


def test_cosine_with_warmup_equals_torchs() -> None:
    settings = Optimisation(lr=0.3, warmup_epochs=2, warmup_factor=0.2)
    ours = rates(settings, steps_per_epoch=7, total=70)
    theirs = torchs(
        lambda o: SequentialLR(o, [LinearLR(o, 0.2, 1, total_iters=14), CosineAnnealingLR(o, T_max=56)], [14]), 70, 0.3
    )
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_steps_equal_torchs() -> None:
    settings = Optimisation(lr=0.3, schedule="steps", step_epochs=(3, 7), step_factor=0.1)
    ours = rates(settings, steps_per_epoch=7, total=70)
    assert ours == pytest.approx(torchs(lambda o: MultiStepLR(o, [21, 49], gamma=0.1), 70, 0.3))


def test_norms_and_biases_are_not_decayed() -> None:
    model = build_model("tiny", num_classes=3, insert={"res3": [0]})
    decayed, free = make_optimizer(model, Optimisation(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(p.ndim > 1 for p in decayed["params"])  # convolutions and the classifier
    assert all(p.ndim == 1 for p in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0}, "optimisation.lr is 0"),
        ({"schedule": "steps"}, "'steps', but step_epochs is empty"),
        ({"step_epochs": (3,)}, "no effect with the cosine schedule"),
        ({"label_smoothing": 1}, r"must be in \[0, 1\)"),
    ],
)
def test_invalid_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        Optimisation(**settings)
