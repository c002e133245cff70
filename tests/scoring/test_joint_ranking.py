"""The ranking of combinations of heads against all combinations."""

from __future__ import annotations

import itertools

import pytest
import torch

from farfield.scoring.joint_ranking import rank_jointly


@pytest.mark.parametrize("sizes", [(4, 7), (2, 3, 5), (6, 2)])
@pytest.mark.parametrize("top_k", [1, 5, 100])
def test_the_ranking_equals_that_of_all_combinations(sizes: tuple[int, ...], top_k: int) -> None:
    heads = [torch.randn(3, size, dtype=torch.float64).softmax(1) for size in sizes]
    places, scores = rank_jointly(heads, top_k)
    for row in range(3):
        every = {
            classes: float(torch.stack([head[row, c] for head, c in zip(heads, classes, strict=True)]).prod())
            for classes in itertools.product(*map(range, sizes))
        }
        expected = sorted(every, key=lambda classes: -every[classes])[:top_k]
        assert [tuple(each) for each in places[row].tolist()] == expected
        assert scores[row].tolist() == pytest.approx([every[classes] for classes in expected])


def test_of_equal_combinations_the_first_is_the_best() -> None:
    places, _ = rank_jointly([torch.full((1, 2), 0.5), torch.full((1, 4), 0.25)], 3)
    assert places[0].tolist() == [[0, 0], [0, 1], [0, 2]]
