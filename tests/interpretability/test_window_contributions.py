from __future__ import annotations

import numpy as np
import pytest

from farfield.errors import FarfieldError
from farfield.interpretability.window_contributions import draw_windows, window_contributions

PROBABILITIES = np.array([[0.9, 0.1, 0], [0.2, 0.5, 0.3], [0.7, 0.2, 0.1], [0.6, 0, 0.4]])


def test_a_contribution_is_the_change_of_the_mean_without_the_window() -> None:
    found = window_contributions(PROBABILITIES, 1)
    assert found is not None
    for window in range(4):
        without = np.delete(PROBABILITIES, window, axis=0).mean(0)[1]
        assert found[window] == pytest.approx(PROBABILITIES.mean(0)[1] - without)
    assert window_contributions(PROBABILITIES[:1], 0) is None


def test_of_a_maximum_only_the_highest_window_has_a_contribution() -> None:
    assert window_contributions(PROBABILITIES, 0, "max") == pytest.approx([0.9 - 0.7, 0, 0, 0])
    assert window_contributions(PROBABILITIES[[1, 3, 1]], 2, "max") == pytest.approx([0, 0.4 - 0.3, 0])
    assert window_contributions(PROBABILITIES[[1, 1, 0]], 1, "max") == pytest.approx([0, 0, 0])  # two are highest
    assert window_contributions(PROBABILITIES[:1], 0, "max") is None


def test_the_class_of_the_contributions_is_drawn_even_if_it_is_not_among_the_most_probable() -> None:
    labels = ["walk", "bow", "sit"]
    figure = draw_windows([0, 2, 4, 6], [3, 5, 7, 9], PROBABILITIES, labels, top_k=1, aggregation="max")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["walk  90.0%"]
    assert figure.axes[0].get_legend().get_title().get_text() == "class and its maximum"
    figure = draw_windows([0, 2, 4, 6], [3, 5, 7, 9], PROBABILITIES, labels, top_k=1, contributions_to=2)
    probabilities, gains = figure.axes
    names = [text.get_text() for text in probabilities.get_legend().get_texts()]
    assert names == ["walk  60.0%", "sit  20.0%"]
    expected = window_contributions(PROBABILITIES, 2)
    assert expected is not None
    assert [100 * gain for gain in expected] == pytest.approx([bar.get_height() for bar in gains.containers[0]])  # type: ignore[union-attr]


def test_windows_are_drawn_at_their_seconds_and_the_best_classes_come_first() -> None:
    labels = ["walk", "$x$", "sit"]
    figure = draw_windows([0, 2, 4, 6], [3, 5, 7, 9], PROBABILITIES, labels, top_k=2, explained=2, title="$")
    figure.canvas.draw()
    probabilities, gains = figure.axes
    lines = {tuple(np.round(segment.ravel(), 6)) for c in probabilities.collections for segment in c.get_segments()}  # type: ignore[attr-defined]
    assert (2.0, 0.2, 5.0, 0.2) in lines  # walk, in the second window
    assert (6.0, 0.6, 9.0, 0.6) in lines
    assert len(lines) == 8
    names = [text.get_text() for text in probabilities.get_legend().get_texts()]
    assert names == ["walk  60.0%", "$x$  20.0%"]
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in gains.containers[0]]  # type: ignore[union-attr]
    assert [at for at, _ in bars] == pytest.approx([1.5, 3.5, 5.5, 7.5])
    assert [height for _, height in bars] == pytest.approx([10, -40 / 3, 10 / 3, 0], abs=1e-9)
    assert gains.get_xlabel() == "seconds"


def test_windows_of_the_same_time_are_drawn_side_by_side() -> None:
    figure = draw_windows([0, 0.1, 0.2, 0.3], [9.7, 9.8, 9.9, 10], PROBABILITIES, ["a", "b", "c"])
    assert figure.axes[-1].get_xlabel() == "window"
    assert figure.axes[-1].get_xticks().tolist() == [1, 2, 3, 4]  # type: ignore[union-attr]


def test_one_window_has_no_contributions_and_zero_windows_are_refused() -> None:
    assert len(draw_windows([0], [3], PROBABILITIES[:1], ["a", "b", "c"], explained=0).axes) == 1
    with pytest.raises(FarfieldError, match="given 1 start_seconds, 2 end_seconds and 4 rows of probabilities"):
        draw_windows([0], [3, 4], PROBABILITIES, ["a", "b", "c"])
