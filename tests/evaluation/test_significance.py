from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap, ttest_rel

from farfield.evaluation.significance import Difference, paired_bootstrap


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def two_runs(generator: np.random.Generator, odds_a: np.ndarray, odds_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rights and wrongs of two runs that find the same videos hard: half of the videos share their luck."""
    luck = generator.random(len(odds_a))
    own = np.where(generator.random(len(odds_a)) < 0.5, luck, generator.random(len(odds_a)))
    return (luck < odds_a).astype(float), (own < odds_b).astype(float)


def test_interval_is_scipys() -> None:
    a = rng().random(97)
    b = 0.6 * a + 0.5 * np.random.default_rng(12).random(97)
    ours = paired_bootstrap(a, b)
    theirs = bootstrap(
        (a, b),
        lambda a, b, axis: (b - a).mean(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(13),
    )
    close = 0.15 * theirs.standard_error  # an end of 10,000 draws is known to 0.03 standard errors
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=close)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=close)
    assert (ours.a, ours.b, ours.value) == pytest.approx((a.mean(), b.mean(), b.mean() - a.mean()))


@pytest.mark.parametrize("better", [0.0, 0.02, -0.03])
def test_of_many_videos_it_is_the_paired_t_test(better: float) -> None:
    a, b = two_runs(rng(), np.full(2003, 0.7), np.full(2003, 0.7 + better))
    ours, theirs = paired_bootstrap(a, b), ttest_rel(b, a)
    interval = theirs.confidence_interval(0.95)
    close = 0.05 * (interval.high - interval.low)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=close)
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.03)


def test_pairing_drops_what_is_hard_for_both() -> None:
    hard = rng().random(211)
    b = hard + 0.01 * np.random.default_rng(12).random(211)
    paired = paired_bootstrap(hard, b)
    shuffled = paired_bootstrap(hard, np.random.default_rng(13).permutation(b))
    assert shuffled.value == pytest.approx(paired.value)
    assert paired.high - paired.low < (shuffled.high - shuffled.low) / 20


@pytest.mark.parametrize("classes", [None, np.arange(13) % 3])
def test_identical_runs_do_not_differ(classes: np.ndarray | None) -> None:
    scores = rng().random(13)
    difference = paired_bootstrap(scores, scores.copy(), classes=classes, draws=211)
    assert (difference.value, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)


def test_swapped_runs_give_the_opposite() -> None:
    a, b = two_runs(rng(), np.full(101, 0.6), np.full(101, 0.75))
    one, other = paired_bootstrap(a, b, draws=1009), paired_bootstrap(b, a, draws=1009)
    assert (other.value, other.low, other.high) == pytest.approx((-one.value, -one.high, -one.low))
    assert other.p_value == one.p_value


@pytest.mark.slow
def test_interval_holds_the_truth_and_p_is_honest_as_often_as_they_say() -> None:
    """400 comparisons of runs with known odds: where B is better by 0.1, and where there is no difference."""
    generator = rng()
    held = found = 0
    for _ in range(400):
        a, b = two_runs(generator, np.full(101, 0.6), np.full(101, 0.7))
        difference = paired_bootstrap(a, b, draws=401)
        held += difference.low <= 0.1 <= difference.high
        a, b = two_runs(generator, np.full(101, 0.6), np.full(101, 0.6))
        found += paired_bootstrap(a, b, draws=401).p_value < 0.05
    assert 0.91 <= held / 400 <= 0.98
    assert 0.02 <= found / 400 <= 0.085


def test_classes_count_alike_however_large() -> None:
    classes = rng().permutation(np.repeat([3, 7, 11], [401, 97, 211]))  # interleaved, and their numbers no indices
    odds_a, odds_b = ({3: 0.5, 7: 0.9, 11: 0.7}, {3: 0.6, 7: 0.6, 11: 0.8})
    a, b = two_runs(rng(), np.vectorize(odds_a.get)(classes), np.vectorize(odds_b.get)(classes))
    means, variance = {"a": 0.0, "b": 0.0}, 0.0
    for c in (3, 7, 11):
        rows = [row for row in range(709) if classes[row] == c]
        means["a"] += sum(a[row] for row in rows) / len(rows) / 3
        means["b"] += sum(b[row] for row in rows) / len(rows) / 3
        variance += np.var([b[row] - a[row] for row in rows], ddof=1) / len(rows) / 9
    ours = paired_bootstrap(a, b, classes=classes)
    value = means["b"] - means["a"]
    assert (ours.a, ours.b, ours.value) == pytest.approx((means["a"], means["b"], value))
    assert abs(value - (b.mean() - a.mean())) > 0.02  # the mean over videos is another figure
    error = 1.96 * variance**0.5
    assert (ours.low, ours.high) == pytest.approx((value - error, value + error), abs=0.1 * error)


def test_one_class_is_the_mean_over_videos() -> None:
    a, b = two_runs(rng(), np.full(53, 0.6), np.full(53, 0.7))
    assert paired_bootstrap(a, b, classes=np.full(53, 5), draws=503) == paired_bootstrap(a, b, draws=503)


def test_the_seed_decides() -> None:
    a, b = rng().random((2, 53))
    one, same, other = (paired_bootstrap(a, b, draws=701, seed=seed) for seed in (3, 3, 5))
    assert one == same
    assert one.value == other.value
    assert (one.low, one.high) != (other.low, other.high)


def test_batches_of_draws_are_all_filled() -> None:
    """1301 draws of 4,999 videos are two blocks; a draw left at 0 would show where all videos differ by 1."""
    found = paired_bootstrap(np.zeros(4999), np.ones(4999), draws=1301)
    assert found == Difference(0, 1, 1, 1, 1, pytest.approx(1 / 1302))


@pytest.mark.parametrize(("of_a", "of_b"), [(0, 0), (5, 7), (7, 5)])
def test_what_is_not_paired_is_refused(of_a: int, of_b: int) -> None:
    message = rf"^a has {of_a} scores and b has {of_b}\. Give one score per video"
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(np.zeros(of_a), np.zeros(of_b))


@pytest.mark.parametrize(
    "wrong", [{"classes": np.zeros(5, np.int64)}, {"units": torch.arange(5)}], ids=["classes", "units"]
)
def test_a_class_and_a_unit_is_needed_for_each_video(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"^{name} has 5 entries for 13 videos\. Give one per video\."):
        paired_bootstrap(np.zeros(13), np.ones(13), **wrong)


def test_groups_are_drawn_whole() -> None:
    """Scipy draws the differences' sums and sizes of the groups, in pairs, which is a bootstrap over the groups."""
    generator = rng()
    sizes = generator.integers(3, 17, 41)
    groups = np.repeat(np.arange(41), sizes)
    difference = np.repeat(generator.normal(0.1, 0.5, 41), sizes) + generator.normal(0, 0.1, len(groups))
    order = generator.permutation(len(groups))
    sums = np.bincount(groups, difference)
    theirs = bootstrap(
        (sums, sizes),
        lambda sums, sizes, axis: sums.sum(axis) / sizes.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(13),
    )
    a = generator.random(len(groups))
    units = torch.from_numpy(groups[order])
    ours = paired_bootstrap(a[order], (a + difference)[order], units=units)
    close = 0.15 * theirs.standard_error
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=close)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=close)
    single = paired_bootstrap(a[order], (a + difference)[order])
    assert single.high - single.low < (ours.high - ours.low) / 2


@pytest.mark.parametrize(("count", "has_interval"), [(9, False), (10, True)])
def test_too_few_groups_have_no_interval(count: int, has_interval: bool) -> None:
    a, b = two_runs(rng(), np.full(101, 0.6), np.full(101, 0.75))
    found = paired_bootstrap(a, b, units=torch.arange(101) % count, draws=503)
    assert found.value == pytest.approx(b.mean() - a.mean())
    assert [not math.isnan(each) for each in (found.low, found.high, found.p_value)] == [has_interval] * 3
    assert (found.to_dict()["p_value"] is None) is not has_interval


def test_classes_with_a_single_video_do_not_make_it_sure() -> None:
    """101 classes of one video each, no difference between the runs: the interval holds about as often as it says."""
    rng = np.random.default_rng(0)
    holds = 0
    for trial in range(60):
        a, b = (rng.integers(2, size=101).astype(float) for _ in range(2))
        found = paired_bootstrap(a, b, classes=np.arange(101), draws=400, seed=trial)
        holds += found.low <= 0 <= found.high
    assert holds >= 51
