from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from farfield.evaluation.accuracy_by_views import accuracy_by_views
from farfield.evaluation.metrics import measure


def views_of(n: int, views: int, classes: int) -> tuple[Tensor, Tensor]:
    """Random views that lean to the true class, so that more of them are worth more."""
    labels = torch.randint(0, classes, (n,))
    logits = torch.randn(n, views, classes) * 2 + 1.5 * torch.eye(classes)[labels][:, None]
    return logits.softmax(2), labels


def test_each_point_is_the_mean_over_all_choices_of_so_many_views() -> None:
    """The oracle takes every subset of the views, as loops in float64; random orders come close to it."""
    probabilities, labels = views_of(53, 5, 7)
    rows, wanted = probabilities.double().tolist(), labels.tolist()
    points = accuracy_by_views(probabilities, labels, draws=1009)
    assert [point.views for point in points] == [1, 2, 3, 4, 5]
    for point in points:
        right, choices = 0, list(combinations(range(5), point.views))
        for chosen in choices:
            for row, label in zip(rows, wanted, strict=True):
                total = [sum(row[view][c] for view in chosen) for c in range(7)]
                right += total.index(max(total)) == label
        assert point.top1.value == pytest.approx(right / len(choices) / 53, abs=0.008)
    assert points[-1].top1.value > points[0].top1.value + 0.05


def test_the_highest_probability_of_the_views_counts_for_max() -> None:
    probabilities, labels = views_of(101, 3, 5)
    found = accuracy_by_views(probabilities, labels, method="max")[-1].top1.value
    assert (
        found == measure(probabilities.amax(1), labels).top1.value != measure(probabilities.mean(1), labels).top1.value
    )


@pytest.mark.parametrize("draws", [1, 3, 20])
def test_all_views_are_the_tests_top1(draws: int) -> None:
    probabilities, labels = views_of(101, 3, 5)
    last, whole = accuracy_by_views(probabilities, labels, draws=draws)[-1], measure(probabilities.mean(1), labels).top1
    assert (last.top1.value, last.top1.low, last.top1.high) == pytest.approx((whole.value, whole.low, whole.high))


def test_one_view_is_as_good_as_views_are_alone() -> None:
    """View 0 knows videos 0 to 4, view 1 videos 4 to 8: each 5 of 11 alone, all 9 together, whichever comes first."""
    labels = torch.zeros(11, dtype=torch.int64)
    known, unknown = torch.tensor([0.9, 0.1, 0.0]), torch.tensor([0.3, 0.7, 0.0])
    probabilities = unknown.repeat(11, 2, 1)
    probabilities[:5, 0] = probabilities[4:9, 1] = known
    first, both = accuracy_by_views(probabilities, labels, draws=7)
    assert first.top1.value == pytest.approx(5 / 11)
    assert both.top1.value == pytest.approx(9 / 11)


def test_orders_differ_and_are_the_same_every_time() -> None:
    """Only view 0 is ever right: at one view, the share of orders that begin with it."""
    labels = torch.zeros(7, dtype=torch.int64)
    probabilities = torch.tensor([0.0, 1.0]).repeat(7, 3, 1)
    probabilities[:, 0] = torch.tensor([1.0, 0.0])
    first = accuracy_by_views(probabilities, labels, draws=300)[0].top1.value
    assert first == pytest.approx(1 / 3, abs=0.09)
    assert first == accuracy_by_views(probabilities, labels, draws=300)[0].top1.value


def test_half_precision_is_summed_in_more() -> None:
    """350 (3500 x 0.1) to 300 (x 1); a sum in half precision would stop at 256, beside which 0.1 is lost."""
    probabilities = torch.tensor([[0.1, 0.0]] * 3500 + [[0.0, 1.0]] * 300, dtype=torch.float16)[None]
    assert accuracy_by_views(probabilities, torch.tensor([0]), draws=1)[-1].top1.value == 1


def test_a_single_view_is_one_point() -> None:
    probabilities, labels = views_of(17, 1, 3)
    [point] = accuracy_by_views(probabilities, labels)
    assert point.views == 1
    assert point.top1.value == pytest.approx(measure(probabilities[:, 0], labels).top1.value)


def test_where_all_are_right_no_accuracy_exceeds_one() -> None:
    for n in (1, 7, 101):
        labels = torch.zeros(n, dtype=torch.int64)
        for point in accuracy_by_views(torch.tensor([1.0, 0.0]).repeat(n, 2, 1), labels):
            assert (point.top1.value, point.top1.high) == (1, 1)
