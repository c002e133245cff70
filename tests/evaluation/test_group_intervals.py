"""Intervals of accuracies if videos belong to groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap
from torch import Tensor

from farfield.errors import FarfieldError
from farfield.evaluation.group_intervals import widen_by_units
from farfield.evaluation.metrics import Estimate, measure, wilson
from farfield.evaluation.resampling import sampling_units
from farfield.evaluation.result import EvaluationResult
from farfield.evaluation.scores_file import Scores
from farfield.evaluation.split_resampling import SplitValues
from farfield.task import Task


def hits_of_groups(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 1 or 0 for each video, mostly the same within its group, and the number of its group."""
    rng = np.random.default_rng(5)
    odds = rng.choice([0.05, 0.95], len(sizes))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return (rng.random(len(groups)) < odds[groups]).astype(float), groups


def width(estimate: Estimate) -> float:
    return estimate.high - estimate.low


def test_interval_is_scipys_over_groups() -> None:
    sizes = np.random.default_rng(3).integers(3, 17, 41)
    values, groups = hits_of_groups(sizes)
    plain = wilson(values.sum(), len(values))
    [found] = widen_by_units([plain], [SplitValues(values)], torch.from_numpy(groups))
    theirs = bootstrap(
        (np.bincount(groups, values), sizes),
        lambda right, sizes, axis: right.sum(axis) / sizes.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(13),
    )
    close = 0.2 * theirs.standard_error  # an end of 2,000 draws is known to 0.06 standard errors
    assert found.value == plain.value
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=close)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=close)
    assert width(found) > 2 * width(plain)


def test_without_groups_with_one_and_with_as_many_as_videos_it_is_wilsons() -> None:
    values, _ = hits_of_groups(np.full(13, 3))
    plain, of_videos = [wilson(values.sum(), 39)], [SplitValues(values)]
    assert widen_by_units(plain, of_videos, None) == plain
    assert widen_by_units(plain, of_videos, torch.zeros(39).long()) == plain
    assert widen_by_units(plain, of_videos, torch.arange(39)) == plain
    assert widen_by_units([wilson(0, 0)], [SplitValues(np.zeros(0))], torch.arange(0)) == [wilson(0, 0)]


def test_a_video_without_a_group_is_drawn_alone() -> None:
    values, groups = hits_of_groups(np.full(40, 9))
    plain, of_videos = wilson(values.sum(), 360), SplitValues(values)
    names = [f"person {group}" if group < 3 else None for group in groups]
    units = sampling_units(names, range(360)), torch.from_numpy(groups)
    [alone], [whole] = (widen_by_units([plain], [of_videos], each) for each in units)
    assert width(plain) <= width(alone) < 0.7 * width(whole)


def views_of(targets: Tensor, right: np.ndarray, classes: int) -> Tensor:
    """Two views of each video, for which the true class is the most probable one if the video is right."""
    most_probable = torch.where(torch.from_numpy(right).bool(), targets, (targets + 1) % classes)
    noise = 0.1 * torch.rand(len(targets), 2, classes, generator=torch.Generator().manual_seed(3))
    return (3 * torch.eye(classes)[most_probable][:, None] + noise).softmax(2)


def result(task: Task, groups: list[str] | None) -> EvaluationResult:
    right, _ = hits_of_groups(np.full(23, 11))
    rows = torch.arange(len(right))
    paths = [f"{row}.mp4" for row in rows.tolist()]
    if task == "single_label":
        targets = rows % 7
        views = views_of(targets, right, 7)
        return EvaluationResult(Scores([*"abcdefg"], paths, targets, views), [], groups=groups)
    if task == "multilabel":
        targets = torch.eye(7)[rows % 7].bool()
        views = views_of(rows % 7, right, 7)
        return EvaluationResult(Scores([*"abcdefg"], paths, targets, views, task=task), [], groups=groups)
    labels = ["noun:a", "noun:b", "noun:c", "verb:d", "verb:e"]
    noun, verb = rows % 3, rows % 2
    targets = torch.cat([torch.eye(3)[noun], torch.eye(2)[verb]], 1).bool()
    views = torch.cat([views_of(noun, right, 3), views_of(verb, right, 2)], 2)
    return EvaluationResult(Scores(labels, paths, targets, views, task=task), [], groups=groups)


@pytest.mark.parametrize("task", ["single_label", "multilabel", "multi_head"])
def test_every_accuracy_of_a_test_reckons_with_groups(task: Task) -> None:
    _, groups = hits_of_groups(np.full(23, 11))
    plain, grouped = result(task, None), result(task, [f"person {group}" for group in groups])

    def estimates(each: EvaluationResult) -> dict[str, Estimate]:
        if task == "single_label":
            of_views = {f"{point.views} views": point.top1 for point in each.accuracy_by_views()}
            metrics = each.metrics()
            return {"top1": metrics.top1, "mean_class_accuracy": metrics.mean_class_accuracy, **of_views}
        if task == "multilabel":
            return {"exact_match": each.multilabel_metrics().exact_match}
        heads = {head: of_head.metrics().top1 for head, of_head in each.heads().items()}
        return {"joint": each.joint_metrics().top1, **heads}

    before, after = estimates(plain), estimates(grouped)
    assert before.keys() == after.keys()
    for name, estimate in after.items():
        assert estimate.value == before[name].value, name
        assert width(estimate) > 1.7 * width(before[name]), name


def test_segments_of_one_video_are_drawn_together() -> None:
    """23 videos of 11 segments, without groups: as if each video were a group."""
    _, groups = hits_of_groups(np.full(23, 11))
    grouped = result("single_label", [str(group) for group in groups])
    paths = [f"{group}.mp4" for group in groups]
    segments = torch.arange(253, dtype=torch.float64)[:, None] + torch.tensor([0.0, 1.0])
    scores = replace(grouped.scores, paths=paths, segments=segments)
    assert EvaluationResult(scores, []).metrics().top1 == grouped.metrics().top1
    assert EvaluationResult(scores, []).to_dict()["class_metrics"]["units"] == 23


def test_scores_that_are_no_numbers_are_refused() -> None:
    scores = result("single_label", None).scores
    scores.views[3, 1, 2] = torch.nan
    for method in ("metrics", "classes", "decision_metrics", "calibrations"):
        with pytest.raises(FarfieldError, match=r"the network's scores of 3\.mp4 are not numbers \(NaN\)"):
            getattr(EvaluationResult(scores, []), method)()


def test_confusions_and_top5_do_not_change_with_groups() -> None:
    _, groups = hits_of_groups(np.full(23, 11))
    grouped = result("single_label", [str(group) for group in groups])
    plain = measure(grouped.scores.probabilities, grouped.scores.targets)
    assert torch.equal(grouped.metrics().confusion, plain.confusion)
    assert grouped.metrics().top5.value == plain.top5.value


def test_the_report_says_over_what(tmp_path_factory: pytest.TempPathFactory) -> None:
    from farfield.evaluation.test_report import write_report

    _, groups = hits_of_groups(np.full(23, 11))
    texts = []
    results = [
        result("single_label", names) for names in (None, [str(g) for g in groups], [str(g % 3) for g in groups])
    ]
    scores = replace(
        results[0].scores, paths=[f"{group}.mp4" for group in groups], segments=torch.rand(253, 2).double()
    )
    for number, each in enumerate([*results, EvaluationResult(scores, [])]):
        folder = tmp_path_factory.mktemp(str(number))
        write_report(each, folder)
        texts.append((folder / "report.md").read_text())
    paths, targets, views = (getattr(results[0].scores, name) for name in ("paths", "targets", "views"))
    wilsons = "These intervals are Wilson's for independent videos"
    assert f"{wilsons}.\n" in texts[0]
    assert f"{wilsons}, widened to contain those of a bootstrap over 23 groups.\n" in texts[1]
    assert f"{wilsons}, widened to contain those of a bootstrap over 3 groups.\n" in texts[2]
    assert f"{wilsons}, widened to contain those of a bootstrap over 23 whole videos.\n" in texts[3]
    assert "too few groups (3)" in texts[2]
    assert "For the same reason, the intervals of the accuracies above are too narrow." in texts[2]
    assert "too narrow. " not in texts[1]
    few = replace(results[0].scores, paths=paths[:8], targets=targets[:8], views=views[:8])
    write_report(EvaluationResult(few, []), tmp_path_factory.mktemp("few"))
    text = next(tmp_path_factory.getbasetemp().glob("few*/report.md")).read_text()
    assert "too few videos (8)" in text
    assert "too narrow" not in text  # Wilson's interval holds for eight videos, too
