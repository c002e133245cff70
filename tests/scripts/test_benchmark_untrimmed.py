"""The benchmark of training on untrimmed videos, scaled down."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import benchmark_untrimmed
import pytest

from docs.page_folder import make_untrimmed
from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.synthetic.synthesize import RECORD, VERSION
from scripts.conftest import run_commands_here


def test_only_labelled_segments_are_kept(tmp_path: Path) -> None:
    rows = [VideoRecord("a.mp4", "bow", 1.0, 2.0), VideoRecord("b.mp4", ""), VideoRecord("a.mp4", "sit|bow", 1.5, 3.0)]
    write_manifest(tmp_path / "all.csv", rows)
    benchmark_untrimmed.keep_segments(tmp_path / "all.csv", tmp_path / "new" / "segments.csv")
    assert list(read_manifest(tmp_path / "new" / "segments.csv")) == [rows[0], rows[2]]


def test_both_trainings_take_as_many_steps(tmp_path: Path) -> None:
    rows = [VideoRecord("a.mp4", "bow", float(i), i + 1.0) for i in range(7)]
    for split in ("train", "val"):
        write_manifest(tmp_path / f"{split}.csv", rows)
    untrimmed, trimmed = (
        benchmark_untrimmed.options_of(training, tmp_path, tmp_path, 7) for training in benchmark_untrimmed.TRAININGS
    )
    assert (untrimmed["trainer.max_epochs"], trimmed["trainer.max_epochs"]) == (7, 10)  # of 10 and of 7 clips
    assert trimmed["data.untrimmed"] is False


@pytest.mark.slow
def test_the_benchmark_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"model.clip.crop_px": 24, "model.clip.short_side_px": 24, "trainer.limit_train_batches": 2}
    small |= {
        "trainer.check_val_every_n_epoch": 1,
        "trainer.limit_val_batches": 4,
        "report.every_n_epochs": 0,
        "data.memory_gb": 0,
    }
    monkeypatch.setattr(benchmark_untrimmed, "OPTIONS", benchmark_untrimmed.OPTIONS | small)
    monkeypatch.setattr(benchmark_untrimmed, "run_commands", run_commands_here)
    counts = {"num_train": 2, "num_val": 2, "num_test": 2}
    make_untrimmed(tmp_path / "videos")  # the task's own take minutes of rendering
    made = {"task": "untrimmed", "version": VERSION, "seed": 0, **counts}
    (tmp_path / "videos" / RECORD).write_text(json.dumps(made))
    words = ["benchmark_untrimmed.py", "--out", str(tmp_path), "--epochs", "2", "--seeds", "0", "--json"]
    words += [*(f"--{name}={count}" for name, count in counts.items()), "--threads", "1"]
    monkeypatch.setattr(sys, "argv", words)
    assert benchmark_untrimmed.main() == 0
    about = json.loads(capsys.readouterr().out)
    assert list(about["trainings"]) == ["untrimmed", "trimmed"]
    for name, row in about["trainings"].items():
        report = json.loads((tmp_path / name / "seed0" / "test" / "report.json").read_text())
        at_half = report["average_precision"]["activitynet"]["at_tiou"][0]
        assert at_half["tiou"] == 0.5
        assert row["map_at_50"]["mean"] == at_half["value"]
        assert row["seconds"]["mean"] > 0
    assert json.loads((tmp_path / "untrimmed.json").read_text()) == about
    before = (tmp_path / "trimmed" / "seed0" / "checkpoints" / "best.ckpt").stat().st_mtime_ns
    sys.argv.remove("--json")
    assert benchmark_untrimmed.main() == 0
    assert (tmp_path / "trimmed" / "seed0" / "checkpoints" / "best.ckpt").stat().st_mtime_ns == before
    assert "| untrimmed | 0." in capsys.readouterr().out
