"""evaluate() and `farfield test` of a multilabel network, on real videos."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.metrics import average_precision_score

from farfield import FarfieldError, build_model, evaluate, load_model, save_model
from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.evaluation.multilabel_calibration import fit_pair_temperature

pytestmark = pytest.mark.slow
QUICK = {"num_clips": 2, "num_crops": 1, "num_workers": 0, "progress": False, "accelerator": "cpu"}
LABELS = ["bow", "jump", "run"]
TEXTS = ["bow", "", "bow|run", "run", "bow|run", "", "run", "bow", "run|bow", ""]  # no jump


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    network = build_model("tiny", labels=LABELS, clip={"num_frames": 4, "crop_px": 32}, task="multilabel")
    with torch.no_grad():
        network.head.fc.weight.mul_(60)  # probabilities that differ between videos
    save_model(network, tmp_path / "checkpoints/best.ckpt")
    return tmp_path / "checkpoints/best.ckpt"


@pytest.fixture
def manifests(figures: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Test and validation videos with several labels or none."""
    for name in ("test", "val"):
        rows = list(read_manifest(figures / f"{name}.csv"))
        texts = TEXTS if name == "test" else TEXTS[::-1]
        rows = [replace(row, label=text) for row, text in zip(rows, texts, strict=True)]
        write_manifest(tmp_path / f"{name}.csv", rows)
    return tmp_path / "test.csv", tmp_path / "val.csv"


def test_targets_views_and_calibration(
    checkpoint: Path, manifests: tuple[Path, Path], figures: Path, tmp_path: Path
) -> None:
    test, val = manifests
    result = evaluate(checkpoint, test, root=figures, views_aggregation="max", calibrate_on=val, **QUICK)
    scores = result.scores
    assert (scores.task, scores.views_aggregation, scores.views.shape) == ("multilabel", "max", (10, 2, 3))
    assert scores.label_texts() == ["|".join(sorted(text.split("|"))) for text in TEXTS]
    assert scores.views.sum(2).sub(1).abs().max() > 0.1  # sigmoids, no softmax
    of_views, true = scores.views.amax(1).numpy(), scores.targets.numpy()
    wanted = sum(average_precision_score(true[:, c], of_views[:, c]) for c in (0, 2)) / 2
    assert result.multilabel_metrics().mean_average_precision.value == pytest.approx(wanted, abs=1e-6)
    held_out = evaluate(checkpoint, val, root=figures, views_aggregation="max", **QUICK).scores
    assert result.temperature == pytest.approx(fit_pair_temperature(held_out.probabilities, held_out.targets))
    plain = evaluate(checkpoint, test, root=figures, **QUICK).scores
    assert torch.equal(plain.views, scores.views)
    torch.testing.assert_close(plain.probabilities, scores.views.mean(1))


def test_thresholds_are_chosen_among_the_scores_of_each_class_and_kept(
    checkpoint: Path, manifests: tuple[Path, Path], figures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    test, val = manifests
    result = evaluate(checkpoint, test, root=figures, calibrate_on=val, choose_threshold="f1", **QUICK)
    point = result.operating_point
    assert point is not None
    assert point.thresholds["jump"] is None
    assert load_model(checkpoint).operating_point == point
    assert result.thresholds() == [point.thresholds["bow"], 0.5, point.thresholds["run"]]
    again = evaluate(checkpoint, val, root=figures, **QUICK)
    for c in (0, 2):
        threshold = point.thresholds[LABELS[c]]
        assert threshold in again.scores.probabilities[:, c].double().tolist()
        assert torch.equal(again.decisions()[:, c], again.scores.probabilities[:, c].double() >= threshold)
    assert "views_aggregation" not in caplog.text
    evaluate(checkpoint, val, root=figures, views_aggregation="max", **QUICK)
    assert "were chosen with views_aggregation 'mean', and this test uses 'max'" in caplog.text


def test_whole_videos_have_the_labels_of_all_their_rows(
    checkpoint: Path,
    figures: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = [row.path for row in read_manifest(figures / "test.csv")][:2]
    rows = [
        VideoRecord(first, "run", start_seconds=0.0, end_seconds=0.5),
        VideoRecord(second, ""),
        VideoRecord(first, "bow", start_seconds=0.4, end_seconds=0.9),
    ]
    write_manifest(tmp_path / "segments.csv", rows)
    listed = read_manifest(tmp_path / "segments.csv")
    result = evaluate(checkpoint, tmp_path / "segments.csv", root=figures, whole_videos=True, **QUICK)
    assert [Path(path).name for path in result.scores.paths] == [Path(first).name, Path(second).name]
    assert result.scores.label_texts() == ["bow|run", ""]
    assert result.scores.segments is None
    assert result.about["manifest_hash"] == listed.content_hash()
    assert result.about["whole_videos"] is True
    assert "each row is tested by itself" not in caplog.text
    parts = evaluate(checkpoint, tmp_path / "segments.csv", root=figures, **QUICK)
    assert "segments.csv has several rows for some videos, and each row is tested by itself" in caplog.text
    assert parts.scores.label_texts() == ["run", "", "bow"]
    assert "whole_videos" not in parts.about
    words = ["test", "--checkpoint", checkpoint, "--data.manifest", tmp_path / "segments.csv", "--data.root", figures]
    words += ["--data.num_workers", 0, "--data.whole_videos", "true", "--views_aggregation", "max"]
    assert run_farfield(*words, "--num_clips", 2, "--num_crops", 1, "--out", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert (report["videos"], report["whole_videos"], report["views_aggregation"]) == (2, True, "max")
    network = build_model("tiny", labels=LABELS, clip={"num_frames": 4, "crop_px": 32})
    with pytest.raises(
        FarfieldError, match=r"whole_videos gives a video the labels of all its rows, .* task is 'single_label'"
    ):
        evaluate(network, tmp_path / "segments.csv", root=figures, whole_videos=True, **QUICK)


def test_the_command_prints_the_metrics_of_the_task(
    checkpoint: Path,
    manifests: tuple[Path, Path],
    figures: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["test", "--checkpoint", checkpoint, "--data.manifest", manifests[0], "--data.root", figures]
    assert run_farfield(*words, "--data.num_workers", 0, "--num_clips", 1, "--num_crops", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    report = json.loads((tmp_path / "test/report.json").read_text())
    shown = {
        "mAP": report["mean_average_precision"]["value"],
        "videos with exactly the right classes": report["exact_match"]["value"],
        "macro recall": report["class_metrics"]["macro"]["recall"]["value"],
    }
    for name, value in shown.items():
        assert any(line.startswith(f"{name:<37} {100 * value:6.2f}%") for line in lines), lines
    assert not any(line.startswith("top-1") for line in lines)
