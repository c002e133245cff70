"""`farfield fit` as a user runs it, on real files."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from PIL import Image

from farfield import build_model
from farfield.checkpoints.checkpoint import load_network
from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.training import run_folder
from farfield.training.run_folder import RunFiles
from hugging_face import config_entries

FAST = (
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
    "--report.every_n_epochs=0",
    "--data.num_workers=0",
    "--model.clip.crop_px=24",
    "--model.clip.num_frames=4",
)

SHORT_CYCLE = ("--data.short_cycle=true", "--data.batch_size=1")
SPLIT = ("--data.batch_size=2", "--model.optimisation.sub_batch_norm_splits=2")
ENCODER = json.dumps({"config": config_entries("videomae")})


def arguments(figures: Path, run_dir: Path, *more: str) -> list[str]:
    return [
        "fit",
        f"--run_dir={run_dir}",
        "--model.backbone=tiny",
        f"--data.train={figures / 'train.csv'}",
        f"--data.val={figures / 'val.csv'}",
        "--trainer.max_epochs=1",
        *FAST,
        *more,
    ]


@pytest.fixture(scope="module")
def trained(figures: Path, tmp_path_factory: pytest.TempPathFactory, run_farfield: Callable[..., int]) -> Path:
    run_dir = tmp_path_factory.mktemp("run")
    assert run_farfield(*arguments(figures, run_dir, "--model.insert={res3: [1]}", "--trainer.max_epochs=2")) == 0
    return run_dir


def test_run_folder_has_all_files(trained: Path) -> None:
    with (trained / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(row[name] for row in rows for name in row)  # no column is empty
    assert float(rows[0]["clips_per_second"]) > 0
    for name in ("curves.png", "confusion_matrix.png"):
        with Image.open(trained / name) as picture:
            assert picture.size[0] > 200
    assert {path.name for path in (trained / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


@pytest.mark.slow
def test_plots_are_drawn_last_and_rarely_between(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def plot_curves(path: Path) -> Figure:
        drawn.append(len(path.read_text().splitlines()) - 1)
        return right(path)

    right = run_folder.plot_curves
    monkeypatch.setattr(run_folder, "plot_curves", plot_curves)
    monkeypatch.setattr(run_folder, "REDRAW_SECONDS", 1e9)
    options = ("--trainer.max_epochs=3",)
    assert run_farfield(*arguments(figures, tmp_path, *options)) == 0
    assert drawn == [3]
    monkeypatch.setattr(run_folder, "REDRAW_SECONDS", 0.0)
    options += ("--trainer.max_epochs=5", "--resume=true", "--model.optimisation.schedule_length=extend")
    assert run_farfield(*arguments(figures, tmp_path, *options)) == 0
    assert drawn == [3, 4, 5]


def test_failed_run_plots_its_last_epoch(tmp_path: Path) -> None:
    """A plot that fails does not hide the exception that stopped the run."""
    files = RunFiles(tmp_path, "")
    (tmp_path / "metrics.csv").write_text(",".join(RunFiles.EPOCH_COLUMNS) + "\n0,1,0.1,0.5,0.5,,,,,,,\n")
    files._has_new_rows = True
    trainer, module = Trainer(logger=False, enable_checkpointing=False), LightningModule()
    files.on_exception(trainer, module, KeyboardInterrupt())
    first = (tmp_path / "curves.png").stat().st_mtime_ns
    files.on_exception(trainer, module, KeyboardInterrupt())
    assert (tmp_path / "curves.png").stat().st_mtime_ns == first  # nothing new
    files._has_new_rows = True
    (tmp_path / "curves.png").unlink()
    (tmp_path / "curves.png").mkdir()  # it cannot be written
    files.on_exception(trainer, module, KeyboardInterrupt())


@pytest.mark.slow
def test_saved_config_reproduces_the_run(trained: Path, tmp_path: Path, run_farfield: Callable[..., int]) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["clip"]["mean"] == [0.45, 0.45, 0.45]  # resolved, not null
    assert run_farfield("fit", f"--config={trained / 'config.yaml'}", f"--run_dir={tmp_path}") == 0
    assert (tmp_path / "steps.csv").read_text() == (trained / "steps.csv").read_text()
    first, second = (
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (trained, tmp_path)
    )
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []  # to the last bit


@pytest.mark.slow
def test_epoch_without_validation_has_no_validation_metrics(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    more = ("--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2")
    assert run_farfield(*arguments(figures, tmp_path, *more)) == 0
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["val/top1"]) for row in rows] == [False, True, False]
    assert all(row["train/loss"] for row in rows)


def test_checkpoint_loads_as_a_network(trained: Path, figures: Path) -> None:
    model = load_network(trained / "checkpoints/best.ckpt")
    assert len(model.labels) == 10
    assert model.clip.num_frames == 4
    assert model.config["insert"] == {"res3": [1]}
    content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)  # plain types throughout
    assert content["random_state"]["cpu"].dtype == torch.uint8


@pytest.mark.slow
def test_bad_videos_are_skipped_counted_and_listed(
    figures: Path,
    tmp_path: Path,
    bad_files: dict[str, Path],
    run_farfield: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for split in ("train", "val"):
        rows = (figures / f"{split}.csv").read_text().splitlines()
        bad = [f"{path},bow" + "," * (rows[0].count(",") - 1) for path in bad_files.values()]
        lonely = [f"{tmp_path / 'gone.mp4'},vanish" + "," * (rows[0].count(",") - 1)] if split == "train" else []
        (tmp_path / f"{split}.csv").write_text("\n".join([*rows, *bad, *lonely]) + "\n")
    run_dir = tmp_path / "run"
    more = [f"--data.train={tmp_path / 'train.csv'}", f"--data.val={tmp_path / 'val.csv'}", f"--data.root={figures}"]
    assert run_farfield(*arguments(figures, run_dir, *more, "--data.num_workers=2", "--data.batch_size=4")) == 0
    with (run_dir / "skipped_videos.csv").open(newline="") as file:
        skipped = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert set(skipped) == {str(path) for path in [*bad_files.values(), tmp_path / "gone.mp4"]}
    assert skipped[str(bad_files["empty"])] == "the file is empty"
    log = capfd.readouterr().err
    assert "videos that could not be read: 7;" in log
    assert log.count("the class 'vanish' is empty: none of its videos can be read") == 1
    assert "gone.mp4: there is no such file; no other video of its class can be read." in log
    assert log.count("is empty: none of its videos") == 1
    assert log.count("empty.mp4: the file is empty") == 1
    with (run_dir / "metrics.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["skipped_videos"]) == 7


def test_existing_run_is_not_overwritten(
    trained: Path, figures: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "metrics.csv").read_text()
    assert run_farfield(*arguments(figures, trained)) == 2
    assert "already holds a run. Give --resume true to continue it" in capsys.readouterr().err
    assert (trained / "metrics.csv").read_text() == before


@pytest.mark.slow
def test_resuming_another_network_is_refused(
    trained: Path, figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints")
    assert run_farfield(*arguments(figures, tmp_path, "--resume=true", "--model.backbone=tiny_c2d")) == 2
    error = capsys.readouterr().err
    assert "is of a different network: backbone was tiny, now tiny_c2d; insert was {'res3': [1]}, now None" in error
    assert (
        run_farfield(
            *arguments(figures, tmp_path, "--resume", "true", "--model.insert={res3: [1]}", "--data.batch_size=3")
        )
        == 2
    )
    assert "batches_per_epoch was 2, now 6; batch_size was 8, now 3" in capsys.readouterr().err
    same = arguments(figures, tmp_path, "--resume=true", "--model.insert={res3: [1]}")
    assert run_farfield(*same, "--trainer.accumulate_grad_batches=2") == 2
    assert "run to resume: accumulate_grad_batches was 1, now 2. Resume with the same" in capsys.readouterr().err
    assert not (tmp_path / "config.yaml").exists()  # a refused resume leaves the run as it was


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.backbon=tiny"], "no option model.backbon.*Did you mean 'model.backbone'"),
        (["--model.optimisation.learning_rate=1"], "no option model.optimisation.learning_rate"),
        (["--model.clip.num_frame=3"], "num_frame"),
        (["--model.insert={res7: [0]}"], "there is no stage 'res7'"),
        (["--data.train=nowhere.csv"], "there is no manifest at nowhere.csv"),
        (["--data.batch_size=many"], "data.batch_size is many; it must be a whole number"),
        (["--data.batch_size=0"], "data.batch_size is 0"),
        (["--model.backbone=tinny"], "fit: backbone is 'tinny'.*Did you mean 'tiny'"),
        (["--run_dir=README.md"], "run_dir is README.md, which is a file"),
        (["--config=nowhere.yaml"], "nowhere.yaml"),
        (["--model.optimisation.schedule=steps"], "is 'steps', but step_epochs is empty"),
        (["--model.optimisation.weight_decay=-1"], "weight_decay is -1"),
        (["--model.optimisation.momentum=1"], "momentum is 1.0; it must be below 1"),
        (["--model.optimisation.warmup_factor=-1"], "warmup_factor is -1.0; warmup_epochs must be at least 0"),
        (["--model.optimisation.warmup_epochs=-3"], "warmup_epochs is -3.0 and optimisation.warmup_factor is 0.1"),
        (
            [
                "--model.optimisation.schedule=steps",
                "--model.optimisation.step_epochs=[1]",
                "--model.optimisation.step_factor=0",
            ],
            r"step_epochs is \[1.0\] and optimisation.step_factor is 0.0; epochs must be at least 0",
        ),
        (
            ["--trainer.val_check_interval=100"],
            "val_check_interval is 100, but an epoch has 2 batches. Lower it, or set trainer.check_val_every_n_epoch",
        ),
        (["--trainer.accelerator=gpu"], "(?i)gpu|cuda"),
        (["--trainer.accelerator=gpux"], "gpux"),
        (["--seed_everything=-1"], "seed_everything is -1; it must be from 0 to 4294967295"),
        (["--trainer.devices=0,"], "`devices` selected with `CPUAccelerator` should be an int > 0"),
        (["--trainer.precision=fp16"], "fp16"),
        (["--trainer.strategy=dddp"], "dddp"),
        (["--trainer.precision=bf16-true"], "precision is bf16-true; it must be one of 32-true, bf16-mixed, 16-mixed"),
        (["--trainer.overfit_batches=1"], "trainer.overfit_batches is not supported"),
        (["--trainer.logger=false"], "trainer.logger has no effect"),
        (
            ["--trainer.max_epochs=-1"],
            "schedule is 'cosine', which needs the length of the run, but no length is set",
        ),
        (
            ["--model.optimisation.sub_batch_norm_splits=3", "--data.batch_size=4"],
            "data.batch_size is 4, which is not a multiple of optimisation.sub_batch_norm_splits",
        ),
        (
            ["--model.optimisation.sub_batch_norm_splits=3", "--data.batch_size=24"],
            "the training videos give batches of 20 clips, fewer than data.batch_size .24.. 20 is not a multiple of "
            "optimisation.sub_batch_norm_splits .3.. Lower data.batch_size",
        ),
        (
            ["--data.batch_size=1", "--model.clip.num_frames=1"],
            "a batch norm gets a single value per channel, which has no variance to normalise by: a batch of one clip, "
            "whose features have one position. Raise data.batch_size .up to the number of training videos., clip",
        ),
        (
            [*SHORT_CYCLE, "--model.head=window_mean", "--model.clip.crop_px=64"],
            r"the head's window .* is larger than the feature map .* of clips of 32 px, which data.short_cycle makes\. "
            "Set head to gap_fc, or leave out data.short_cycle",
        ),
        (
            [*SHORT_CYCLE, *SPLIT, "--model.head=window_mean", "--model.clip.crop_px=64"],
            "larger than the feature map",
        ),
        (
            [*SHORT_CYCLE, "--model.backbone=hf", f"--model.backbone_options={ENCODER}", "--model.clip.crop_px=48"],
            "hf, with data.short_cycle, cannot take clips of 4 frames of 24 px: the position embeddings of this "
            "VideoMAE are for frames of 48 px. Change clip.crop_px, or leave out data.short_cycle",
        ),
        (["--run_dir=README.md/run"], "run_dir README.md/run cannot be created: Not a directory"),
        (["--data.num_workers=-1"], "data.num_workers is -1"),
        (["--checkpoint_every_n_steps=0"], "checkpoint_every_n_steps is 0"),
        (["--model.insert={res5: [1]}", "--model.clip.crop_px=16"], "cannot take clips of 4 frames of 16 px"),
        (
            ["--data.root=/nowhere", "--data.num_workers=1"],
            r"none of the videos of .*\(20 in all\).*Check the manifest's paths, which are relative to /nowhere",
        ),
    ],
)
def test_user_errors_are_one_line(
    options: list[str],
    message: str,
    figures: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_farfield(*arguments(figures, tmp_path / "run", *options)) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error
    assert len([line for line in error.splitlines() if line.startswith("farfield fit:")]) == 1


@pytest.mark.slow
def test_a_run_with_some_split_norms_can_be_loaded_and_trained_on(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    """Norms of frozen stages are not split."""
    options = [*SPLIT, "--model.optimisation.freeze_through=stem"]
    assert run_farfield(*arguments(figures, tmp_path / "run", *options)) == 0
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert sum(name.endswith("split_bn.running_mean") for name in state) > 3
    loaded = load_network(checkpoint)
    trained_on = build_model("tiny", weights=checkpoint)
    for name, value in loaded.state_dict().items():
        assert torch.equal(trained_on.state_dict()[name], value), name
    res2, stem = "backbone.trunk.blocks.1.res_blocks.0.branch1_norm", "backbone.trunk.blocks.0.norm"
    assert torch.equal(loaded.get_submodule(res2).running_mean, state[f"network.{res2}.bn.running_mean"])
    assert loaded.get_submodule(res2).num_batches_tracked == 10
    assert torch.equal(loaded.get_submodule(stem).running_mean, state[f"network.{stem}.running_mean"])


@pytest.mark.parametrize("option", ["--trainer.devices=0,", "--trainer.precision=bf16-true"])
def test_options_that_the_trainer_refuses_leave_no_run_folder(
    option: str, figures: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    assert run_farfield(*arguments(figures, tmp_path / "run", option)) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_amp_and_steps_and_gradient_accumulation(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    more = [
        "--trainer.precision=bf16-mixed",
        "--trainer.accumulate_grad_batches=2",
        "--data.batch_size=5",
        "--trainer.log_every_n_steps=1",
        "--model.optimisation.schedule=steps",
        "--model.optimisation.step_epochs=[0.5]",
        "--model.optimisation.lr=0.1",
    ]
    assert run_farfield(*arguments(figures, tmp_path, *more)) == 0
    with (tmp_path / "steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.1, 0.01])


def test_print_config_shows_every_resolved_value(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_farfield(*arguments(figures, tmp_path / "new", "--print_config"))
    assert stopped.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["clip"]["frame_stride"] == 6  # tiny's own
    assert config["model"]["clip"]["crop_px"] == 24  # changed on the command line
    assert config["model"]["optimisation"]["momentum"] == 0.9
    assert not (tmp_path / "new").exists()


def test_options_override_a_config_that_comes_after_them(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text("trainer: {max_epochs: 7}\nmodel: {dropout: 0.25}\n")
    words = ["--trainer.max_epochs=3", f"--config={tmp_path / 'config.yaml'}", "--print_config"]
    with pytest.raises(SystemExit):
        run_farfield(*arguments(figures, tmp_path / "new", *words))
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["trainer"]["max_epochs"], config["model"]["dropout"]) == (3, 0.25)


@pytest.mark.slow
def test_run_starts_from_weights(
    trained: Path, figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Clip values come from the checkpoint, frozen weights stay, and the classifier of equal labels is kept."""
    best = trained / "checkpoints" / "best.ckpt"
    words = [word for word in arguments(figures, tmp_path / "run") if "model.clip" not in word]
    more = ("--model.insert={res3: [1]}", f"--model.weights={best}", "--model.optimisation.freeze_through=res4")
    assert run_farfield(*words, *more, "--model.optimisation.layer_decay=0.5") == 0
    assert "the classifier's rows of all classes are kept" in capsys.readouterr().err
    before, after = load_network(best), load_network(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert after.clip == before.clip
    old, new = before.state_dict(), after.state_dict()
    frozen = [key for key in old if ".blocks.3." in key and ".inserted." not in key and "num_batches" not in key]
    assert frozen
    assert all(torch.equal(old[key], new[key]) for key in frozen)
    assert not torch.equal(old["head.fc.weight"], new["head.fc.weight"])
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["model"]["clip"]["num_frames"] == 4


@pytest.mark.slow
def test_restricted_labels_are_scored_among_themselves(
    trained: Path, figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (figures / "test.csv").read_text().splitlines()
    labels = sorted({row.split(",")[1] for row in rows[1:]})[3:6]
    some = [row for row in rows[1:] if row.split(",")[1] in labels]
    (tmp_path / "some.csv").write_text("\n".join([rows[0], *some]) + "\n")
    best = trained / "checkpoints" / "best.ckpt"
    words = ["test", "--checkpoint", best, "--data.manifest", tmp_path / "some.csv", "--data.root", figures]
    assert run_farfield(*words, "--data.num_workers", 0, "--out", tmp_path / "out", "--restrict_labels", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["classes"]) == len(labels) == 3
    assert report["scored_among"] == "3 of the network's 10 classes"


class Counts(Callback):
    """Count batches; given on its own, not in a list."""

    batches = 0

    def on_train_batch_end(self, *_args: object) -> None:
        Counts.batches += 1


@pytest.mark.slow
def test_single_callback_and_no_validation(
    figures: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    more = ("--data.val=null", "--trainer.callbacks={class_path: training.test_fit.Counts}", "--data.batch_size=10")
    assert run_farfield(*arguments(figures, tmp_path, *more)) == 0
    assert Counts.batches == 2
    said = capfd.readouterr().err
    assert f"checkpoint: {tmp_path / 'checkpoints/last.ckpt'}. There is no best.ckpt" in said
    assert not [each for each in recwarn if "Total length" in str(each.message)]


@pytest.mark.slow
def test_log_names_the_best_epoch_and_a_finished_run(
    trained: Path, figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    with (trained / "metrics.csv").open(newline="") as file:
        scores = [float(row["val/top1"]) for row in csv.DictReader(file)]
    epoch = max(range(2), key=lambda each: (scores[each], each))
    run_dir = shutil.copytree(trained, tmp_path / "run")
    again = ("--model.insert={res3: [1]}", "--trainer.max_epochs=2", "--resume=true")
    assert run_farfield(*arguments(figures, run_dir, *again)) == 0
    error = capfd.readouterr().err
    assert "nothing was left to train: the run is complete. Raise trainer.max_epochs" in error
    best = run_dir / "checkpoints" / "best.ckpt"
    shown = f"{100 * scores[epoch]:.1f}% (epoch {epoch} in metrics.csv, which counts from 0)"
    assert f"best checkpoint: {best}, of epoch {epoch + 1}, with val/top1 {shown}" in error
    assert run_farfield(*arguments(figures, tmp_path / "dev", "--trainer.fast_dev_run=true")) == 0
    assert "ckpt" not in capfd.readouterr().err


@pytest.mark.slow
def test_file_names_need_not_be_utf8(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    (tmp_path / name).write_bytes(b"")
    rows = (figures / "train.csv").read_text().splitlines()
    content = "\n".join([*rows, f"{tmp_path / name},bow" + "," * (rows[0].count(",") - 1)]) + "\n"
    (tmp_path / "train.csv").write_text(content, errors="surrogateescape")
    more = (f"--data.train={tmp_path / 'train.csv'}", f"--data.root={figures}", "--data.batch_size=3")
    for resume in ("false", "true"):
        assert run_farfield(*arguments(figures, tmp_path / "run", *more, f"--resume={resume}")) == 0
    assert (
        (tmp_path / "run" / "skipped_videos.csv")
        .read_bytes()
        .splitlines()[1]
        .endswith(b"/caf\xe9.mp4,the file is empty")
    )


@pytest.mark.slow
def test_validation_without_readable_videos_is_an_error(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "val.csv").write_text("path,label\nnowhere/a.mp4,bow\nnowhere/b.mp4,bow\n")
    assert run_farfield(*arguments(figures, tmp_path / "run", f"--data.val={tmp_path / 'val.csv'}")) == 2
    assert "none of the validation videos can be read; skipped_videos.csv in the run" in capfd.readouterr().err
    assert not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()


@pytest.mark.slow
def test_compare_ignores_how_the_manifest_path_was_given(
    trained: Path,
    figures: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One of the segments has no frames, in the test and in the calibration."""
    shown = read_manifest(figures / "test.csv")
    paths = [str(shown.path(i)) for i in range(4)]
    records = [VideoRecord(paths[0], shown[0].label, start, end) for start, end in ((0, 0.5), (0.5, None), (99, 100))]
    manifest = tmp_path / "data" / "segments.csv"
    manifest.parent.mkdir()
    write_manifest(manifest, [*records, *(VideoRecord(paths[i], shown[i].label) for i in (1, 2, 3))])
    monkeypatch.chdir(tmp_path)
    words = ["test", "--checkpoint", trained / "checkpoints" / "best.ckpt", "--data.num_workers", 0, "--num_clips", 1]
    for name, given in (("a", "data/segments.csv"), ("b", manifest)):
        more = ["--data.manifest", given, "--calibrate_on", given, "--out", tmp_path / name]
        assert run_farfield(*words, *more) == 0
        captured = capsys.readouterr()
        assert captured.err.count("left out of the calibration: ") == 1
        assert "videos that could not be decoded: 1" in captured.out
    assert run_farfield("compare", tmp_path / "a", tmp_path / "b", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["videos"], content["left_out"]) == (5, 0)
    with (tmp_path / "a" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["start_seconds"], row["end_seconds"]) for row in rows] == [("0", "0.5"), ("0.5", ""), *[("", "")] * 3]
    assert {Path(row["path"]).is_absolute() for row in rows} == {True}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--view_batch_size", -1], "view_batch_size is -1; it must be at least 1, or null"),
        (["--precision", "bf16-true"], "precision is bf16-true; it must be one of"),
        (["--precision", "fp16"], "fp16"),
        (["--accelerator", "gpux"], "gpux"),
        (
            [],
            r"none of the videos in .*val\.csv can be read \(1 in all\)\. .* is \S*nowhere/a\.mp4: there is no",
        ),
    ],
)
def test_user_errors_of_test_are_one_line(
    options: list[object],
    message: str,
    trained: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "val.csv").write_text("path,label\nnowhere/a.mp4,bow\n")
    words = ["test", "--checkpoint", trained / "checkpoints" / "best.ckpt", "--data.manifest", tmp_path / "val.csv"]
    assert run_farfield(*words, "--data.num_workers", 0, *options) == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("farfield test:")]
    assert re.search(message, line), line
    assert "Traceback" not in error
