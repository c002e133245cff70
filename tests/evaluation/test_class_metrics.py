from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    f1_score,
    label_ranking_average_precision_score,
    precision_score,
    recall_score,
    roc_auc_score,
)
from torch import Tensor
from torchmetrics.functional.classification import multilabel_auroc, multilabel_average_precision

from evaluation.test_resampling import KINDS, scored
from farfield.evaluation import class_metrics
from farfield.evaluation.class_metrics import Averaged, Resampling, measure_decisions, measure_ranking
from farfield.evaluation.metrics import Estimate
from farfield.evaluation.resampling import sampling_units

NO_INTERVALS = Resampling(torch.arange(53), draws=0)


def one_hot(n: int, classes: int) -> tuple[Tensor, Tensor]:
    targets = torch.nn.functional.one_hot(torch.randint(0, classes, (n,)), classes).bool()
    return (torch.randn(n, classes) + 2 * targets).softmax(1), targets


def values(metric: Averaged) -> list[float]:
    return [each.value for each in metric.per_class]


@pytest.mark.parametrize("kind", KINDS)
def test_ranking_metrics_are_scikit_learns(kind: str) -> None:
    scores, targets = scored(kind)
    ours = measure_ranking(scores, targets, NO_INTERVALS)
    given = targets.numpy(), scores.numpy()
    for c in range(5):
        column = targets[:, c].numpy(), scores[:, c].numpy()
        assert values(ours.average_precision)[c] == pytest.approx(average_precision_score(*column), abs=1e-6)
        if targets[:, c].all():
            assert math.isnan(values(ours.roc_auc)[c])
        else:
            assert values(ours.roc_auc)[c] == pytest.approx(roc_auc_score(*column), abs=1e-6)
    for average in ("macro", "micro"):
        found = getattr(ours.average_precision, average)
        assert found.value == pytest.approx(average_precision_score(*given, average=average), abs=1e-6)
        assert math.isnan(found.low)
        defined = slice(None) if average == "micro" else ~targets.all(0).numpy()
        area = roc_auc_score(given[0][:, defined], given[1][:, defined], average=average)
        assert getattr(ours.roc_auc, average).value == pytest.approx(area, abs=1e-6)
    with_class = targets.any(1).numpy()
    assert ours.sample_average_precision.value == pytest.approx(
        label_ranking_average_precision_score(given[0][with_class], given[1][with_class]), abs=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_decision_metrics_are_scikit_learns(kind: str) -> None:
    scores, targets = scored(kind)
    decisions = scores > 0.6
    decisions[:, 4] = False
    ours = measure_decisions(decisions, targets, NO_INTERVALS)
    for found, theirs in zip(
        (ours.precision, ours.recall, ours.f1), (precision_score, recall_score, f1_score), strict=True
    ):
        given = targets.numpy(), decisions.numpy()
        assert values(found) == pytest.approx(theirs(*given, average=None, zero_division=np.nan), abs=1e-6, nan_ok=True)
        for average in ("macro", "micro"):
            wanted = theirs(*given, average=average, zero_division=np.nan)
            assert getattr(found, average).value == pytest.approx(wanted, abs=1e-6, nan_ok=True)
    assert math.isnan(values(ours.precision)[4])
    assert values(ours.f1)[4] == 0
    for c in range(5):
        (_, false), (missed, right) = confusion_matrix(targets[:, c], decisions[:, c], labels=[False, True])
        counts = ours.counts.true_positives[c], ours.counts.predicted[c], ours.counts.positives[c]
        assert counts == (right, right + false, right + missed)


def test_without_any_prediction_precision_is_undefined_and_recall_is_0() -> None:
    _, targets = scored("random")
    found = measure_decisions(torch.zeros_like(targets), targets, Resampling(torch.arange(53), draws=11))
    assert [each.macro.value for each in (found.recall, found.f1)] == [0, 0]
    for each in (*found.precision.per_class, found.precision.macro, found.precision.micro):
        assert all(math.isnan(bound) for bound in vars(each).values())


def test_with_one_class_a_video_micro_metrics_are_top1() -> None:
    scores, targets = one_hot(53, 7)
    decisions = torch.nn.functional.one_hot(scores.argmax(1), 7).bool()
    found = measure_decisions(decisions, targets, NO_INTERVALS)
    top1 = (decisions & targets).sum().item() / 53
    assert [each.micro.value for each in (found.precision, found.recall, found.f1)] == pytest.approx([top1] * 3)
    ranks = (scores >= (scores * targets).sum(1, keepdim=True)).sum(1)
    reciprocal = measure_ranking(scores, targets, NO_INTERVALS).sample_average_precision.value
    assert reciprocal == pytest.approx((1 / ranks).mean().item())


def test_a_class_without_positives_is_nan_and_in_no_macro_average() -> None:
    """torchmetrics answers 0 for such a class, and includes the 0 in its macro average."""
    scores, targets = scored("random")
    targets[:, 3] = False
    others = [0, 1, 2, 4]
    ranking = measure_ranking(scores, targets, Resampling(torch.arange(53), draws=101))
    decisions = measure_decisions(scores > 0.5, targets, Resampling(torch.arange(53), draws=101))
    for metric in (
        ranking.average_precision,
        ranking.roc_auc,
        decisions.precision,
        decisions.recall,
        decisions.f1,
    ):
        assert all(math.isnan(bound) for bound in vars(metric.per_class[3]).values())
        assert metric.macro.value == pytest.approx(np.mean([values(metric)[c] for c in others]))
        assert metric.macro.low < metric.macro.value < metric.macro.high
    # Pooled, its videos still are negatives.
    given = targets.numpy(), scores.numpy()
    assert ranking.average_precision.micro.value == pytest.approx(average_precision_score(*given, average="micro"))


def test_torchmetrics_still_answers_0_for_a_class_without_positives() -> None:
    """If this fails, torchmetrics has changed: correct the docstring of class_metrics."""
    scores, targets = scored("random")
    targets[:, 3] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for metric in (multilabel_average_precision, multilabel_auroc):
            each = metric(scores, targets.long(), num_labels=5, average=None)
            assert each[3] == 0
            assert metric(scores, targets.long(), num_labels=5, average="macro") == pytest.approx(each.mean().item())


def test_no_positives_at_all() -> None:
    scores, targets = torch.rand(5, 3), torch.zeros(5, 3, dtype=torch.bool)
    few = Resampling(torch.arange(5), draws=11)
    ranking, decisions = measure_ranking(scores, targets, few), measure_decisions(targets, targets, few)
    for metric in (ranking.average_precision, ranking.roc_auc, decisions.precision, decisions.recall, decisions.f1):
        for each in (*metric.per_class, metric.macro, metric.micro):
            assert all(math.isnan(bound) for bound in vars(each).values())
    assert math.isnan(ranking.sample_average_precision.value)


def test_a_class_with_positives_in_one_unit_has_no_interval() -> None:
    scores, targets = scored("one positive")
    found = measure_ranking(scores, targets, Resampling(torch.arange(53), draws=101)).average_precision.per_class
    assert math.isnan(found[1].low)
    assert found[1].value > 0
    assert found[0].low < found[0].value < found[0].high
    # Three videos of one group tell as little as one.
    targets[:, 1] = torch.arange(53) < 3
    groups = ["a"] * 3 + [None] * 50
    found = measure_ranking(
        scores, targets, Resampling.of_units(sampling_units(groups, range(53)), 5)
    ).average_precision.per_class
    assert math.isnan(found[1].low)
    assert found[0].low < found[0].value < found[0].high


def test_averages_have_no_interval_if_no_class_has_one() -> None:
    scores, targets = scored("ties")
    targets[:] = False
    targets[:6, 2] = True
    resampling = Resampling(sampling_units(["a"] * 6 + [None] * 47, range(53)), draws=101)
    ranking = measure_ranking(scores, targets, resampling)
    decisions = measure_decisions(scores > scores.median(), targets, resampling)
    for metric in (ranking.average_precision, ranking.roc_auc, *decisions.by_name.values()):
        assert not math.isnan(metric.macro.value)
        assert math.isnan(metric.macro.low)
        assert math.isnan(metric.micro.high)
    targets[10, 3] = targets[20, 3] = True
    assert measure_ranking(scores, targets, resampling).average_precision.macro.low >= 0


def test_groups_of_equal_videos_widen_the_interval() -> None:
    """Each video stands in the test 9 times: by groups the interval is that of the 53, and by videos a third of it."""
    scores, targets = one_hot(53, 3)
    single = measure_ranking(scores, targets, Resampling(torch.arange(53)))
    copies = scores.repeat(9, 1), targets.repeat(9, 1)
    by_group = measure_ranking(
        *copies, Resampling.of_units(sampling_units([str(row) for row in range(53)] * 9, range(477)), 3)
    )
    by_video = measure_ranking(*copies, Resampling.of_units(torch.arange(477), 3))

    def width(estimate: Estimate) -> float:
        return estimate.high - estimate.low

    for metric in ("average_precision", "roc_auc"):
        one, same, other = (getattr(each, metric).macro for each in (single, by_group, by_video))
        assert vars(same) == pytest.approx(vars(one), abs=1e-6)
        assert width(other) == pytest.approx(width(one) / 3, rel=0.2)


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """200 tests of 211 videos: ROC-AUC is known, since both scores are normal and 1 apart."""
    truth = 0.5 * (1 + math.erf(0.5))
    held = 0
    for seed in range(200):
        targets = torch.rand(211, 1) < 0.3
        scores = (torch.randn(211, 1) + targets).sigmoid()
        area = measure_ranking(scores, targets, Resampling(torch.arange(211), draws=201, seed=seed)).roc_auc
        held += area.per_class[0].low <= truth <= area.per_class[0].high
    assert 0.9 <= held / 200 <= 0.985


def test_with_many_rare_classes_the_macro_interval_is_around_the_value() -> None:
    """A positive that is drawn twice raises the precision at both, so resamples have a higher average precision."""
    scores, targets = one_hot(200, 40)
    found = measure_ranking(scores, targets, Resampling(torch.arange(200), draws=401)).average_precision.macro
    assert 0.03 < found.high - found.value < 0.08
    assert 0.03 < found.value - found.low < 0.08


def test_few_groups_have_no_interval_and_the_reason_is_given() -> None:
    """Two groups have three different resamples, so that the interval of equally good groups had no width."""
    scores, targets = scored("random", n=60)
    for groups in (2, 9, 10):
        resampling = Resampling.of_units(torch.arange(60) % groups, 5)
        f1, ranking = (
            measure_decisions(scores > 0.5, targets, resampling).f1,
            measure_ranking(scores, targets, resampling),
        )
        estimates = [f1.macro, f1.micro, *f1.per_class, ranking.roc_auc.macro, ranking.sample_average_precision]
        assert [math.isnan(each.low) for each in estimates] == [groups < 10] * len(estimates)
        reason = f"too few groups ({groups}) for an interval; at least 10 are needed"
        assert resampling.why_no_intervals("groups") == (reason if groups < 10 else None)
    assert "too few videos (9)" in str(Resampling.of_units(torch.arange(9), 5).why_no_intervals("videos"))
    large = Resampling.of_units(torch.arange(20_000), 2001)
    assert large.why_no_intervals("videos") == "too many videos and classes to resample"


def test_number_of_resamples_falls_with_size() -> None:
    draws = [Resampling.of_units(torch.arange(20_000), classes).draws for classes in (10, 400, 1000, 2000, 2001)]
    assert draws == [1000, 200, 200, 200, 0]
    assert class_metrics.MAX_CELLS == 40_000_000  # 20,000 x 2,000


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.tensor([[0.5, 3.0]]), r"scores are in [0.5, 3.0]; they must be probabilities, in [0, 1]"),
        (torch.tensor([[0.1, torch.nan]]), "they must be probabilities, in [0, 1]"),
        (torch.rand(1, 3), "scores or decisions have shape (1, 3), and targets (1, 2)"),
        (torch.rand(0, 2), "scores or decisions have shape (0, 2)"),
    ],
)
def test_other_scores_are_refused(scores: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        measure_ranking(scores, torch.ones(1, 2, dtype=torch.bool), Resampling(torch.arange(1), draws=0))


def test_a_softmax_that_rounds_above_1_is_ranked_as_it_is() -> None:
    """torchmetrics would take all scores for logits: a sigmoid makes 1e-9 and 2e-9 equal."""
    scores = torch.tensor([[1 + 2e-7, 1e-9], [0.5, 2e-9], [0.2, 3e-9]])
    targets = torch.tensor([[True, False], [False, False], [False, True]])
    found = measure_ranking(scores, targets, Resampling(torch.arange(3), draws=0))
    assert values(found.average_precision) == [1, 1]
    assert values(found.roc_auc) == [1, 1]
