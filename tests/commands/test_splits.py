"""`farfield test splits` and `farfield compare` over splits, as a user runs them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from farfield.evaluation.comparison import compare_runs
from farfield.evaluation.metrics import measure
from farfield.evaluation.scores_file import Scores, read_scores, write_scores
from farfield.evaluation.splits import average_splits

Run = Callable[..., int]
LABELS = ["bow", "climb", "dive", "jump", "run", "swim", "wave"]
SIZES = (43, 53, 61)
METRICS = {
    "top1": {"average": "micro"},
    "top5": {"average": "micro", "top_k": 5},
    "mean_class_accuracy": {"average": "macro"},
}


def write_tested(
    folder: Path, lean: float, *, seed: int, first: int = 0, size: int = 43, grouped: bool = True
) -> Scores:
    """Write the scores of videos `first`, ..., which lean to the true class; videos of a group follow each other."""
    numbers = torch.arange(first, first + size)
    targets = (numbers * 5) % 7
    noise = torch.randn(size, 3, 7, generator=torch.Generator().manual_seed(seed))
    views = (2 * noise + lean * torch.eye(7)[targets][:, None]).softmax(2)
    scores = Scores(LABELS, [f"videos/{i} é.avi" for i in numbers.tolist()], targets, views)
    (folder / "test").mkdir(parents=True)
    groups = [f"film {i // 3}" for i in numbers.tolist()] if grouped else None
    write_scores(scores, folder / "test" / "scores.npz", groups=groups)
    return scores


def three_splits(folder: Path, lean: float, *, seed: int, grouped: bool = True) -> tuple[list[Path], list[Scores]]:
    """Test lists that overlap: 157 tested videos, of which 101 are different."""
    runs = [folder / f"split_{k}" for k in (1, 2, 3)]
    scores = [
        write_tested(run, lean, seed=seed + place, first=20 * place, size=size, grouped=grouped)
        for place, (run, size) in enumerate(zip(runs, SIZES, strict=True))
    ]
    return runs, scores


def test_figures_are_those_of_the_splits_and_their_mean(
    tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, scores = three_splits(tmp_path, 2.0, seed=1)
    assert run_farfield("test", "splits", *runs, "--draws", 503, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert not list(tmp_path.glob("splits.*"))
    assert [(each["run"], each["videos"]) for each in content["splits"]] == list(
        zip(map(str, runs), SIZES, strict=True)
    )
    assert (content["videos"], content["resampled"], content["units"]) == (101, "groups", 34)
    assert (content["draws"], content["seed"], content["confidence"]) == (503, 0, 0.95)
    for metric, options in METRICS.items():
        values = [multiclass_accuracy(each.probabilities, each.targets, 7, **options).item() for each in scores]
        figures = [each[metric] for each in content["splits"]]
        assert [each["value"] for each in figures] == pytest.approx(values, abs=1e-6)
        mean = content["mean"][metric]
        assert mean["value"] == pytest.approx(fmean(values), abs=1e-6)
        assert mean["low"] < mean["value"] < mean["high"]
        narrowest = min(each["high"] - each["low"] for each in figures)
        assert mean["high"] - mean["low"] < narrowest
        for figure, each in zip(figures, scores, strict=True):
            wilson = getattr(measure(each.probabilities, each.targets), metric)
            assert figure["low"] <= wilson.low < wilson.high <= figure["high"]


def test_table_and_reports_say_the_same(tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]) -> None:
    runs, _ = three_splits(tmp_path, 2.0, seed=1)
    assert run_farfield("test", "splits", *runs, "--draws", 307, "--out", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    content = json.loads((tmp_path / "splits.json").read_text())
    assert [each["scores"] for each in content["splits"]] == [f"split_{k}/test/scores.npz" for k in (1, 2, 3)]
    text = (tmp_path / "splits.md").read_text()
    shown = [
        [f"{100 * f['value']:.1f}% ({100 * f['low']:.1f} to {100 * f['high']:.1f})" for f in (row[m] for m in METRICS)]
        for row in (*content["splits"], content["mean"])
    ]
    for line, run, size, figures in zip(lines[1:4], runs, SIZES, shown, strict=False):
        assert line.split()[:2] == [str(run), str(size)]
        assert all(figure in line for figure in figures)
    assert lines[4].startswith("mean of 3 splits ")
    assert all(figure in lines[4] for figure in shown[3])
    assert lines[5] == "95% intervals from 307 resamples of 34 groups, drawn for all splits together"
    assert lines[6] == f"report: {tmp_path / 'splits.md'}"
    for place, figures in enumerate(shown[:3]):
        assert f"| {place + 1} | {SIZES[place]} | {' | '.join(figures)} |\n" in text
    assert f"| mean | 101 different | {' | '.join(shown[3])} |\n" in text
    assert "307 resamples of 34 groups, drawn for all splits together, since videos of one group" in text


def test_without_groups_videos_are_resampled(tmp_path: Path) -> None:
    runs, _ = three_splits(tmp_path, 2.0, seed=1, grouped=False)
    result = average_splits(runs, tmp_path, draws=307)
    assert (result.resampled, result.units, result.videos) == ("videos", 101, 101)
    assert "since a video in several splits is not independent" in (tmp_path / "splits.md").read_text()


def test_perfect_networks_have_the_interval_of_wilson(tmp_path: Path) -> None:
    for split in (0, 1):
        write_tested(tmp_path / str(split), 1000.0, seed=3, first=50 * split, size=49, grouped=False)
    result = average_splits([tmp_path / "0", tmp_path / "1"], draws=101)
    for each, n in ((result.splits[0].top1, 49), (result.top1, 98)):  # disjoint splits of one size
        assert (each.value, each.high) == (1, 1)
        assert each.low == pytest.approx(n / (n + 1.96**2), abs=1e-4)
    overlapping = [tmp_path / "2", tmp_path / "3"]
    for split, folder in enumerate(overlapping):
        write_tested(folder, 1000.0, seed=3, first=10 * split, size=49, grouped=False)
    assert average_splits(overlapping, draws=101).top1.low == pytest.approx(59 / (59 + 1.96**2), abs=1e-4)


def test_methods_are_compared_split_by_split_and_in_the_mean(
    tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_a, _ = three_splits(tmp_path / "a", 2.0, seed=1)
    runs_b, _ = three_splits(tmp_path / "b", 3.0, seed=11)
    (tmp_path / "b/split_3/test/scores.npz").unlink()
    (tmp_path / "b/split_3/test").rmdir()
    write_tested(runs_b[2], 3.0, seed=13, first=42, size=55)  # A scored videos 40 to 100
    averages = []
    for runs, folder in ((runs_a, tmp_path / "a"), (runs_b, tmp_path / "b")):
        averages.append(average_splits(runs, folder, draws=101))
    shutil.move(tmp_path / "b", tmp_path / "moved")
    words = ["compare", tmp_path / "a", tmp_path / "moved" / "splits.json", "--draws", 2003]
    assert run_farfield(*words, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["a"], content["b"]) == (str(tmp_path / "a"), str(tmp_path / "moved" / "splits.json"))
    assert (content["draws"], content["resampled"], content["units"]) == (2003, "groups", 33)
    assert [(each["videos"], each["left_out"]) for each in content["splits"]] == [(43, 0), (53, 0), (55, 6)]
    for place in (0, 1, 2):
        alone = compare_runs(runs_a[place], tmp_path / "moved" / f"split_{place + 1}", draws=101)
        found = content["splits"][place]
        only = [found["right_in_a_only"], found["right_in_b_only"]]
        assert only == [alone.right_in_a_only, alone.right_in_b_only]
        for metric in METRICS:
            expected = getattr(alone, metric)
            assert (found[metric]["a"], found[metric]["b"]) == pytest.approx((expected.a, expected.b))
            assert found[metric]["low"] < found[metric]["value"] < found[metric]["high"]
    for metric in METRICS:
        mean = content["mean"][metric]
        for key in ("a", "b", "value"):
            assert mean[key] == pytest.approx(fmean(each[metric][key] for each in content["splits"]))
        assert mean["low"] < mean["value"] < mean["high"]
        assert 0 < mean["p_value"] < (1 if metric == "top5" else 0.05)
    assert averages[0].top1.value < averages[1].top1.value

    assert run_farfield(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    only = content["splits"][2]
    assert lines[4] == (
        f"split 3: 55 videos; right in A only: {only['right_in_a_only']}, in B only: {only['right_in_b_only']}; left "
        "out, because only one run scored them: 6"
    )
    mean = content["mean"]["top1"]
    row = next(line for line in lines if line.startswith("top-1, mean "))
    assert row.split()[2:5] == [f"{100 * mean['a']:.2f}%", f"{100 * mean['b']:.2f}%", f"{100 * mean['value']:+.2f}"]
    assert row.split()[-1] == f"{mean['p_value']:.4f}"
    assert [line.partition("  ")[0] for line in lines[6:-1]] == [
        f"{metric}, {where}"
        for metric in ("top-1", "top-5", "mean class accuracy")
        for where in ("split 1", "split 2", "split 3", "mean")
    ]
    assert lines[-1] == "resampled: 33 groups, for all splits together"


def test_a_method_against_itself_does_not_differ(
    tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, _ = three_splits(tmp_path, 2.0, seed=1)
    average_splits(runs, tmp_path, draws=101)
    assert run_farfield("compare", tmp_path, tmp_path, "--draws", 211, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    for metric in METRICS:
        for found in (content["mean"], *content["splits"]):
            assert [found[metric][key] for key in ("value", "low", "high", "p_value")] == [0, 0, 0, 1]


@pytest.mark.slow
def test_mistakes_are_one_line(tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]) -> None:
    runs, (first, *_) = three_splits(tmp_path, 2.0, seed=1)
    average_splits(runs, tmp_path / "mean", draws=101)
    average_splits(runs[:2], tmp_path / "two", draws=101)
    (tmp_path / "untested").mkdir()
    for name, scores in {
        "renamed": replace(first, labels=[*LABELS[:6], "salute"]),
        "one_view": replace(first, views=first.views[:, :1]),
    }.items():
        (tmp_path / name).mkdir()
        write_scores(scores, tmp_path / name / "scores.npz")
    write_scores(first, tmp_path / "groups.npz", groups=["x"])
    (tmp_path / "damaged").mkdir()
    write_scores(replace(read_scores(runs[1] / "test/scores.npz"), views_aggregation="max"), tmp_path / "max.npz")
    (tmp_path / "damaged/splits.json").write_text('{"splits": [1]}')
    (tmp_path / "file").write_text("")
    for words, *messages in (
        (["test", "splits", runs[0]], "only one run is given; at least two are needed. Give the run of each split."),
        (["test", "splits", runs[0], runs[1], runs[0] / "test"], f"{runs[0] / 'test'} is given twice. Give one run"),
        (["test", "splits", runs[0], tmp_path / "untested"], "untested contains no scores (scores.npz). Give a run"),
        (
            ["test", "splits", runs[0], tmp_path / "renamed"],
            "have different classes: salute, wave are in one of them only. Give splits of one data set",
        ),
        (
            ["test", "splits", runs[0], tmp_path / "one_view"],
            "was tested with 3 views per video and ",
            "with 1. Test all splits with the same num_clips and num_crops.",
        ),
        (
            ["test", "splits", runs[0], tmp_path / "max.npz"],
            "was tested with views_aggregation 'mean' and ",
            "max.npz with 'max'. Test all splits with the same views_aggregation.",
        ),
        (
            ["test", "splits", runs[0], tmp_path / "groups.npz"],
            "groups.npz has groups of 1 videos, but scores of 43. Test the run",
        ),
        (
            ["test", "splits", *runs, "--out", runs[1]],
            "split_2, which is the folder of a test report. Give another folder",
        ),
        (["test", "splits", *runs, "--out", tmp_path / "file"], "file, which is a file. Give a folder."),
        (["test", "splits", *runs, "--out", tmp_path / "file/mean"], "file/mean cannot be written: Not a directory."),
        (["test", "splits", *runs, "--draws", 99], "draws is 99; it must be at least 100"),
        (["test", "splits", *runs, "--seed", -1], "seed is -1; it must be at least 0"),
        (
            ["compare", tmp_path / "mean", runs[0]],
            "mean is a folder of 3 splits, and ",
            "is a single run. Give two tested",
        ),
        (
            ["compare", tmp_path / "mean", tmp_path / "two"],
            "mean is a folder of 3 splits, and ",
            "two is a folder of 2 splits. Give two",
        ),
        (["compare", tmp_path / "mean", tmp_path / "damaged"], "splits.json is not a file written by `farfield test"),
        (["compare", tmp_path / "mean", tmp_path / "mean", "--draws", 9], "draws is 9; it must be at least 100"),
    ):
        assert run_farfield(*words) == 2, words
        captured = capsys.readouterr()
        assert all(message in captured.err for message in messages), captured.err
        assert len(captured.err.splitlines()) == 1
        assert captured.out == ""


def test_a_split_of_few_groups_has_no_interval_of_its_own(
    tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folds that leave one film out: a bootstrap of the fold alone would draw the same videos each time."""
    for method, lean in (("a", 2.0), ("b", 3.0)):
        runs = [tmp_path / method / f"fold_{k}" for k in range(11)]
        for place, run in enumerate(runs):
            write_tested(run, lean, seed=place + 20 * (method == "b"), first=3 * place, size=3)
        average_splits(runs, tmp_path / method, draws=101)
    words = ["compare", tmp_path / "a", tmp_path / "b", "--draws", 503]
    assert run_farfield(*words, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["resampled"], content["units"], content["no_intervals"]) == ("groups", 11, None)
    for metric in METRICS:
        assert all(each[metric]["low"] is each[metric]["p_value"] is None for each in content["splits"])
        mean = content["mean"][metric]
        assert mean["low"] <= mean["value"] <= mean["high"]
    reason = "too few groups (1) for an interval; at least 10 are needed"
    assert {(each["units"], each["no_intervals"]) for each in content["splits"]} == {(1, reason)}
    assert run_farfield(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "resampled: 11 groups, for all splits together"

    for method in ("a", "b"):
        average_splits([tmp_path / method / f"fold_{k}" for k in range(9)], tmp_path / method, draws=101)
    assert run_farfield(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "no intervals: too few groups (9) for an interval; at least 10 are needed"
    assert all(line.split()[-1].startswith(("+", "-")) for line in lines[-31:-1] if "%" in line)
