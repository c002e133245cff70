from __future__ import annotations

import numpy as np
import pytest
import torch

from farfield.evaluation.resampling import resample_weights
from farfield.evaluation.split_resampling import SplitValues, number_of_units, resample_splits, shared_units


def hits(n: int, share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < share).astype(float)


def interval(drawn: np.ndarray) -> float:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(high - low)


def test_units_are_groups_of_all_splits_or_videos() -> None:
    paths = [["a", "b", "c"], ["c", "d"]]
    units, by_group = shared_units(paths, [["x", None, "y"], ["y", "x"]])
    assert by_group
    assert [each.tolist() for each in units] == [[0, 1, 2], [2, 0]]
    assert number_of_units(units) == 3
    units, by_group = shared_units(paths, [["x", None, "y"], None])  # one test without groups
    assert not by_group
    assert [each.tolist() for each in units] == [[0, 1, 2], [2, 3]]
    units, by_group = shared_units([["a", "a"], ["group x"]], [None, None])  # segments of one video
    assert not by_group
    assert [each.tolist() for each in units] == [[0, 0], [1]]


def test_each_draw_is_the_metric_of_the_videos_that_were_drawn() -> None:
    """Against loops over the videos, repeated as often as they were drawn."""
    rng = np.random.default_rng(3)
    units = [torch.from_numpy(rng.integers(0, 13, size)) for size in (17, 23, 11)]
    values = [rng.random(len(each)) for each in units]
    classes = [rng.integers(0, 5, len(each)) + (place == 2) for place, each in enumerate(units)]
    top = [SplitValues(each) for each in values]
    by_class = [SplitValues(each, of) for each, of in zip(values, classes, strict=True)]
    drawn = resample_splits([top, by_class], units, draws=37, seed=7)
    weights = torch.cat(list(resample_weights(torch.arange(13), draws=37, seed=7)), 1).int().numpy()
    for draw in range(37):
        figures: list[list[float]] = [[], []]
        shares = []
        for of_split, unit, of in zip(values, units, classes, strict=True):
            rows = [row for row, u in enumerate(unit.tolist()) for _ in range(weights[u, draw])]
            shares.append(len(rows) / len(of_split))
            figures[0].append(np.mean([of_split[row] for row in rows]))
            present = sorted({of[row] for row in rows})
            means = [np.mean([of_split[row] for row in rows if of[row] == c]) for c in present]
            figures[1].append(np.mean(means))
        for metric, of_splits in zip(drawn, figures, strict=True):
            assert metric[:3, draw] == pytest.approx(of_splits, abs=1e-6)
            assert metric[3, draw] == pytest.approx(np.average(of_splits, weights=shares), abs=1e-6)


def test_the_metric_without_resampling() -> None:
    values, classes = np.array([1.0, 0, 1, 1, 0]), np.array([4, 4, 4, 9, 2])
    assert SplitValues(values).mean() == pytest.approx(3 / 5)
    assert SplitValues(values, classes).mean() == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_the_same_videos_in_three_splits_are_one_split() -> None:
    same = SplitValues(hits(211, 0.7, 5))
    units, _ = shared_units([[str(i) for i in range(211)]] * 3, [None] * 3)
    (drawn,) = resample_splits([[same] * 3], units, draws=503, seed=0)
    assert drawn[3] == pytest.approx(drawn[0], abs=1e-6)


def test_independent_splits_give_the_interval_of_a_mean_of_independent_proportions() -> None:
    sizes, shares = (307, 401, 503), (0.6, 0.7, 0.8)
    values = [hits(size, share, seed) for seed, (size, share) in enumerate(zip(sizes, shares, strict=True))]
    units, _ = shared_units([[f"{split} {i}" for i in range(size)] for split, size in enumerate(sizes)], [None] * 3)
    (drawn,) = resample_splits([[SplitValues(each) for each in values]], units, draws=10_007, seed=0)
    deviation = sum(each.mean() * (1 - each.mean()) / len(each) for each in values) ** 0.5 / 3
    assert interval(drawn[3]) == pytest.approx(2 * 1.96 * deviation, rel=0.04)


def test_clips_of_a_group_count_as_one_video() -> None:
    one = hits(301, 0.7, 5)
    values, names = np.repeat(one, 4), [f"group {i // 4}" for i in range(4 * 301)]
    widths = []
    for groups in (names, None):
        units, _ = shared_units([[str(i) for i in range(len(values))]] * 2, [groups] * 2)
        (drawn,) = resample_splits([[SplitValues(values)] * 2], units, draws=4001, seed=0)
        widths.append(interval(drawn[2]))
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.08)


def test_splits_of_one_group_each_are_drawn_as_often_as_their_groups() -> None:
    """Leave-one-group-out: the interval of the mean is that of a bootstrap over the splits."""
    values = [hits(29, share, seed) for seed, share in enumerate(np.linspace(0.3, 0.9, 41))]
    names = [[f"group {place}"] * 29 for place in range(41)]
    units, _ = shared_units([[f"{place} {i}" for i in range(29)] for place in range(41)], names)
    (drawn,) = resample_splits([[SplitValues(each) for each in values]], units, draws=4001, seed=0)
    means = [each.mean() for each in values]
    assert drawn[-1].std() == pytest.approx(np.std(means) / 41**0.5, rel=0.05)
    assert np.isnan(drawn[0]).any()
    assert set(drawn[0][~np.isnan(drawn[0])].round(6)) == {round(means[0], 6)}
