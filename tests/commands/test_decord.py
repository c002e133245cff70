"""A run with decord from end to end: fit, resume, test, predict."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.video import decoders
from farfield.video.decord_decoder import DecordVideo
from training.test_resume import Stopped

pytestmark = pytest.mark.slow

Run = Callable[..., int]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Record which decoder opens which file in this process."""
    paths: dict[str, list[str]] = {"decord": [], "pyav": []}
    init, open_reader = DecordVideo.__init__, decoders.open_reader

    def opened_by_decord(self: DecordVideo, path: Path) -> None:
        init(self, path)
        paths["decord"].append(str(path))

    def opened_by_pyav(path: Path, **options):
        paths["pyav"].append(str(path))
        return open_reader(path, **options)

    monkeypatch.setattr(DecordVideo, "__init__", opened_by_decord)
    monkeypatch.setattr(decoders, "open_reader", opened_by_pyav)
    return paths


def fit_options(figures: Path, run_dir: Path) -> list[str]:
    return [
        "--config=figures_tiny_nl2",
        "--config=decord",
        f"--run_dir={run_dir}",
        "--model.clip={crop_px: 24, num_frames: 4}",
        f"--data.train={figures / 'train.csv'}",
        f"--data.val={figures / 'val.csv'}",
        "--data.batch_size=5",
        "--data.num_workers=0",
        "--checkpoint_every_n_steps=1",
        "--trainer.max_epochs=2",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--report.every_n_epochs=0",
    ]


@pytest.fixture(scope="module")
def trained(figures: Path, tmp_path_factory: pytest.TempPathFactory, run_farfield: Run) -> Path:
    run_dir = tmp_path_factory.mktemp("decord")
    assert run_farfield("fit", *fit_options(figures, run_dir)) == 0
    return run_dir


def losses(run_dir: Path) -> list[float]:
    with (run_dir / "steps.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_fit_and_resume(
    trained: Path, figures: Path, tmp_path: Path, run_farfield: Run, opened: dict[str, list[str]]
) -> None:
    assert "decoder: decord" in (trained / "config.yaml").read_text()
    stop = (
        "--trainer.callbacks=[{class_path: training.test_resume.StopAt, "
        "init_args: {hook: on_train_batch_start, step: 6}}]"
    )
    with pytest.raises(Stopped):
        run_farfield("fit", *fit_options(figures, tmp_path), stop)
    assert run_farfield("fit", *fit_options(figures, tmp_path), "--resume=true") == 0
    assert losses(tmp_path) == pytest.approx(losses(trained), rel=1e-4)
    assert len(losses(trained)) == 8
    assert len(set(opened["decord"])) == 30
    assert not opened["pyav"]


def test_test(trained: Path, figures: Path, tmp_path: Path, run_farfield: Run, opened: dict[str, list[str]]) -> None:
    words = ["test", "--checkpoint", trained / "checkpoints/best.ckpt", "--data.manifest", figures / "test.csv"]
    words += ["--data.num_workers=0", "--num_clips=2", "--num_crops=1", f"--out={tmp_path}", "--decoder=decord"]
    assert run_farfield(*words) == 0
    assert json.loads((tmp_path / "report.json").read_text())["videos"] == 10
    assert len(set(opened["decord"])) == 10
    assert not opened["pyav"]


def test_predict(
    trained: Path, figures: Path, run_farfield: Run, opened: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    video = next((figures / "videos").glob("test_*.mp4"))
    words = ["predict", video, "--checkpoint", trained / "checkpoints/best.ckpt", "--num_clips=2", "--num_crops=1"]
    assert run_farfield(*words, "--json", "--decoder=decord") == 0
    with_decord = capsys.readouterr().out
    assert opened["decord"]
    assert not opened["pyav"]
    assert run_farfield(*words, "--json") == 0
    assert opened["pyav"]
    expected, given = json.loads(capsys.readouterr().out), json.loads(with_decord)
    assert _labels(given) == _labels(expected)


def _labels(answer: object) -> list[str]:
    """Collect the labels of an answer, in their order."""
    if isinstance(answer, dict):
        own = [answer["label"]] if isinstance(answer.get("label"), str) else []
        return own + [label for value in answer.values() for label in _labels(value)]
    return [label for value in answer for label in _labels(value)] if isinstance(answer, list) else []


def test_a_config_of_an_earlier_version_still_loads(figures: Path, tmp_path: Path, run_farfield: Run) -> None:
    (tmp_path / "old.yaml").write_text("data: {decoder: PyAV}\n")
    options = [f"--config={tmp_path / 'old.yaml'}", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    assert run_farfield("fit", *fit_options(figures, tmp_path / "run"), *options, "--trainer.max_epochs=1") == 0
