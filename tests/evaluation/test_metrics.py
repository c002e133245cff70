from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest
from torchmetrics.functional.classification import multiclass_accuracy

from farfield.evaluation.metrics import measure, most_probable, wilson
from farfield.scoring.aggregation import aggregate_views, view_probabilities


@pytest.mark.parametrize(("k", "n"), [(0, 7), (1, 7), (83, 90), (90, 90), (500, 1001)])
def test_wilson_is_scipys(k: int, n: int) -> None:
    ours = wilson(k, n)
    theirs = binomtest(k, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert (ours.value, ours.low, ours.high) == pytest.approx((k / n, theirs.low, theirs.high), abs=1e-12)


def test_nothing_measured_tells_nothing() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)


def test_views_are_averaged_as_probabilities() -> None:
    logits = torch.randn(6, 5) * 3
    expected = torch.stack(
        [
            torch.stack([logits[2 * i + v].exp() / logits[2 * i + v].exp().sum() for v in (0, 1)]).mean(0)
            for i in range(3)
        ]
    )
    torch.testing.assert_close(aggregate_views(view_probabilities(logits, 3, "single_label")), expected)


def test_accuracies_are_torchmetrics() -> None:
    probabilities, labels = torch.rand(211, 7), torch.randint(0, 7, (211,))
    metrics = measure(probabilities, labels)
    for ours, options in (
        (metrics.top1, {"average": "micro"}),
        (metrics.top5, {"average": "micro", "top_k": 5}),
        (metrics.mean_class_accuracy, {"average": "macro"}),
    ):
        assert ours.value == pytest.approx(multiclass_accuracy(probabilities, labels, 7, **options).item(), abs=1e-6)
        assert ours.low < ours.value < ours.high
    assert metrics.confusion.sum() == 211


def test_classes_without_a_video_do_not_count() -> None:
    probabilities = torch.eye(4)[[0, 0, 0, 3]]  # class 3 is predicted once where there is none of it
    metrics = measure(probabilities, torch.tensor([0, 0, 0, 1]))
    assert metrics.mean_class_accuracy.value == pytest.approx(0.5)  # classes 0 and 1: 100% and 0%
    assert metrics.top1.value == pytest.approx(0.75)


def test_balanced_classes_give_the_class_mean_the_interval_of_top1() -> None:
    labels = torch.arange(5).repeat(20)
    metrics = measure(torch.rand(100, 5), labels)
    assert metrics.mean_class_accuracy.value == pytest.approx(metrics.top1.value)
    assert metrics.mean_class_accuracy.low == pytest.approx(metrics.top1.low)
    assert metrics.mean_class_accuracy.high == pytest.approx(metrics.top1.high)


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """1000 evaluations of a classifier that is right with known odds, on unbalanced classes."""
    torch.manual_seed(1)
    odds, sizes = torch.tensor([0.9, 0.6, 0.75]), torch.tensor([60, 15, 30])
    labels = torch.repeat_interleave(torch.arange(3), sizes)
    held = 0
    for _ in range(1000):
        right = torch.rand(len(labels)) < odds[labels]
        predicted = torch.where(right, labels, (labels + 1) % 3)
        interval = measure(torch.eye(3)[predicted], labels).mean_class_accuracy
        held += interval.low <= odds.mean() <= interval.high
    assert 930 <= held <= 985


def test_of_equally_probable_classes_the_first_is_predicted() -> None:
    """As `argmax` does, which predictions.csv and the averages over classes use; topk takes any of them."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randint(0, 3, (200, 50), generator=generator).float()
    labels = torch.randint(0, 50, (200,), generator=generator)
    found = most_probable(scores, 5)
    assert torch.equal(found[:, 0], scores.argmax(1))
    assert torch.equal(scores.gather(1, found), scores.topk(5).values)
    assert (found.diff(dim=1) > 0)[scores.gather(1, found).diff(dim=1) == 0].all()
    assert measure(scores, labels).top1.value == pytest.approx((scores.argmax(1) == labels).float().mean().item())
    assert most_probable(scores[:, :3], 5).shape == (200, 3)
