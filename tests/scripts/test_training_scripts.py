"""The scripts that train many networks, and the benchmark of training, scaled down."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import ablate
import benchmark_imbalance
import benchmark_recomputation
import benchmark_training
import check_recomputation
import compared_networks
import cross_validate
import pytest
import runs
import torch
import training_memory
from PIL import Image
from scipy import stats

from farfield.curation.split import split
from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.evaluation.metrics import wilson
from farfield.evaluation.scores_file import Scores, write_scores
from forks import ForkedScript
from hugging_face import config_entries
from scripts.conftest import run_commands_here

SMALL = (
    *("--model.backbone=tiny", "--model.clip={num_frames: 4, crop_px: 24, num_clips: 1, num_crops: 1}"),
    *("--trainer.max_epochs=1", "--data.num_workers=0", "--trainer.accelerator=cpu", "--report.every_n_epochs=0"),
)


def test_an_interval_is_students_or_wilsons_whichever_is_wider() -> None:
    values = [0.61, 0.83, 0.72]
    found = runs.estimate(values, 200)
    low, high = stats.t.interval(0.95, 2, statistics.fmean(values), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((0.72, low, high))
    same = runs.estimate([0.5, 0.5, 0.5], 40)
    assert (same.low, same.high) == pytest.approx((wilson(60, 120).low, wilson(60, 120).high))
    assert runs.estimate([0.5], 40) == wilson(20, 40)
    assert runs.estimate([1.0, 0.9, 1.0], 40).high == 1.0


@pytest.mark.slow
def test_the_networks_of_the_tables_are_what_they_are_called() -> None:
    keys = [network.key for network in ablate.unique(list(ablate.TABLES))]
    assert len(keys) == len(set(keys)) == 18
    costs = ablate.measure_costs([ablate.DEEPER, ablate.DEFAULT], ablate.TASKS["recall"], rounds=1)
    local, deeper, non_local = (costs[network.key] for network in (ablate.LOCAL, ablate.DEEPER, ablate.DEFAULT))
    assert local["time"] == local["memory"] == 1
    # The deeper network has as many multiply-adds as the one with blocks, and more.
    assert local["multiply_adds"] < non_local["multiply_adds"] <= deeper["multiply_adds"]
    assert local["parameters"] < non_local["parameters"] < deeper["parameters"]


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_an_ablation_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = {"num_train": 8, "num_val": 2, "num_test": 6}
    clip = {"num_frames": 4, "crop_px": 24, "sampling": "segments", "num_clips": 1, "num_crops": 1}
    small = {"trainer.max_epochs": 1, "data.batch_size": 4, "model.optimisation.lr": 0.001}
    monkeypatch.setattr(ablate, "TASKS", {"recall": ablate.Task(videos, clip, small)})
    monkeypatch.setattr(ablate, "TABLES", {"axes": ablate.TABLES["axes"][:2]})
    words = ["ablate.py", "--out", str(tmp_path), "--tasks", "recall", "--tables", "axes", "--seeds", "0", "--json"]
    monkeypatch.setattr(sys, "argv", [*words, "--jobs=1"])
    with monkeypatch.context() as patch:
        patch.setattr(runs, "run_commands", run_commands_here)
        assert ablate.main() == 0
    rows = json.loads(capsys.readouterr().out)["recall"]["axes"]
    assert [row["network"] for row in rows] == ["no blocks", "space only"]
    reports = sorted(tmp_path.glob("recall/*/seed0/test/report.json"))
    assert len(reports) == 2
    assert {row["top1"]["value"] for row in rows} == {json.loads(r.read_text())["top1"]["value"] for r in reports}
    assert "| space only |" in (tmp_path / "ablation.md").read_text()
    with Image.open(tmp_path / "ablation.png") as picture:
        assert picture.size[0] > 500
    before = [report.stat().st_mtime_ns for report in reports]
    reports[1].unlink()
    monkeypatch.setattr(sys, "argv", words)
    assert ablate.main() == 0  # by a process of its own
    assert reports[0].stat().st_mtime_ns == before[0], "a finished run was done again"
    assert reports[1].stat().st_mtime_ns > before[1]


@pytest.mark.slow
@pytest.mark.usefixtures("runs_here")
def test_each_group_is_left_out_once(
    figures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (figures / "train.csv").read_text().splitlines()[:13] + (figures / "val.csv").read_text().splitlines()[1:8]
    (tmp_path / "all.csv").write_text("\n".join(rows) + "\n")
    words = ["cross_validate.py", tmp_path / "all.csv", "--root", figures]
    words += ["--group", "^(train|val)_", "--out", tmp_path / "folds", "--jobs=1", "--json", "--", *SMALL]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    assert cross_validate.main() == 0
    about = json.loads(capsys.readouterr().out)
    assert set(about["folds"]) == {"train", "val"}
    assert about["videos"] == 19
    for group, others in (("train", "val"), ("val", "train")):
        trained = (tmp_path / "folds" / group / "train.csv").read_text().splitlines()[1:]
        tested = (tmp_path / "folds" / group / "test.csv").read_text().splitlines()[1:]
        assert all(f"/{others}_" in row for row in trained)
        assert all(f"/{group}_" in row for row in tested)
    right = sum(about["folds"][group] * count for group, count in (("train", 12), ("val", 7)))
    assert about["right"] == round(right)
    sys.argv[sys.argv.index("^(train|val)_")] = "^(nobody)_"
    assert cross_validate.main() == 2
    assert "finds nothing in 'train_" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("runs_here")
def test_folds_of_data_split_are_run_and_pooled(
    figures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    split(figures / "train.csv", tmp_path / "folds", folds=2)
    words = ["cross_validate.py", tmp_path / "folds", "--out", tmp_path / "runs", "--jobs=1", "--json", "--", *SMALL]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    assert cross_validate.main() == 0
    about = json.loads(capsys.readouterr().out)
    assert list(about["folds"]) == ["fold_1", "fold_2"]
    assert about["videos"] == 20
    assert about["right"] == round(10 * sum(about["folds"].values()))
    sys.argv[1] = str(tmp_path / "runs")
    assert cross_validate.main() == 2
    assert "holds no folds. Make them: farfield data split" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_the_benchmark_of_training_runs_networks_that_compute_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That they do, the script itself makes sure of before it times anything."""
    words = ["--num_frames=4", "--side_px=32", "--batch_size=1", "--steps=1", "--json"]
    monkeypatch.setattr(benchmark_training, "WARM_UP", 0)
    monkeypatch.setattr(sys, "argv", ["benchmark_training.py", *words])
    benchmark_training.main()
    about = json.loads(capsys.readouterr().out)
    assert {"PyTorchVideo, plain loop", "farfield network, plain loop", "farfield, Lightning"} <= {
        row["variant"] for row in about["variants"]
    }


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_the_benchmark_of_memory_trains_the_same_network_on_every_side(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training_memory.subprocess, "Popen", ForkedScript)
    monkeypatch.setattr(training_memory, "WARM_UP", 0)
    words = ["--memory", "--only", "x3d_m", "--clip", "8", "32", "--steps", "1", "--sums", "1"]
    monkeypatch.setattr(sys, "argv", ["benchmark_training.py", *words, "--json"])
    benchmark_training.main()
    rows = json.loads(capsys.readouterr().out)
    assert [row["side"] for row in rows] == ["PyTorchVideo", "farfield, default", "farfield, recompute_sums 1"]
    theirs, default, more = rows
    assert [row["loss"] for row in rows] == pytest.approx([theirs["loss"]] * 3, rel=1e-4)
    assert theirs["bytes_ratio"] == theirs["time_over_PyTorchVideo"]["median"] == 1
    assert more["bytes"] < default["bytes"]
    assert "| x3d_m, 2 x 8 x 32 x 32 | PyTorchVideo |" in training_memory.as_text(rows)


@pytest.mark.slow
def test_slowfast_is_compared_with_the_same_network() -> None:
    """It has two pathways, each with its own frames and pooling."""
    torch.manual_seed(0)
    ours = compared_networks.our_network("slowfast_r50", None, 8, 32)
    clips, labels = torch.randn(2, 3, 8, 32, 32), torch.tensor([3, 5])
    theirs = compared_networks.their_network(ours)
    assert set(compared_networks.must_be_the_same(ours, theirs, clips, labels)) == {"logits", "first loss"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        ["--backbone=x3d_xs", "--insert=nl1", "--side_px=32"],
        ["--backbone=hf", f"--backbone_options={json.dumps({'config': config_entries('videomae')})}", "--side_px=48"],
    ],
    ids=["stages", "layers"],
)
def test_the_benchmark_of_recomputation_finds_that_more_of_it_holds_less(
    network: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*network, "--num_frames=4", "--steps=1"]
    monkeypatch.setattr(sys, "argv", ["benchmark_recomputation.py", *words])
    benchmark_recomputation.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    memory = [float(row[1]) for row in rows]
    assert memory[0] == 1
    assert memory == sorted(set(memory), reverse=True)


@pytest.mark.slow
def test_recomputation_is_checked_on_the_quickstarts_network(
    copy_figures: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_recomputation, "synthesize", copy_figures)
    words = ["--steps", "2", "--num_train", "20", "--num_test", "10", "--json"]
    monkeypatch.setattr(sys, "argv", ["check_recomputation.py", *words])
    assert check_recomputation.main() == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["largest difference of a loss"] for row in rows] == [0, 0, 0]
    assert len({row["last loss"] for row in rows} | {row["first loss"] for row in rows}) == 2  # it trained
    monkeypatch.setattr(check_recomputation, "curve", lambda data, run_dir, *_: ([float(run_dir.name[-1])], 0.5))
    assert check_recomputation.main() == 1


def test_one_class_stands_against_all_others_19_to_1(tmp_path: Path) -> None:
    labels = ["wave"] * 30 + ["sit"] * 200 + ["stand"] * 180
    write_manifest(tmp_path / "all.csv", [VideoRecord(f"{i}.mp4", label) for i, label in enumerate(labels)])
    benchmark_imbalance.one_against_all(tmp_path / "all.csv", "wave", tmp_path / "rare.csv")
    rows = list(read_manifest(tmp_path / "rare.csv"))
    assert [row.label for row in rows] == ["rare"] * 20 + ["others"] * 380
    assert [row.path for row in rows] == [str(tmp_path / f"{i}.mp4") for i in (*range(20), *range(30, 410))]


def test_the_rare_class_is_measured_by_its_own_probability(tmp_path: Path) -> None:
    """Sorted by probability: rare, other, rare, others. Precisions at the rare ones are 1 and 2/3."""
    rare = torch.tensor([0.9, 0.4, 0.6, 0.1, 0.2])
    scores = Scores(
        ["others", "rare"], list("abcde"), torch.tensor([1, 1, 0, 0, 0]), torch.stack([1 - rare, rare], 1)[:, None]
    )
    (tmp_path / "test").mkdir()
    write_scores(scores, tmp_path / "test" / "scores.npz")
    found = benchmark_imbalance.measure(tmp_path)
    assert found == pytest.approx({"average_precision": (1 + 2 / 3) / 2, "recall": 0.5})


@pytest.mark.slow
@pytest.mark.usefixtures("runs_here")
def test_losses_are_compared_on_a_rare_class(
    copy_figures: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(benchmark_imbalance, "synthesize", copy_figures)
    small = {"model.clip": {"num_frames": 4, "crop_px": 24, "num_clips": 1, "num_crops": 1}}
    monkeypatch.setattr(benchmark_imbalance, "OPTIONS", benchmark_imbalance.OPTIONS | small)
    words = ["benchmark_imbalance.py", "--out", str(tmp_path), "--num_train", "20", "--num_test", "10"]
    monkeypatch.setattr(sys, "argv", [*words, "--epochs", "1", "--seeds", "0", "--jobs=1", "--json"])
    assert benchmark_imbalance.main() == 0
    about = json.loads(capsys.readouterr().out)
    assert about["videos"] == {"train": {"others": 18, "rare": 1}, "test": {"others": 9, "rare": 1}}
    assert list(about["losses"]) == ["plain", "class weights", "focal"]
    for name, row in about["losses"].items():
        assert 0 < row["average_precision"]["mean"] <= 1, name
    weights = (tmp_path / "class_weights/seed0/log.txt").read_text()
    assert "class weights of the loss: others 0.528 (18 of 19 videos), rare 9.5 (1 of 19 videos)" in weights
    assert "| plain |" in benchmark_imbalance.as_text(about["losses"])
