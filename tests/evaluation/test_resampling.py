"""Metrics of the bootstrap's resamples against scikit-learn's on weighted samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score
from torch import Tensor

from farfield.evaluation.resampling import (
    resample_weights,
    sample_average_precision,
    sampling_units,
    weighted_decision_metrics,
    weighted_ranking_metrics,
)


def scored(kind: str, n: int = 53, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Random scores that lean to the positives, and targets with about a quarter of positives."""
    targets = torch.rand(n, classes) < 0.25
    scores = (torch.randn(n, classes) + targets).sigmoid()
    if kind == "ties":
        scores = (scores * 7).round() / 7
    if kind == "all equal":
        scores = torch.full_like(scores, 0.5)
    if kind == "one positive":
        targets[:, 1] = torch.arange(n) == 3
    if kind == "all positives":
        targets[:, 2] = True
    return scores, targets


KINDS = ["random", "ties", "all equal", "one positive", "all positives"]


def drawn_weights(n: int, draws: int = 11) -> Tensor:
    return torch.cat(list(resample_weights(torch.arange(n), draws=draws, seed=3)), dim=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_classs_ranking_metrics_are_scikit_learns_on_each_resample(kind: str) -> None:
    scores, targets = scored(kind)
    weights = drawn_weights(53)
    for c in range(5):
        precision, area = weighted_ranking_metrics(scores[:, [c]], targets[:, [c]], weights)
        assert precision.shape == area.shape == (11,)
        for draw in range(11):
            given, w = (targets[:, c].numpy(), scores[:, c].numpy()), weights[:, draw].numpy()
            drawn = np.repeat(targets[:, c].numpy(), w.astype(int))
            if not drawn.any():
                assert precision[draw].isnan()
                assert area[draw].isnan()
                continue
            assert precision[draw].item() == pytest.approx(average_precision_score(*given, sample_weight=w), abs=1e-6)
            if drawn.all():
                assert area[draw].isnan()
                continue
            assert area[draw].item() == pytest.approx(roc_auc_score(*given, sample_weight=w), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_pooled_columns_give_scikit_learns_micro_average(kind: str) -> None:
    scores, targets = scored(kind)
    weights = drawn_weights(53)
    precision, area = weighted_ranking_metrics(scores, targets, weights)
    for draw in range(11):
        options = {"average": "micro", "sample_weight": weights[:, draw].numpy()}
        given = targets.numpy(), scores.numpy()
        assert precision[draw].item() == pytest.approx(average_precision_score(*given, **options), abs=1e-6)
        assert area[draw].item() == pytest.approx(roc_auc_score(*given, **options), abs=1e-6)


def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets = scored("ties")
    weights = drawn_weights(53)
    whole = weighted_ranking_metrics(scores, targets, weights)
    monkeypatch.setattr("farfield.evaluation.resampling._MAX_CELLS", 60)
    assert len(list(resample_weights(torch.arange(53), draws=11, seed=3))) == 11
    assert torch.equal(drawn_weights(53), weights)
    for each, again in zip(whole, weighted_ranking_metrics(scores, targets, weights), strict=True):
        torch.testing.assert_close(each, again, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_decision_metrics_are_scikit_learns_on_each_resample(kind: str) -> None:
    scores, targets = scored(kind)
    decisions = scores > 0.6
    decisions[:, 4] = False
    weights = drawn_weights(53)
    found = weighted_decision_metrics(decisions, targets, weights)
    for ours, theirs in zip(found, (precision_score, recall_score, f1_score), strict=True):
        for draw in range(11):
            w = weights[:, draw].numpy()
            wanted = theirs(targets.numpy(), decisions.numpy(), average=None, sample_weight=w, zero_division=np.nan)
            with_positives = (targets.numpy() * w[:, None]).any(0)
            assert ours[draw].numpy()[with_positives] == pytest.approx(wanted[with_positives], abs=1e-6, nan_ok=True)
            assert np.isnan(ours[draw].numpy()[~with_positives]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_average_precision_of_a_video_is_scikit_learns(kind: str) -> None:
    scores, targets = scored(kind)
    targets[7] = False
    targets[11] = True
    found = sample_average_precision(scores, targets)
    assert found[7].isnan()
    for row in targets.any(1).nonzero().flatten().tolist():
        wanted = average_precision_score(targets[row].numpy(), scores[row].numpy())
        assert found[row].item() == pytest.approx(wanted, abs=1e-6)


def test_units_are_groups_and_videos_without_one() -> None:
    assert sampling_units(None, range(3)).tolist() == [0, 1, 2]
    assert sampling_units(["ann", None, "bob", "ann", None], range(5)).tolist() == [0, 1, 2, 0, 3]
    assert sampling_units(None, ["a.mp4", "b.mp4", "a.mp4"]).tolist() == [0, 1, 0]  # two segments of a.mp4
    assert sampling_units(["ann", None, None, "b.mp4"], ["a.mp4", "b.mp4", "b.mp4", "a.mp4"]).tolist() == [0, 1, 1, 2]


def test_the_videos_of_a_group_are_drawn_together_and_as_many_units_as_there_are() -> None:
    units = torch.tensor([0, 1, 0, 2, 1, 3, 0])
    weights = torch.cat(list(resample_weights(units, draws=101, seed=5)), dim=1)
    assert torch.equal(weights[0], weights[2])
    assert torch.equal(weights[1], weights[4])
    assert not torch.equal(weights[0], weights[1])
    firsts = weights[[0, 1, 3, 5]]
    assert (firsts.sum(0) == 4).all()
    assert firsts.mean(1).numpy() == pytest.approx(np.ones(4), abs=0.3)


@pytest.mark.slow
def test_the_interval_is_scipys() -> None:
    """scipy resamples the pairs of score and target, and scikit-learn measures each resample."""
    scores, targets = scored("random", n=97, classes=1)
    theirs = bootstrap(
        (targets[:, 0].numpy(), scores[:, 0].numpy()),
        average_precision_score,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=1009,
        rng=np.random.default_rng(13),
    )
    ours = weighted_ranking_metrics(scores, targets, drawn_weights(97, draws=4001))[0].double()
    low, high = ours.quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    close = 0.25 * theirs.standard_error
    assert low == pytest.approx(theirs.confidence_interval.low, abs=close)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=close)
