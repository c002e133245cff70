"""`farfield fit --probe` as a user runs it, on real files."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from farfield.build import build_model
from farfield.checkpoints.checkpoint import load_network, save_model
from farfield.data.manifest import read_manifest, write_manifest
from farfield.errors import FarfieldError
from farfield.evaluation.evaluate import evaluate
from farfield.probing import feature_cache
from farfield.probing.extraction import Extractor
from farfield.training.train import TrainResult, train

CLIP = {"num_frames": 4, "crop_px": 40, "frame_stride": 6, "num_clips": 2, "num_crops": 1}
SMALL = {"learning_rates": [1e-3, 1e-2], "weight_decays": [0.0, 0.1], "min_steps": 12, "epochs": 1, "train_views": 2}


@pytest.fixture(scope="module")
def weights(figures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.ckpt"
    torch.manual_seed(1)
    save_model(build_model("tiny", labels=read_manifest(figures / "train.csv").labels, clip=CLIP), path)
    return path


def probe(
    folder: Path, weights: Path, run_dir: Path, more: dict[str, Any] | None = None, **settings: Any
) -> TrainResult:
    options = {
        "run_dir": run_dir,
        "model.backbone": "tiny",
        "model.weights": weights,
        "data.train": folder / "train.csv",
        "data.val": folder / "val.csv",
        "data.num_workers": 0,
        "trainer.accelerator": "cpu",
        "probe": SMALL | {"test": str(folder / "test.csv"), "curve_draws": 0} | settings,
    }
    return train(None, options | (more or {}), progress=False)


@pytest.fixture(scope="module")
def finished(figures: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return probe(figures, weights, tmp_path_factory.mktemp("probe") / "run", curve_draws=2)


def test_a_probe_writes_its_files(finished: TrainResult) -> None:
    run_dir, result = finished.run_dir, finished.probe
    assert result is not None
    with (run_dir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["head"], row["lr"], row["weight_decay"]) for row in rows] == [
        ("linear", "0.001", "0"), ("linear", "0.001", "0.1"), ("linear", "0.01", "0"), ("linear", "0.01", "0.1"),
    ]  # fmt: skip
    assert [row["best"] for row in rows].count("True") == 1
    assert json.loads((run_dir / "probe.json").read_text())["heads"]["linear"]["test"]["videos"] == 10
    page = (run_dir / "report.html").read_text()
    assert "data:image/png" in page
    assert "probe:" in page  # the config
    assert "training 20, validation 10, test 10</td>" in page
    assert "{&#39;" not in page  # no Python dictionaries
    with Image.open(run_dir / "curve.png") as picture:
        assert picture.size[0] > 300
    assert [(point.videos_per_class, point.videos, len(point.values)) for point in result.curve] == [
        (1, 10, 2), (2, 20, 1),
    ]  # fmt: skip
    assert not (run_dir / "checkpoints" / "last.ckpt").exists()


def test_the_best_is_chosen_on_validation_videos(finished: TrainResult) -> None:
    result = finished.probe
    assert result is not None
    keys = [(row["val/top1"], -row["val/loss"]) for row in result.configurations]
    [best] = [place for place, row in enumerate(result.configurations) if row["best"]]
    assert keys[best] == max(keys)
    assert dict(result.best.figures) == finished.metrics


def check_equal_to_test(result: TrainResult, folder: Path) -> None:
    """The checkpoint, tested by itself, has the probe's scores."""
    assert result.probe is not None
    assert result.best_checkpoint is not None
    own = result.probe.test
    assert own is not None
    tested = evaluate(
        result.best_checkpoint, folder / "test.csv", accelerator="cpu", num_workers=0, batch_size=4, progress=False
    )
    assert own.scores.paths == tested.scores.paths
    assert torch.equal(own.scores.targets, tested.scores.targets)
    assert own.scores.views.shape == tested.scores.views.shape
    assert own.scores.views.std() > 1e-4  # not merely all equal
    torch.testing.assert_close(own.scores.views, tested.scores.views, atol=2e-6, rtol=2e-5)
    validated = evaluate(
        result.best_checkpoint, folder / "val.csv", num_clips=1, num_crops=1, accelerator="cpu", num_workers=0,
        progress=False,
    )  # fmt: skip
    if own.task == "single_label":
        assert own.metrics().top1 == tested.metrics().top1
        assert result.best_top1 == pytest.approx(validated.metrics().top1.value)


def test_the_checkpoint_scores_as_the_probe_did(finished: TrainResult, figures: Path) -> None:
    check_equal_to_test(finished, figures)


@pytest.mark.slow
def test_heads_on_maps_score_as_the_probe_did(
    figures: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"head_options": {"depth": 2, "mlp_ratio": 1.0}}
    for name in ("attentive", "non_local"):
        result = probe(figures, weights, tmp_path / name, heads=[name], cache=str(tmp_path / "features"), **options)
        check_equal_to_test(result, figures)
        network = load_network(tmp_path / name / "checkpoints" / "best.ckpt")
        trunk = load_network(weights).backbone.trunk.state_dict()
        assert all(torch.equal(trunk[key], value) for key, value in network.backbone.trunk.state_dict().items())
        assert (network.config["head"], network.config["insert"]) == {
            "attentive": ("attentive", None),
            "non_local": ("gap_fc", {"top": 1}),
        }[name]
    assert len(list((tmp_path / "features").iterdir())) == 3  # both heads took the same features


@pytest.mark.slow
def test_two_pathways(figures: Path, tmp_path: Path) -> None:
    options = {"width": 8, "alpha": 2, "beta_inv": 2, "fusion_kernel": 3}
    labels = read_manifest(figures / "train.csv").labels
    network = build_model("slowfast_r50", labels=labels, backbone_options=options, clip=CLIP)
    save_model(network, tmp_path / "w.ckpt")
    more = {"model.backbone": "slowfast_r50", "model.backbone_options": options}
    heads = ["linear", "non_local", "attentive"]
    result = probe(
        figures, tmp_path / "w.ckpt", tmp_path / "run", more, heads=heads, head_options={"depth": 1}, min_steps=4
    )
    check_equal_to_test(result, figures)
    assert result.probe is not None
    assert list(result.probe.heads) == heads


def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the views whose features are computed."""
    views: list[int] = []
    right = Extractor.__call__

    def call(self: Extractor, clips: torch.Tensor, *, training: bool) -> dict[str, torch.Tensor]:
        if clips.any():  # not the example that tells how much space is needed
            views.append(len(clips))
        return right(self, clips, training=training)

    monkeypatch.setattr(Extractor, "__call__", call)
    return views


def test_an_interrupted_probe_goes_on(
    figures: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: TrainResult
) -> None:
    monkeypatch.setattr(feature_cache, "SHARD_SECONDS", 0.0)  # a shard for each row
    right, calls = Extractor.__call__, []

    def interrupt(self: Extractor, clips: torch.Tensor, *, training: bool) -> dict[str, torch.Tensor]:
        calls.append(len(clips))
        if sum(calls) > 20:
            raise KeyboardInterrupt  # at the third batch
        return right(self, clips, training=training)

    with monkeypatch.context() as patch:
        patch.setattr(Extractor, "__call__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            probe(figures, weights, tmp_path / "run")
    kept = len(list((tmp_path / "run" / "features").glob("training_*/*.safetensors")))
    assert kept == 16
    views = computed(monkeypatch)
    result = probe(figures, weights, tmp_path / "run")
    assert sum(views) == 40 - 16 + 10 + 20
    assert result.probe is not None
    assert finished.probe is not None
    assert result.probe.configurations == finished.probe.configurations  # as without an interrupt


def test_features_of_other_weights_files_and_clips_are_not_used(
    figures: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(figures, folder)
    cache = str(tmp_path / "features")
    views = computed(monkeypatch)

    def count(name: str, weights: Path, more: dict[str, Any] | None = None, **settings: Any) -> int:
        views.clear()
        probe(folder, weights, tmp_path / name, more, cache=cache, min_steps=1, test=None, **settings)
        return sum(views)

    assert count("first", weights) == 50
    assert count("same", weights) == 0
    assert count("more_views", weights, train_views=3) == 20
    assert count("other_seed", weights, {"seed_everything": 1}) == 40
    assert count("augmented", weights, {"data.augmentation.colour": 0.2}) == 40
    assert count("clip", weights, {"model.clip": {"frame_stride": 5}}) == 50
    changed = load_network(weights)
    with torch.no_grad():
        next(changed.backbone.parameters())[0] += 1e-3
    save_model(changed, tmp_path / "changed.ckpt")
    assert count("weights", tmp_path / "changed.ckpt") == 50
    with torch.no_grad():
        changed.head.fc.weight += 1
    save_model(changed, tmp_path / "classifier.ckpt")
    assert count("classifier", tmp_path / "classifier.ckpt") == 0
    manifest = read_manifest(folder / "train.csv")
    shutil.copy(manifest.path(1), manifest.path(0))
    assert count("file", weights) == 2
    rows = list(manifest)
    write_manifest(folder / "train.csv", rows[::-1])
    assert count("order", weights) == 0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_number_format_and_size_of_cached_maps(figures: Path, weights: Path, tmp_path: Path, dtype: str) -> None:
    probe(figures, weights, tmp_path / "run", heads=["non_local"], dtype=dtype, pool=[2, 2, 1], min_steps=1, test=None)
    shards = {}
    for path in (tmp_path / "run" / "features").rglob("*.safetensors"):
        with safe_open(path, "pt") as shard:
            shards[path.parent.name.split("_")[0]] = shard.get_tensor("map0")
            assert shard.get_tensor("vectors").dtype == torch.float32
    assert shards["training"].shape == (40, 1, 256, 2, 2, 1)
    assert shards["views"].shape == (10, 1, 256, 4, 2, 2)
    assert {each.dtype for each in shards.values()} == {getattr(torch, dtype)}


def test_other_tasks(tmp_path: Path, weights: Path, figures: Path) -> None:
    """Several labels a video, and a class of each of two heads."""
    labelled: dict[str, Callable[[str], str]] = {
        "multilabel": lambda label: {"bow": "", "jump": "jump|up"}.get(label, label),
        "multi_head": lambda label: f"verb:{label}|length:{'long' if len(label) > 4 else 'short'}",
    }
    from dataclasses import replace

    for task, relabel in labelled.items():
        for split in ("train", "val", "test"):
            manifest = read_manifest(figures / f"{split}.csv")
            rows = [replace(row, path=str(figures / row.path), label=relabel(row.label)) for row in manifest]
            (tmp_path / task).mkdir(exist_ok=True)
            write_manifest(tmp_path / task / f"{split}.csv", rows)
        result = probe(
            tmp_path / task, weights, tmp_path / f"run_{task}", {"model.task": task},
            cache=str(tmp_path / "features"), curve_draws=2,
        )  # fmt: skip
        check_equal_to_test(result, tmp_path / task)
        assert result.probe is not None
        assert result.probe.monitor == {"multilabel": "val/map", "multi_head": "val/top1"}[task]
        assert len(result.probe.curve) > 1


def test_unreadable_videos_are_left_out_and_named(
    figures: Path, weights: Path, tmp_path: Path, bad_files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(figures, folder)
    for split, name in (("train", "empty"), ("val", "text"), ("test", "missing")):
        rows = list(read_manifest(folder / f"{split}.csv"))
        manifest = read_manifest(folder / f"{split}.csv")
        first = manifest.path(0)
        first.unlink()
        if bad_files[name].exists():
            shutil.copy(bad_files[name], first)
        assert len(rows) == len(manifest)
    result = probe(folder, weights, tmp_path / "run", min_steps=2)
    assert result.probe is not None
    assert result.probe.num_videos == {"training": 19, "validation": 9, "test": 9}
    assert len(result.probe.failures) == 3
    assert "left out" in caplog.text
    assert "the file is empty" in caplog.text


def test_mistakes_are_told_before_features_are_computed(
    figures: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir = tmp_path / "run"

    def message(more: dict[str, Any] | None = None, **settings: Any) -> str:
        with pytest.raises(FarfieldError) as caught:
            probe(figures, weights, run_dir, more, **settings)
        assert not run_dir.exists()
        return str(caught.value)

    assert "but data.val is not set" in message({"data.val": None})
    assert "data.augmentation.mixup cannot be combined with a probe" in message({"data.augmentation.mixup": 0.5})
    assert "probe.heads has 'linea'" in message(heads=["linea"])
    assert "probe.learning_rates is [0.0]" in message(learning_rates=[0.0])
    assert "trainer.devices cannot be combined with a probe" in message({"trainer.devices": 2})
    one = tmp_path / "one.csv"
    rows = [row for row in read_manifest(figures / "train.csv", root=figures) if row.label == "bow"]
    write_manifest(one, rows)
    assert "needs at least 2" in message({"data.train": one, "data.val": one, "data.root": figures})
    (tmp_path / "strange.csv").write_text("path,label\na.mp4,fly\n")
    assert "'fly', which is not one of the 10 classes" in message(test=str(tmp_path / "strange.csv"))


def test_missing_validation_classes_are_named(
    figures: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row for row in read_manifest(figures / "val.csv") if row.label != "bow"]
    write_manifest(tmp_path / "val.csv", rows)
    more = {"data.val": tmp_path / "val.csv", "data.root": figures}
    probe(figures, weights, tmp_path / "run", more, min_steps=1)
    assert "1 of 10 classes have no validation video ('bow')" in caplog.text


def test_a_folder_that_cannot_be_written(figures: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FarfieldError, match=r"features cannot be written to .*file.*: Not a directory"):
        probe(figures, weights, tmp_path / "run", cache=str(tmp_path / "file"))


def test_a_full_disk(figures: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(FarfieldError, match=r"the features need 0\.07 MB in .*, but the disk has 0\.00 MB left"):
        probe(figures, weights, tmp_path / "run")


def test_features_without_positions_have_linear_heads_only(figures: Path, tmp_path: Path) -> None:
    labels = read_manifest(figures / "train.csv").labels
    network = build_model("tiny", labels=labels, clip=CLIP)
    network.backbone.has_map = False
    from farfield.probing.heads import check_heads

    check_heads(network, ["linear"])
    with pytest.raises(FarfieldError, match=r"have no positions.*Set probe.heads to \[linear\]"):
        check_heads(network, ["linear", "attentive"])


def test_command_line(
    figures: Path, weights: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "fit", "--probe", f"--run_dir={tmp_path / 'run'}", "--model.backbone=tiny", f"--model.weights={weights}",
        f"--data.train={figures / 'train.csv'}", f"--data.val={figures / 'val.csv'}", "--data.num_workers=0",
        "--probe.min_steps=2", "--probe.epochs=1", "--probe.train_views=1", "--probe.curve_draws=1",
        "--trainer.enable_progress_bar=false",
    ]  # fmt: skip
    assert run_farfield(*words) == 0
    shown = capsys.readouterr().out
    assert "24 configurations on 20 training, 10 validation videos; val/top1 chose" in shown
    assert "<- best" in shown
    assert "by training videos per class, on validation videos: 1: " in shown
    assert run_farfield(*words) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert run_farfield(*words, "--resume=true") == 0
