from __future__ import annotations

from itertools import combinations

import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from farfield.evaluation.precision_by_views import precision_by_views


def views_of(n: int, views: int, classes: int) -> tuple[Tensor, Tensor]:
    """Random views that lean to the classes that a video has; class 1 has no video."""
    targets = torch.rand(n, classes) < 0.3
    targets[:, 1] = False
    return (torch.randn(n, views, classes) * 1.5 + targets[:, None]).sigmoid(), targets


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mean", "max"])
def test_each_point_is_the_mean_over_all_choices_of_so_many_views(method: str) -> None:
    """The oracle takes every subset of the views, and scikit-learn's average precision."""
    views, targets = views_of(53, 4, 5)
    points = precision_by_views(views, targets, method=method, draws=401)
    assert [point.views for point in points] == [1, 2, 3, 4]
    for point in points:
        total = 0.0
        choices = list(combinations(range(4), point.views))
        for chosen in choices:
            of_views = views[:, chosen].numpy()
            scores = of_views.max(1) if method == "max" else of_views.mean(1)
            found = [average_precision_score(targets[:, c].numpy(), scores[:, c]) for c in (0, 2, 3, 4)]
            total += sum(found) / 4
        assert point.mean_average_precision == pytest.approx(total / len(choices), abs=0.01)
    assert points[-1].mean_average_precision == pytest.approx(total, abs=1e-6)


def test_large_tests_have_fewer_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    views, targets = views_of(53, 4, 5)
    one = precision_by_views(views, targets, draws=1)
    monkeypatch.setattr("farfield.evaluation.precision_by_views._MAX_CELLS", 7)
    assert precision_by_views(views, targets, draws=20) == one
