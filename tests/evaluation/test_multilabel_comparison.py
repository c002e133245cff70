"""Comparison of multilabel tests, against scikit-learn on explicit resamples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from farfield.errors import FarfieldError
from farfield.evaluation.comparison import compare_runs
from farfield.evaluation.multilabel_comparison import compare_multilabel_runs
from farfield.evaluation.resampling import resample_weights, sampling_units
from farfield.evaluation.scores_file import Scores, write_scores
from farfield.evaluation.splits import average_splits

LABELS = ["bow", "climb", "dive", "jump", "run"]
ORDER = [3, 0, 4, 2, 1]  # in which run B knows the classes
GROUPS = [None if i % 11 == 3 else f"film {i % 17}" for i in range(53)]


def leaning(targets: Tensor, views: int, lean: float, seed: int) -> Tensor:
    noise = torch.randn(len(targets), views, 5, generator=torch.Generator().manual_seed(seed))
    return (noise * 2 + lean * targets[:, None]).sigmoid()


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Scores, Scores, Path, Path]:
    """A scored videos 0 to 46, B 6 to 52 backwards with its classes in another order. Class 2 has no video."""
    targets = torch.rand(53, 5, generator=torch.Generator().manual_seed(3)) < 0.3
    targets[:, 2] = False
    targets[:, 4] = torch.arange(53) == 20  # one video
    paths = [f"videos/{i} é.mp4" for i in range(53)]
    a = Scores(LABELS, paths[:47], targets[:47], leaning(targets, 3, 1.0, 1)[:47], task="multilabel")
    back = torch.arange(52, 5, -1)
    b = Scores(
        [LABELS[c] for c in ORDER],
        [paths[i] for i in back],
        targets[back][:, ORDER],
        leaning(targets, 2, 2.0, 2)[back][:, :, ORDER],
        views_aggregation="max",
        task="multilabel",
    )
    for name, scores, rows in (("a", a, range(47)), ("b", b, back.tolist())):
        (tmp_path / name / "test").mkdir(parents=True)
        write_scores(scores, tmp_path / name / "test/scores.npz", groups=[GROUPS[row] for row in rows])
    return a, b, tmp_path / "a", tmp_path / "b"


def by_hand(a: Scores, b: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, and both runs' scores, of the shared videos in A's order of videos and classes."""
    rows = [b.paths.index(path) for path in a.paths[6:]]
    columns = [b.labels.index(label) for label in LABELS]
    return a.targets[6:].numpy(), a.views[6:].mean(1).numpy(), b.views[rows].amax(1)[:, columns].numpy()


def precisions(targets: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    return np.array(
        [
            average_precision_score(targets[:, c], scores[:, c], sample_weight=weights)
            if (targets[:, c] * (1 if weights is None else weights)).any()
            else np.nan
            for c in (0, 1, 3, 4)
        ]
    )


@pytest.mark.slow
def test_differences_are_scikit_learns_and_intervals_those_of_the_groups(
    runs: tuple[Scores, Scores, Path, Path],
) -> None:
    a, b, *folders = runs
    targets, of_a, of_b = by_hand(a, b)
    found = compare_multilabel_runs(*folders, draws=211, seed=5)
    units = sampling_units(GROUPS[6:47], range(41))
    assert (found.videos, found.left_out, found.resampled) == (41, 12, "groups")
    assert found.units == int(units.max()) + 1 < 41
    alone = precisions(targets, of_a), precisions(targets, of_b)
    metric = found.mean_average_precision
    values = alone[0].mean(), alone[1].mean(), alone[1].mean() - alone[0].mean()
    assert (metric.a, metric.b, metric.value) == pytest.approx(values, abs=1e-6)
    drawn = []
    for weights in torch.cat(list(resample_weights(units, draws=211, seed=5)), 1).T.numpy():
        drawn.append(precisions(targets, of_b, weights) - precisions(targets, of_a, weights))
    means = np.nanmean(drawn, axis=1)
    means += metric.value - means.mean()
    assert (metric.low, metric.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-5)
    larger = (np.abs(means - metric.value) >= abs(metric.value)).sum()
    assert metric.p_value == pytest.approx((larger + 1) / 212, abs=1.5 / 212)
    by_label = {each.label: each for each in found.classes}
    assert list(by_label) == sorted(by_label, key=lambda label: -by_label[label].average_precision.value)
    assert set(by_label) == {"bow", "climb", "jump", "run"}
    for c, label in enumerate(["bow", "climb", "jump", "run"]):
        each = by_label[label]
        assert each.videos == targets[:, LABELS.index(label)].sum()
        assert each.average_precision.value == pytest.approx(alone[1][c] - alone[0][c], abs=1e-6)
        assert np.isnan(each.average_precision.low) == (label == "run")  # one video


def test_few_groups_have_no_interval(
    runs: tuple[Scores, Scores, Path, Path], run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, run_a, run_b = runs
    for scores, run in ((a, run_a), (b, run_b)):
        write_scores(scores, run / "test/scores.npz", groups=[path[7] for path in scores.paths])  # by the first digit
    found = compare_multilabel_runs(run_a, run_b, draws=101)
    assert found.units == 8
    for difference in (found.mean_average_precision, *(each.average_precision for each in found.classes)):
        assert np.isnan([difference.low, difference.high, difference.p_value]).all()
        assert difference.value == pytest.approx(difference.b - difference.a)
    reason = "too few groups (8) for an interval; at least 10 are needed"
    assert found.to_dict()["no_intervals"] == reason
    assert run_farfield("compare", run_a, run_b, "--draws", 101) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"no intervals: {reason}"


def test_the_command_prints_the_same(
    runs: tuple[Scores, Scores, Path, Path], run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    *_, a, b = runs
    assert run_farfield("compare", a, b, "--draws", 211, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["draws"], content["videos"], content["left_out"]) == (211, 41, 12)
    assert {each["label"]: each["average_precision"]["p_value"] for each in content["classes"]}["run"] is None
    assert run_farfield("compare", a, b, "--draws", 211) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "41 videos; left out, because only one run scored them: 12"
    metric = content["mean_average_precision"]
    assert lines[4].startswith("mean average precision")
    shown = f"{100 * metric['low']:+.1f} to {100 * metric['high']:+.1f}"
    words = [f"{100 * metric['a']:.2f}%", f"{100 * metric['b']:.2f}%", f"{100 * metric['value']:+.2f}"]
    assert lines[4].split()[-7:] == [*words, *shown.split(), f"{metric['p_value']:.4f}"]
    assert lines[-1] == f"resampled: {content['units']} groups"
    [run] = [line for line in lines if line.startswith("run (1)")]
    assert len(run.split()) == 5


def test_a_run_against_itself(runs: tuple[Scores, Scores, Path, Path]) -> None:
    metric = compare_multilabel_runs(runs[2], runs[2], draws=101).mean_average_precision
    assert (metric.value, metric.low, metric.high, metric.p_value) == (0, 0, 0, 1)


def test_mistakes_are_refused(runs: tuple[Scores, Scores, Path, Path], tmp_path: Path) -> None:
    a, _, run, run_b = runs
    wrong = a.targets.clone()
    wrong[20] = torch.tensor([True, True, False, False, False])
    was = a.label_texts()[20]
    single = replace(a, task="single_label", targets=torch.zeros(47, dtype=torch.int64))
    empty = replace(a, targets=torch.zeros_like(a.targets))
    heads = replace(a, task="multi_head", labels=["v:bow", "v:climb", "v:dive", "n:jump", "n:run"])
    for name, scores in {"wrong": replace(a, targets=wrong), "single": single, "heads": heads, "empty": empty}.items():
        write_scores(scores, tmp_path / f"{name}.npz")
    for pair, message in (
        (
            (run, tmp_path / "wrong.npz"),
            f"videos/20 é.mp4 has the label '{was}' in one run and 'bow|climb' in the other",
        ),
        ((run, tmp_path / "single.npz"), r"has the task 'multilabel', and .*single\.npz has 'single_label'"),
        (
            (tmp_path / "single.npz", tmp_path / "single.npz"),
            r"has scores of a 'single_label' network, .* Compare single-label networks with compare_runs\.",
        ),
        (
            (tmp_path / "heads.npz", tmp_path / "heads.npz"),
            r"has scores of a 'multi_head' network, .* Compare the report folders of one head",
        ),
        ((tmp_path / "empty.npz", tmp_path / "empty.npz"), r"videos that both runs scored \(47 in all\) has a label"),
    ):
        with pytest.raises(FarfieldError, match=message.replace("|", r"\|")):
            compare_multilabel_runs(*pair)
    for refuse in (lambda: compare_runs(run, run_b), lambda: average_splits([run, run_b])):
        with pytest.raises(FarfieldError, match="has scores of a 'multilabel' network, but a 'single_label'"):
            refuse()


def test_groups_of_either_run_are_drawn(runs: tuple[Scores, Scores, Path, Path]) -> None:
    a, _, run_a, run_b = runs
    write_scores(a, run_a / "test/scores.npz")  # without groups
    found, back = (compare_multilabel_runs(*pair, draws=200) for pair in ((run_a, run_b), (run_b, run_a)))
    assert found.resampled == back.resampled == "groups"
    assert found.units == back.units


def test_other_aggregations_are_named(
    runs: tuple[Scores, Scores, Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    _, _, folder_a, folder_b = runs
    compare_multilabel_runs(folder_a, folder_a, draws=100)
    assert caplog.text == ""
    compare_multilabel_runs(folder_a, folder_b, draws=100)
    assert f"{folder_a} was tested with views_aggregation 'mean', and {folder_b} with 'max'" in caplog.text
