"""The public API, as a notebook uses it: no command line."""

from __future__ import annotations

import doctest
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import farfield
from farfield.evaluation.timeline_rescore import rescore
from farfield.inference.prediction_schema import SCHEMA_VERSION
from farfield.models.network import ActionNet
from farfield.scoring import load
from multilabel import brightness_network, write_stripes

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from farfield.synthetic.synthesize import synthesize

    return synthesize(
        "recall", tmp_path_factory.mktemp("data") / "recall", num_train=8, num_val=4, num_test=6, num_workers=1
    )


@pytest.fixture(scope="module")
def overrides(data: Path) -> dict[str, object]:
    return {
        "model.clip": {"num_frames": 4, "crop_px": 32, "sampling": "clip", "frame_stride": 2},
        "data.train": str(data / "train.csv"),
        "data.val": str(data / "val.csv"),
        "data.batch_size": np.int64(4),
        "data.num_workers": 0,
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "report.every_n_epochs": 0,
    }


@pytest.fixture(scope="module")
def trained(overrides: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> farfield.TrainResult:
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    return farfield.train("recall_tiny_nl2", {**overrides, "run_dir": run_dir}, progress=False)


def test_train_returns_checkpoints_and_metrics(
    trained: farfield.TrainResult, overrides: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    assert trained.best_checkpoint == trained.run_dir / "checkpoints/best.ckpt"
    assert trained.last_checkpoint is not None
    assert trained.last_checkpoint.is_file()
    assert (trained.epochs, trained.steps, trained.best_epoch) == (1, 2, 1)
    assert trained.best_top1 == pytest.approx(trained.metrics["val/top1"])
    assert trained.metrics["train/loss"] > 0
    with pytest.raises(farfield.FarfieldError, match="already holds a run"):
        farfield.train("recall_tiny_nl2", {**overrides, "run_dir": trained.run_dir}, progress=False)
    again = farfield.train("recall_tiny_nl2", {**overrides, "run_dir": trained.run_dir}, resume=True, progress=False)
    assert again.was_complete
    assert again.metrics["val/top1"] == pytest.approx(trained.metrics["val/top1"], abs=1e-4)
    assert "Epoch" not in capfd.readouterr().out  # no bar


def test_evaluate_returns_metrics_and_classes(trained: farfield.TrainResult, data: Path, tmp_path: Path) -> None:
    assert trained.best_checkpoint is not None
    result = farfield.evaluate(trained.best_checkpoint, data / "test.csv", num_workers=0, progress=False)
    metrics = result.metrics()
    assert 0 <= metrics.top1.low <= metrics.top1.value <= metrics.top1.high <= 1
    assert sum(each.videos for each in result.classes()) == 6 == len(result.scores.paths)
    network = farfield.load_model(trained.best_checkpoint, for_training=True)
    same = farfield.evaluate(network, data / "test.csv", num_workers=0, out=tmp_path / "test", progress=False)
    assert torch.equal(same.scores.views, result.scores.views)
    report = json.loads((tmp_path / "test/report.json").read_text())
    assert report["top1"]["value"] == metrics.top1.value
    assert "checkpoint" not in report


@pytest.mark.slow
def test_evaluate_tests_timelines(tmp_path: Path) -> None:
    """As in docs/guides/untrimmed_testing.md."""
    farfield.save_model(brightness_network(), tmp_path / "best.ckpt")
    write_stripes(tmp_path / "match.mp4", [25] * 20 + [230] * 40 + [25] * 20)
    rows = ["path,label,start_seconds,end_seconds", "match.mp4,bright|picture,1,3", "match.mp4,,4,"]
    (tmp_path / "test.csv").write_text("\n".join(rows) + "\n")
    options = farfield.TimelineOptions(hop_seconds=0.1)
    result = farfield.evaluate(
        tmp_path / "best.ckpt", tmp_path / "test.csv", timeline=options, out=tmp_path / "report", progress=False
    )
    assert isinstance(result, farfield.TimelineResult)
    precision = result.average_precision().average_precision
    np.testing.assert_array_equal(precision[:2], [[1, math.nan, 1, math.nan], [1, math.nan, 0, math.nan]])
    at_half = dict(zip(result.labels, (each.value for each in result.average_precision([0.5]).per_class), strict=True))
    np.testing.assert_array_equal(
        [at_half[each] for each in ("dark", "bright", "picture", "fire")], [math.nan, 1, 1, math.nan]
    )
    assert result.false_alarms().counts.tolist() == [0, 2, 0, 0]  # dark is not labelled
    assert result.delays().all.detected == 2
    again = rescore(tmp_path / "report/timelines.npz", farfield.TimelineOptions(threshold=0.99))
    assert len(again.found) < len(result.found)


@pytest.mark.slow
def test_a_loaded_model_is_folded_unless_it_is_for_training(trained: farfield.TrainResult, tmp_path: Path) -> None:
    assert trained.best_checkpoint is not None
    plain = farfield.load_model(trained.best_checkpoint, for_training=True)
    folded = farfield.load_model(trained.best_checkpoint)
    assert isinstance(folded, ActionNet)
    assert not any(isinstance(each, torch.nn.BatchNorm3d) for each in folded.modules())
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(folded(clips), plain(clips), rtol=1e-4, atol=1e-4)
    folded.eval()
    for forbidden in (
        lambda: folded.train(),
        lambda: farfield.save_model(folded, tmp_path / "x.ckpt"),
        lambda: farfield.export(folded, tmp_path / "x.pt2"),
        lambda: farfield.explain("x.mp4", folded),
    ):
        with pytest.raises(farfield.FarfieldError, match=r"load_model\(path, for_training=True\)"):
            forbidden()
    assert plain.train().training
    with pytest.raises(farfield.FarfieldError, match="with for_training=True it must be 'float32'"):
        load.load_model(trained.best_checkpoint, for_training=True, precision="bfloat16")


def test_predict_gives_the_json_of_the_command(
    trained: farfield.TrainResult,
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert trained.best_checkpoint is not None
    video, model = make_video(60), farfield.load_model(trained.best_checkpoint)
    timeline = farfield.TimelineOptions(hop_seconds=0.2)
    prediction = farfield.predict(video, model, timeline=timeline, top_k=2, progress=False)
    words = ["--checkpoint", trained.best_checkpoint, "--timeline", "--hop_seconds", 0.2, "--top_k", 2, "--json"]
    assert run_farfield("predict", video, *words) == 0
    assert json.loads(capsys.readouterr().out) == [prediction.to_dict()]
    assert prediction.to_dict()["schema_version"] == SCHEMA_VERSION
    documented = re.findall(r"^\| (`.*?) \|", (REPOSITORY / "docs/reference/predictions.md").read_text(), re.M)
    assert re.findall(r"`(\w+)`", " ".join(documented)) == list(prediction.to_dict())
    assert farfield.Prediction.from_dict(prediction.to_dict()).to_dict() == prediction.to_dict()
    assert prediction.timeline is not None
    assert prediction.timeline.probabilities.shape[1] == 2


@pytest.mark.slow
def test_explain_and_export_return_what_they_wrote(
    trained: farfield.TrainResult, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    assert trained.best_checkpoint is not None
    found = farfield.explain(
        make_video(60), trained.best_checkpoint, out=tmp_path / "explained", num_clips=1, progress=False
    )
    assert found.ranking(1)[0][0] == found.predicted
    assert (tmp_path / "explained/explanation.html").is_file()
    report = farfield.export(trained.best_checkpoint, tmp_path / "model.pt2", progress=False)
    assert isinstance(report, farfield.ExportReport)
    assert report.worst.within(report.tolerance)
    exported = farfield.load_model(report.out)
    assert farfield.predict(make_video(60), exported, progress=False).ranking
    with pytest.raises(farfield.FarfieldError, match="exported network, which cannot be trained"):
        farfield.load_model(report.out, for_training=True)


def test_mistakes_get_clear_errors(trained: farfield.TrainResult, data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a user's")
    exported = tmp_path / "model.pt2"
    exported.write_bytes(b"x")
    network = farfield.build_model("tiny", num_classes=2)
    for mistake, message in (
        (lambda: farfield.evaluate(network, data / "test.csv", out=tmp_path / "file"), "which is a file"),
        (lambda: farfield.evaluate(network, data / "test.csv", batch_size=0), "batch_size is 0"),
        (lambda: farfield.evaluate(exported, data / "test.csv"), "is an exported network"),
        (
            lambda: farfield.evaluate(object(), data / "test.csv"),
            "the model is of type object; give a network from build_model",
        ),  # type: ignore[arg-type]
        (lambda: farfield.save_model(network, tmp_path / "x.onnx"), "suffix of an exported network"),
        (lambda: farfield.predict("x.mp4", network, hop=2, num_clips=3), "hop and num_clips are both given"),
        (lambda: farfield.train("tiny", {"data.batch_size": object()}), "is not supported. Give text, numbers"),
        (lambda: farfield.train(exported), "is not a text file|YAML|config"),
    ):
        with pytest.raises(farfield.FarfieldError, match=message):
            mistake()
    assert (tmp_path / "file").read_text() == "a user's"


def test_docstring_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(load).attempted > 0
    assert doctest.testmod(load).failed == 0


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, time; begin = time.perf_counter(); import farfield; seconds = time.perf_counter() - begin; "
        "print(seconds, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    seconds, *heavy = min(run.stdout.split() for run in runs)
    assert heavy == ["False", "False"]
    assert float(seconds) < 0.1


def test_importing_the_layers_brings_in_torch_alone() -> None:
    code = (
        "import sys; from farfield.layers import NonLocalBlock3d; print(sorted(name for name in sys.modules if name in "
        "('lightning', 'torchvision', 'pytorchvideo', 'av', 'decord', 'PIL', 'matplotlib', 'wandb', 'jsonargparse')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
