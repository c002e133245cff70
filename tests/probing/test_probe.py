"""`farfield fit --probe` as a user runs it, on real files."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from conftest import write_pictures
from farfield.build import build_model
from farfield.checkpoints.checkpoint import load_network, save_model
from farfield.data import samplers
from farfield.data.manifest import Manifest, read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.evaluation.evaluate import evaluate
from farfield.probing import feature_cache, training_set
from farfield.probing.extraction import Extractor
from farfield.probing.feature_cache import FeatureCache
from farfield.probing.feature_sets import FeatureMaker, Planned
from farfield.probing.head_training import HeadTraining
from farfield.probing.heads import check_heads
from farfield.probing.options import Configuration
from farfield.probing.training_set import FeatureSet
from farfield.probing.views import video_key
from farfield.training.train import TrainResult, train

pytestmark = pytest.mark.slow

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
    if own.task == "single_label":
        assert own.metrics().top1 == tested.metrics().top1
        validated = evaluate(
            result.best_checkpoint, folder / "val.csv", num_clips=1, num_crops=1, accelerator="cpu", num_workers=0,
            progress=False,
        )  # fmt: skip
        assert result.best_top1 == pytest.approx(validated.metrics().top1.value)


def test_the_checkpoint_scores_as_the_probe_did(finished: TrainResult, figures: Path) -> None:
    check_equal_to_test(finished, figures)


def test_heads_on_maps_score_as_the_probe_did(
    figures: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"head_options": {"depth": 2, "mlp_ratio": 1.0}, "train_views": 1}
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


def test_two_pathways(figures: Path, tmp_path: Path) -> None:
    options = {"width": 8, "alpha": 2, "beta_inv": 2, "fusion_kernel": 3}
    labels = read_manifest(figures / "train.csv").labels
    network = build_model("slowfast_r50", labels=labels, backbone_options=options, clip=CLIP)
    save_model(network, tmp_path / "w.ckpt")
    more = {"model.backbone": "slowfast_r50", "model.backbone_options": options}
    heads = ["linear", "non_local", "attentive"]
    result = probe(
        figures, tmp_path / "w.ckpt", tmp_path / "run", more, heads=heads, head_options={"depth": 1}, min_steps=4,
        train_views=1, weight_decays=[0.1],
    )  # fmt: skip
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


def test_runs_share_features(
    figures: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: TrainResult
) -> None:
    """Another run with one view more of each training video computes that view only."""
    cache = shutil.copytree(finished.run_dir / "features", tmp_path / "features")
    views = computed(monkeypatch)
    probe(figures, weights, tmp_path / "run", cache=str(cache), min_steps=1, train_views=3)
    assert sum(views) == 20


def test_the_key_of_a_folder_of_pictures_changes_with_each_picture(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 5)
    write_pictures(tmp_path / "others", 6)
    manifest = Manifest([VideoRecord("pictures", "bow", fps=25)], root=tmp_path)
    key, changed = video_key(manifest, 0), pictures.stat().st_mtime_ns
    assert video_key(manifest, 0) == key
    shutil.copyfile(tmp_path / "others" / "img_00006.jpg", pictures / "img_00004.jpg")
    assert pictures.stat().st_mtime_ns == changed
    assert video_key(manifest, 0) != key


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
        first = read_manifest(folder / f"{split}.csv").path(0)
        first.unlink()
        if bad_files[name].exists():
            shutil.copy(bad_files[name], first)
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


def test_a_training_run_is_not_replaced(figures: Path, weights: Path, tmp_path: Path) -> None:
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    shutil.copy(weights, last)
    for resume in (False, True):
        with pytest.raises(FarfieldError, match="holds a training run; a probe would replace its checkpoints"):
            probe(figures, weights, tmp_path / "run", {"resume": resume})


def test_missing_validation_classes_are_named(
    figures: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row for row in read_manifest(figures / "val.csv") if row.label != "bow"]
    write_manifest(tmp_path / "val.csv", rows)
    more = {"data.val": tmp_path / "val.csv", "data.root": figures, "trainer.accelerator": "no such device"}
    with pytest.raises(FarfieldError, match="no such device"):  # after the checks
        probe(figures, weights, tmp_path / "run", more)
    assert "classes without validation videos: 1 of 10 ('bow')" in caplog.text


def test_videos_that_are_used_twice_are_told(
    figures: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A test video that also trains or chooses makes the figures look better than they are."""
    train, val, test = (list(read_manifest(figures / f"{name}.csv")) for name in ("train", "val", "test"))
    write_manifest(tmp_path / "test.csv", [*test[:4], *val[:3], *train[:2]])
    more = {"data.root": figures, "trainer.accelerator": "no such device"}  # stops after the checks
    with pytest.raises(FarfieldError, match="no such device"):
        probe(figures, weights, tmp_path / "run", more, test=str(tmp_path / "test.csv"))
    said = caplog.text
    shared = {"data.train, on which heads are trained": 2, "data.val, on which the head is chosen": 3}
    for other, count in shared.items():
        assert f"probe.test shares videos with {other}. The shared videos are {count} of the 9 videos of" in said
    assert "data.val shares videos with" not in said


@pytest.mark.slow
def test_mirrored_views_do_not_change_the_classes_of_videos(
    figures: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The curve and data.class_balanced have the same videos of each class, whichever of their views are mirrored."""
    found: list[FeatureSet] = []
    right = FeatureMaker.make_training

    def keep(self: FeatureMaker, planned: Planned) -> FeatureSet:
        found.append(right(self, planned))
        return found[-1]

    monkeypatch.setattr(FeatureMaker, "make_training", keep)
    drawn: list[list[int]] = []
    order = samplers.class_balanced_order

    def balance(classes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        drawn.append(classes.tolist())
        return order(classes, rng)

    monkeypatch.setattr(training_set, "class_balanced_order", balance)
    labels = read_manifest(figures / "train.csv").labels
    more = {"data.flip_labels": {"bow": "get_up"}, "data.class_balanced": True}
    result = probe(figures, weights, tmp_path / "run", more, train_views=5, min_steps=1, curve_draws=3, test=None)
    [videos] = found
    of_videos = [labels.index(row.label) for row in read_manifest(figures / "train.csv")]
    assert videos.video_targets.tolist() == of_videos
    mirrored = {labels.index("bow"), labels.index("get_up")}
    of_views = videos.targets.unflatten(0, (-1, 5)).tolist()
    assert all(
        set(views) <= (mirrored if of in mirrored else {of}) for of, views in zip(of_videos, of_views, strict=True)
    )
    assert [views[0] for views in of_views] != of_videos  # some first view is mirrored
    assert result.probe is not None
    assert [(point.videos_per_class, point.videos) for point in result.probe.curve] == [(1, 10), (2, 20)]
    assert drawn
    assert all(each == of_videos for each in drawn)


def test_a_cache_is_complete_without_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that begin at the same time share a folder, and a complete cache need not be written."""
    FeatureCache(tmp_path, "training", {"a": 1}).add("key", {"x": torch.ones(2)})
    right = feature_cache.write_text_atomically

    def late(path: Path, text: str) -> None:
        right(path, text)  # another run writes it and moves the temporary file away
        raise FileNotFoundError(path)

    monkeypatch.setattr(feature_cache, "write_text_atomically", late)
    FeatureCache(tmp_path, "training", {"a": 2})

    def refuse(path: Path, text: str) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(feature_cache, "write_text_atomically", refuse)
    FeatureCache(tmp_path, "training", {"a": 1})  # not written again


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
    assert "24 configurations on 20 training, 10 validation videos; the best by val/top1:" in shown
    assert "<- best" in shown
    assert "by number of training videos per class, measured on validation videos: 1: " in shown
    assert run_farfield(*words) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert run_farfield(*words, "--resume=true") == 0
    assert run_farfield(*(word for word in words if "probe" not in word), "--resume=true") == 2
    assert "holds a probe; a training run would replace its checkpoints" in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_chooses_the_head_on_maps_that_is_trained(figures: Path, weights: Path, tmp_path: Path) -> None:
    """With a learning rate of 1000 a head has a huge loss after two steps."""
    grid = {"heads": ["non_local"], "learning_rates": [1e3, 1e-3], "weight_decays": [0.0, 0.1]}
    settings = grid | {"min_steps": 10, "epochs": 1, "cache": str(tmp_path / "features")}
    lowest_loss = {"monitor": "val/loss"}
    halved, all_of_them = (
        probe(figures, weights, tmp_path / str(halving), lowest_loss, halving=halving, **settings).probe
        for halving in (True, False)
    )
    assert halved is not None
    assert all_of_them is not None
    assert [(row["steps"], row["coarse_maps"]) for row in all_of_them.configurations] == [(10, False)] * 4
    dropped = [row for row in halved.configurations if row["coarse_maps"]]
    [last] = [row for row in halved.configurations if not row["coarse_maps"]]
    assert [row["steps"] for row in dropped] == [2] * 3
    assert last["lr"] == 1e-3
    [alone] = [
        row for row in all_of_them.configurations if all(row[key] == last[key] for key in ("lr", "weight_decay"))
    ]
    assert last == {**alone, "best": True}
    assert min(row["val/loss"] for row in dropped if row["lr"] == 1e3) > 10
    assert max(row["val/loss"] for row in dropped if row["lr"] == 1e-3) < 3  # chance is ln 10


@pytest.mark.slow
def test_the_next_best_is_trained_if_the_best_of_a_search_diverges(
    figures: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"heads": ["non_local"], "learning_rates": [1e-3, 1e-2], "weight_decays": [0.0, 0.1]}
    settings = grid | {"min_steps": 10, "epochs": 1, "cache": str(tmp_path / "features")}
    usual = probe(figures, weights, tmp_path / "usual", **settings).probe
    converged = HeadTraining._has_converged
    trained: list[Configuration] = []

    def diverges_once(self: HeadTraining, configuration: Configuration) -> bool:
        if self._about[configuration]["coarse_maps"]:
            return converged(self, configuration)
        trained.append(configuration)
        return len(trained) > 1

    monkeypatch.setattr(HeadTraining, "_has_converged", diverges_once)
    found = probe(figures, weights, tmp_path / "run", **settings).probe
    assert usual is not None
    assert found is not None
    assert trained[0] == usual.best.configuration
    assert found.best.configuration == trained[1] != trained[0]
    assert [row["coarse_maps"] for row in found.configurations].count(False) == len(trained) == 2
