"""Two processes on one machine's CPU (gloo), through the real command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision

from farfield.errors import FarfieldError
from farfield.training.fsdp import FullySharded
from hugging_face import config_entries
from training.in_two_processes import LIGHTNING, run_commands
from training.run_copies import copy_option

Run = Callable[..., int]

AVERAGED = ("--model.optimisation.ema_decay=0.8", "--model.optimisation.lr_batch_size=8")
SHARDED = (
    "--model.insert={res3: [0]}",
    "--model.block_options={norm: false}",  # an inserted norm is not frozen
    "--model.optimisation.weight_decay=0.01",
    "--model.optimisation.schedule=steps",  # the same whatever the number of epochs
    "--model.optimisation.step_epochs=[5]",
    "--trainer.gradient_clip_val=0.5",
)
STARTS = "farfield: an optimiser step takes"
"""Start of a line of the log that each run has once."""
NORMS = (*SHARDED, "--model.optimisation.freeze_batch_norm=false", "--data.val=null")


ENCODER = ("--model.backbone=hf", "--model.optimisation.freeze_batch_norm=false", "--model.clip.crop_px=48")


def fit(manifests: dict[str, Path], run_dir: Path, devices: int, *more: str, strategy: str = "ddp") -> list[str]:
    return [
        "fit",
        f"--run_dir={run_dir}",
        "--model.backbone=tiny",
        "--model.backbone_options={depth: 1, width: 0.25}",
        "--model.dropout=0",
        "--model.optimisation.freeze_batch_norm=true",  # PyTorch's sync BN runs on CUDA only
        "--model.optimisation.lr=0.01",
        f"--data.train={manifests['twelve']}",
        f"--data.val={manifests['seven']}",
        f"--data.batch_size={4 // devices}",
        "--data.num_workers=0",
        "--model.clip.crop_px=24",
        "--model.clip.num_frames=4",
        "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu",
        f"--trainer.strategy={strategy if devices > 1 else 'auto'}",
        f"--trainer.devices={devices}",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--report.every_n_epochs=0",
        *more,
    ]


def score(checkpoint: Path, manifest: Path, out: Path, devices: int) -> list[str]:
    return [
        "test", f"--checkpoint={checkpoint}", f"--data.manifest={manifest}", f"--devices={devices}", "--json",
        "--accelerator=cpu", "--data.num_workers=0", "--num_clips=1", "--num_crops=1", f"--out={out}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def manifests(figures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Twelve videos to train on; and seven, one more that is not there, and five in batches of one: uneven shares."""
    folder = tmp_path_factory.mktemp("manifests")
    lines, train = (
        (figures / f"{split}.csv").read_text().replace("videos/", f"{figures}/videos/").splitlines()
        for split in ("val", "train")
    )
    contents = {
        "twelve": train[:13],
        "seven": [*lines[:8], lines[8].replace("val_", "missing_")],
        "five": lines[:6],
    }
    for name, content in contents.items():
        (folder / f"{name}.csv").write_text("\n".join(content) + "\n")
    return {name: folder / f"{name}.csv" for name in contents}


@pytest.fixture(scope="module")
def two(manifests: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, run_farfield: Run) -> Path:
    """Return a folder of runs by two processes, and of `one`, which is scored.

    ddp_fsdp2 is the run unsharded as it was after its first epoch, resumed sharded.
    """
    folder = tmp_path_factory.mktemp("two")
    assert run_farfield(*fit(manifests, folder / "one", 1)) == 0
    five = (*SHARDED, f"--data.val={manifests['five']}", "--trainer.log_every_n_steps=1", "--report.every_n_epochs=1")
    accumulated = ("--data.batch_size=1", "--trainer.accumulate_grad_batches=2")
    epochs = "--trainer.max_epochs=2"
    resumed = (epochs, "--resume=true")
    teacher = f"--model.teacher={folder / 'one/checkpoints/last.ckpt'}"
    taught = (teacher, f"--data.unlabelled={manifests['five']}", *AVERAGED)
    assert run_farfield(*fit(manifests, folder / "taught_one", 1, *taught)) == 0
    encoder = (*ENCODER, f"--model.backbone_options={{config: {json.dumps(config_entries('videomae'))}}}")
    assert run_farfield(*fit(manifests, folder / "encoder_one", 1, *encoder)) == 0
    after_one_epoch = copy_option(folder / "unsharded", folder, {"ddp_fsdp2": ("on_train_epoch_start", 3)})
    commands = {
        "taught": fit(manifests, folder / "taught", 2, *taught),
        "test": score(folder / "one/checkpoints/last.ckpt", manifests["seven"], folder / "test", 2),
        "sharded": fit(manifests, folder / "sharded", 2, *five, *accumulated, strategy="fsdp2"),
        "encoder": fit(
            manifests, folder / "encoder", 2, *encoder, "--model.execution.recompute_stages=[layers]", strategy="fsdp2"
        ),
        "unsharded": fit(manifests, folder / "unsharded", 2, *NORMS, epochs, after_one_epoch),
        "fsdp2_first": fit(manifests, folder / "fsdp2_ddp", 2, *NORMS, strategy="fsdp2"),
        "ddp_then": fit(manifests, folder / "fsdp2_ddp", 2, *NORMS, *resumed),
        "fsdp2_then": fit(manifests, folder / "ddp_fsdp2", 2, *NORMS, *resumed, strategy="fsdp2"),
    }
    lightning = fit(manifests, folder / "plain", 2)
    # Imports take longer than such a command, so a fork of the tests' process runs them; with CUDA a fork cannot train.
    context = get_context("spawn" if torch.cuda.is_available() else "fork")
    process = context.Process(target=run_commands, args=(commands, lightning, folder))
    process.start()
    process.join(600)
    errors = (folder / "errors.txt").read_text()
    assert process.exitcode == 0, errors
    assert "sync_dist" not in errors  # Lightning's, of figures that are one process's alone
    by_torchrun, by_lightning = (part.count(STARTS) for part in errors.split(LIGHTNING))
    assert by_torchrun == sum(words[0] == "fit" for words in commands.values())
    assert by_lightning == 1  # not once a process
    return folder


def last_epoch(run_dir: Path) -> dict[str, str]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))[-1]


def must_agree(one: Path, two: Path, *names: str) -> None:
    """Compare metrics of the last epoch, and weights."""
    theirs, ours = last_epoch(one), last_epoch(two)
    for name in names:
        assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-3), name
    first, second = (torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (one, two))
    for name in (name for name in first if name.startswith("network.")):
        torch.testing.assert_close(second[name], first[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_two_processes_train_like_one(two: Path) -> None:
    """With a teacher, unlabelled videos, EMA, and a learning rate scaled by the clips in a step."""
    must_agree(two / "taught_one", two / "taught", "train/loss", "train/top1", "val/top1", "val/loss", "lr")


@pytest.mark.slow
def test_two_processes_evaluate_every_video_once(
    two: Path, manifests: dict[str, Path], run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metrics equal those of one process, for an odd number of videos with an unreadable one."""
    for name in ("one", "plain"):
        assert last_epoch(two / name)["skipped_videos"] == "1"  # whichever process came by it
    capsys.readouterr()
    assert run_farfield(*score(two / "one/checkpoints/last.ckpt", manifests["seven"], two / "test_one", 1)) == 0
    reports = [json.loads(capsys.readouterr().out), json.loads((two / "test.out").read_text())]
    assert reports[0]["videos"] == reports[1]["videos"] == 7
    assert reports[0]["top1"] == reports[1]["top1"]
    assert len(reports[1]["undecodable_videos"]) == 1


@pytest.mark.slow
def test_processes_that_lightning_starts_train_like_one(two: Path) -> None:
    must_agree(two / "one", two / "plain", "val/top1", "val/loss", "val/mean_class_accuracy", "train/loss")


@pytest.mark.slow
def test_sharded_processes_train_like_one_process(
    two: Path, manifests: dict[str, Path], tmp_path: Path, run_farfield: Run
) -> None:
    """With unequal numbers of validation batches, clipped gradients, and attention maps in the first process."""
    more = (*SHARDED, f"--data.val={manifests['five']}", "--trainer.log_every_n_steps=1")
    assert run_farfield(*fit(manifests, tmp_path, 1, *more)) == 0
    must_agree(tmp_path, two / "sharded", "val/top1", "val/loss", "train/loss")
    norms = [list(csv.reader((run / "gradient_norms.csv").open(newline=""))) for run in (tmp_path, two / "sharded")]
    assert norms[0][0] == norms[1][0]
    for ours, theirs in zip(norms[1][1:], norms[0][1:], strict=True):
        assert [float(x) for x in ours] == pytest.approx([float(x) for x in theirs], rel=1e-2, abs=1e-5)
    assert "What a position attends to" in (two / "sharded" / "report.html").read_text()


@pytest.mark.slow
def test_sharded_layers_of_an_encoder_train_like_one_process(two: Path) -> None:
    """With activation checkpointing of all layers."""
    must_agree(two / "encoder_one", two / "encoder", "val/top1", "val/loss", "train/loss")


@pytest.mark.slow
@pytest.mark.parametrize("resumed", ["fsdp2_ddp", "ddp_fsdp2"])
def test_sharded_run_resumes_unsharded_and_the_reverse(two: Path, resumed: str) -> None:
    """Weights, norm statistics, and momenta of groups with and without decay are in the checkpoint."""
    must_agree(two / "unsharded", two / resumed)


@pytest.fixture
def process_group() -> Iterator[None]:
    """End the process group that a run leaves in this process."""
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--trainer.strategy=fsdp",), "Use fsdp2"),
        (("--trainer.strategy=fsdp2", "--model.optimisation.ema_decay=0.9"), "use --trainer.strategy ddp"),
    ],
)
def test_incompatible_sharding_options_are_refused(
    manifests: dict[str, Path],
    tmp_path: Path,
    more: tuple[str, ...],
    message: str,
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_farfield(*fit(manifests, tmp_path / "run", 1), *more) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_sharding_refuses_16_mixed() -> None:
    strategy = FullySharded()
    strategy.precision_plugin = MixedPrecision("16-mixed", "cuda", torch.amp.GradScaler("cuda", enabled=False))
    with pytest.raises(FarfieldError, match="Use bf16-mixed or 32-true"):
        strategy.setup(Trainer(accelerator="cpu", logger=False))
