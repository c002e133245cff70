"""Precise batch norm in a run: saved statistics are those of the next training batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from farfield import build_model
from farfield.errors import FarfieldError
from farfield.training.lightning_module import TrainingModule
from farfield.training.precise_batch_norm import PreciseBatchNorm, average_over_processes
from training.test_fit import arguments

pytestmark = pytest.mark.slow

MEASURED = 3  # of the 4 batches of an epoch


class Recorder(Callback):
    """Record the clips of each step and the first epoch's checkpoint."""

    clips: list[Tensor]
    saved: dict[str, Any]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Recorder.clips, Recorder.saved = [], {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        Recorder.clips.append(batch.clips.clone())

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.current_epoch == 0:
            Recorder.saved = {key: value.clone() for key, value in checkpoint["state_dict"].items()}


def run(figures: Path, run_dir: Path, run_farfield: Callable[..., int], *more: str) -> list[str]:
    options = ["--data.batch_size=5", "--trainer.max_epochs=2", "--model.insert={res3: [1]}", "--model.dropout=0.5"]
    options += ["--trainer.limit_val_batches=1", "--model.backbone_options={width: 0.25}", *more]
    assert run_farfield(*arguments(figures, run_dir, *options)) == 0
    return (run_dir / "steps.csv").read_text().splitlines()


@pytest.fixture(scope="module")
def measured(
    figures: Path, tmp_path_factory: pytest.TempPathFactory, run_farfield: Callable[..., int]
) -> tuple[list[str], list[Tensor], dict[str, Tensor]]:
    """Return a run's steps, the batches of its second epoch, and the state saved after the first."""
    run_dir = tmp_path_factory.mktemp("precise")
    options = [f"--model.optimisation.precise_bn_batches={MEASURED}"]
    options.append("--trainer.callbacks=[{class_path: training.test_precise_batch_norm.Recorder}]")
    steps = run(figures, run_dir, run_farfield, *options)
    network = {key.removeprefix("network."): v for key, v in Recorder.saved.items() if key.startswith("network.")}
    return steps, Recorder.clips[4:], network


def model_of(state: dict[str, Tensor]) -> nn.Module:
    clip = {"num_frames": 4, "crop_px": 24}
    model = build_model("tiny", num_classes=10, backbone_options={"width": 0.25}, insert={"res3": [1]}, clip=clip)
    model.load_state_dict(state)
    return model


def test_first_norm_has_the_mean_and_variance_of_all_values(
    measured: tuple[list[str], list[Tensor], dict[str, Tensor]],
) -> None:
    _, clips, state = measured
    assert len(clips) == 4
    model: Any = model_of(state)
    stem = model.backbone.trunk.blocks[0]
    with torch.no_grad():
        given = [stem.conv(each).double().transpose(0, 1).flatten(1) for each in clips[:MEASURED]]
    values = torch.cat(given, 1)
    torch.testing.assert_close(stem.norm.running_mean.double(), values.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(stem.norm.running_var.double(), values.var(1), rtol=1e-5, atol=1e-6)


def test_means_equal_those_of_update_bn(
    measured: tuple[list[str], list[Tensor], dict[str, Tensor]],
) -> None:
    """For equal batch sizes, the mean of the means is the mean of all values."""
    _, clips, state = measured
    theirs = model_of(state)
    update_bn(clips[:MEASURED], theirs)
    means = [key for key in state if key.endswith("running_mean")]
    assert len(means) > 20
    for key in means:
        torch.testing.assert_close(state[key], theirs.state_dict()[key], rtol=1e-4, atol=1e-5, msg=key)


def test_variances_include_those_between_batches(
    measured: tuple[list[str], list[Tensor], dict[str, Tensor]],
) -> None:
    _, clips, state = measured
    values: dict[str, int] = {}
    of_batch: list[dict[str, Tensor]] = []
    for each in clips[:MEASURED]:
        theirs = model_of(state)
        for name, module in theirs.named_modules():
            if isinstance(module, nn.BatchNorm3d):
                module.register_forward_hook(lambda m, i, o, name=name: values.update({name: i[0][:, 0].numel()}))
        update_bn([each], theirs)
        of_batch.append({key: value.double() for key, value in theirs.state_dict().items()})
    for name, n in values.items():
        means = torch.stack([part[f"{name}.running_mean"] for part in of_batch])
        biased = torch.stack([part[f"{name}.running_var"] for part in of_batch]) * (n - 1) / n
        total = MEASURED * n
        expected = (biased.mean(0) + means.var(0, correction=0)) * total / (total - 1)
        found = state[f"{name}.running_var"].double()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6, msg=name)


def test_training_is_unchanged(
    measured: tuple[list[str], list[Tensor], dict[str, Tensor]],
    figures: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
) -> None:
    steps = run(figures, tmp_path, run_farfield)
    assert len(steps) == 1 + 8
    assert steps == measured[0]


def pooled_by_two(rank: int, folder: str, shares: list[Tensor]) -> None:
    if rank == 1:
        torch.set_num_threads(1)  # a fork has none of the threads that computed before
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    norm = nn.BatchNorm3d(3, momentum=1.0)
    norm(shares[rank])
    norm.running_var *= (n_values(shares[rank]) - 1) / n_values(shares[rank])  # biased: its own values' variance
    average_over_processes(norm)
    torch.save(norm.state_dict(), Path(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


def n_values(x: Tensor) -> int:
    return x[:, 0].numel()


def test_two_processes_combine_their_statistics(tmp_path: Path) -> None:
    shares = [torch.randn(5, 3, 2, 3, 7), torch.randn(5, 3, 2, 3, 7) * 2 + 1.5]
    other = torch.multiprocessing.get_context("fork").Process(target=pooled_by_two, args=(1, str(tmp_path), shares))
    other.start()
    pooled_by_two(0, str(tmp_path), shares)
    other.join()
    values = torch.cat(shares).transpose(0, 1).flatten(1).double()
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(state["running_mean"].double(), values.mean(1), rtol=1e-5, atol=1e-6)
        expected = values.var(1, correction=0)
        torch.testing.assert_close(state["running_var"].double(), expected, rtol=1e-5, atol=1e-6)


def test_fewer_batches_than_asked_are_told(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    run(figures, tmp_path, run_farfield, "--model.optimisation.precise_bn_batches=9")
    told = "optimisation.precise_bn_batches is 9, but only 4 batches were left in the epoch. Set it to the number"
    assert capsys.readouterr().err.count(told) == 1  # of two epochs


def test_settings_without_effect_are_refused(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in arguments(figures, tmp_path) if not word.startswith("--data.val")]
    assert run_farfield(*words, "--model.optimisation.precise_bn_batches=3") == 2
    error = capsys.readouterr().err
    assert "optimisation.early_stopping_epochs need validation data, but data.val is not set" in error
    assert "Set data.val, or set precise_bn_batches to 0 and early_stopping_epochs to null." in error
    assert run_farfield(*arguments(figures, tmp_path), "--model.optimisation.precise_bn_batches=-1") == 2
    assert "precise_bn_batches is -1; it must be at least 0" in capsys.readouterr().err


def test_network_without_norms_is_refused() -> None:
    network = build_model("tiny", num_classes=3)
    for name in [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm3d)]:
        network.set_submodule(name, nn.Identity())
    callback, module = PreciseBatchNorm(3), TrainingModule(network)
    message = r"precise_bn_batches needs batch norms with .* this network has none\. Set precise_bn_batches to 0\.$"
    with pytest.raises(FarfieldError, match=message):
        callback.on_fit_start(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), module)
