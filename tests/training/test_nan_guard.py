"""The NaN guard stops a diverging run and names the layer, the step and the clips."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from farfield import build_model
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.training.nan_guard import NaNGuard, first_non_finite_layer
from training.test_fit import arguments


def network(**options: Any) -> ActionNet:
    clip = {"num_frames": 4, "crop_px": 24}
    return build_model("tiny", num_classes=3, insert={"res3": [1]}, clip=clip, **options).train()


def clips() -> Tensor:
    return torch.randn(2, 3, 4, 24, 24)


def test_finite_network_has_no_finding() -> None:
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert first_non_finite_layer(model, clips()) is None
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    ("layer", "parameter"),
    [
        ("backbone.trunk.blocks.0.conv", "weight"),
        ("backbone.trunk.blocks.2.res_blocks.1.inserted.phi", "bias"),
        ("backbone.trunk.blocks.3.res_blocks.0.branch2.norm_b", "weight"),
        ("head.fc", "weight"),
    ],
)
def test_non_finite_weight_is_located(layer: str, parameter: str, value: float) -> None:
    model = network()
    model.get_submodule(layer).get_parameter(parameter).data.view(-1)[1] = value
    found = first_non_finite_layer(model, clips())
    assert found == f"The first layer with NaN or infinite weights is {layer} (in its {parameter})."


def test_non_finite_weight_of_an_inserted_block_is_located() -> None:
    model = network(block_options={"pairwise": "concatenation"})
    layer = "backbone.trunk.blocks.2.res_blocks.1.inserted"
    model.get_submodule(layer).get_parameter("w_f").data.view(-1)[1] = torch.nan
    found = first_non_finite_layer(model, clips())
    assert found == f"The first layer with NaN or infinite weights is {layer} (in its w_f)."


def test_overflowing_activation_is_located() -> None:
    """3e38 twice is infinite in float32; the weights are all finite."""
    model = network()
    layer = "backbone.trunk.blocks.1.res_blocks.0.branch2.conv_a"
    model.get_submodule(layer).get_parameter("weight").data.fill_(3e38)
    x = clips().abs() + 1
    given: list[float] = []
    hook = model.get_submodule(layer).register_forward_pre_hook(lambda m, i: given.append(float(i[0].abs().max())))
    found = first_non_finite_layer(model, x)
    hook.remove()
    largest = f"{given[0]:.3g}"
    assert found == (
        f"The first layer with a NaN or infinite output is {layer}; the largest absolute value of its input is "
        f"{largest}."
    )


def test_clips_are_looked_at_first() -> None:
    x = clips()
    x[1, 2, 3, 5, 7] = torch.nan
    assert first_non_finite_layer(network(), x) == "The clips have NaN or infinite values."


def test_norms_statistics_are_untouched_by_a_search_that_finds_something_behind_them() -> None:
    model = network()
    model.head.fc.weight.data[1, 2] = torch.nan
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert first_non_finite_layer(model, clips()) is not None
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert {norm.momentum for norm in model.modules() if isinstance(norm, nn.BatchNorm3d)} == {0.1}


def test_norms_statistics_are_untouched_by_a_search_that_finds_something_before_them() -> None:
    model = network()
    model.get_submodule("backbone.trunk.blocks.2.res_blocks.0.branch2.conv_a").weight.data.fill_(torch.nan)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    first_non_finite_layer(model, clips())
    assert [name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])] == []


@pytest.mark.parametrize("loss", [torch.nan, torch.inf, -torch.inf, 3e38])
def test_non_finite_loss_of_finite_outputs_stops_the_run(loss: float) -> None:
    trainer = SimpleNamespace(
        world_size=1,
        global_step=7,
        current_epoch=3,
        precision="32-true",
        precision_plugin=SimpleNamespace(forward_context=nullcontext),
        datamodule=SimpleNamespace(training_paths=lambda rows: [f"{row}.mp4" for row in rows]),
    )
    module = SimpleNamespace(last_loss=torch.tensor(loss), network=network())
    callback: Any = NaNGuard()
    batch = SimpleNamespace(clips=clips(), indices=torch.tensor([11, 5]))
    callback.on_train_batch_start(trainer, module, batch, 0)
    message = (
        rf"^the loss is {loss} at step 7, in epoch 4, .* All layers' outputs are finite; only the loss is NaN or "
        r"infinite\. The batch's clips: 11\.mp4, 5\.mp4\."
    )
    stops = nullcontext() if loss == 3e38 else pytest.raises(FarfieldError, match=message)
    with stops:
        callback.on_before_optimizer_step(trainer, module, None)


@pytest.mark.slow
@pytest.mark.parametrize("accumulated", [1, 2])
def test_diverging_run_stops_with_finite_weights(
    accumulated: int,
    figures: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    options = ["--model.optimisation.lr=1e25", "--data.batch_size=3", "--checkpoint_every_n_steps=1"]
    options += [f"--trainer.accumulate_grad_batches={accumulated}", "--trainer.limit_val_batches=1"]
    assert run_farfield(*arguments(figures, tmp_path, *options)) == 2
    error = capfd.readouterr().err
    assert "Traceback" not in error
    (line,) = [line for line in error.splitlines() if line.startswith("farfield fit:")]
    told = re.search(r"the loss is (nan|inf) at step (\d+), in epoch 1, and training has stopped", line)
    assert told, line
    step = int(told[2])
    assert step >= 1
    where = r"The first layer with (NaN or infinite weights|a NaN or infinite output) is "
    assert re.search(where + r"(backbone\.trunk\.blocks|head)\.\S+", line)
    shown = re.search(r"The batch's clips: (.+)\. Lower the learning rate", line)
    assert shown, line
    paths = shown[1].split(", ")
    with (figures / "train.csv").open(newline="") as file:
        videos = {str(figures / row["path"]) for row in csv.DictReader(file)}
    assert len(set(paths)) == 3
    assert set(paths) <= videos
    last = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == step  # of the last whole step; nothing was written since
    assert all(value.isfinite().all() for value in last["state_dict"].values())
    with (tmp_path / "steps.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == [str(each + 1) for each in range(step)]


class Spoils(Callback):
    """Puts a value into the gradients of two layers at a step, or into a weight before a validation."""

    def __init__(self, where: str, value: str, step: int) -> None:
        self.where, self.value, self.step = where, float(value), step

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.where == "gradient" and trainer.global_step == self.step:
            for name in (
                "backbone.trunk.blocks.0.conv.weight",
                "backbone.trunk.blocks.2.res_blocks.1.branch2.conv_a.weight",
            ):
                pl_module.network.get_parameter(name).grad[0] = self.value

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.where == "weight" and trainer.global_step == self.step:
            pl_module.network.get_parameter("head.fc.bias").data[1] = self.value


def spoiled(where: str, value: float, step: int) -> str:
    init = f"{{where: {where}, value: '{value}', step: {step}}}"
    return f"--trainer.callbacks=[{{class_path: training.test_nan_guard.Spoils, init_args: {init}}}]"


@pytest.mark.slow
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 3e38])
def test_non_finite_gradient_stops_the_run(
    value: float, figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    """3e38 is a number, and is let pass; SGD then takes 1e-30 of it."""
    options = ["--data.batch_size=5", "--checkpoint_every_n_steps=1", "--model.optimisation.lr=1e-38"]
    options += ["--trainer.limit_val_batches=1", spoiled("gradient", value, 2)]
    assert run_farfield(*arguments(figures, tmp_path, *options)) == (0 if value == 3e38 else 2)
    last = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert all(weight.isfinite().all() for weight in last["state_dict"].values())
    if value != 3e38:
        assert last["global_step"] == 2
        assert re.search(
            r"^farfield fit: the loss is \d\S+, and gradients are NaN or infinite, at step 2, in epoch 1, and training "
            r"has stopped; the last checkpoint is unchanged\. The first such gradient in the backward pass is that of "
            r"backbone\.trunk\.blocks\.2\.res_blocks\.1\.branch2\.conv_a\.weight\. The batch's clips: .*\.mp4\. Lower",
            capfd.readouterr().err,
            re.MULTILINE,
        )


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--model.optimisation.early_stopping_epochs=1"]])
def test_non_finite_validation_loss_fails_the_run(
    more: list[str], figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--data.batch_size=10", "--trainer.max_epochs=3", spoiled("weight", torch.nan, 4), *more]
    assert run_farfield(*arguments(figures, tmp_path, *options)) == 2
    error = capfd.readouterr().err
    assert "the validation loss is NaN or infinite after epoch 2, and training has stopped; best.ckpt is unch" in error
    assert "head.fc.bias has NaN or infinite values. Lower the learning rate" in error
    assert "stopped early" not in error
    for name in ("best", "last"):
        content = torch.load(tmp_path / f"checkpoints/{name}.ckpt", weights_only=True)
        assert content["epoch"] == 0
        assert all(weight.isfinite().all() for weight in content["state_dict"].values())
