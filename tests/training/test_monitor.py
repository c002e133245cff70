"""The monitored metric: best checkpoint, early stopping and the suggestion for uneven classes."""

from __future__ import annotations

from farfield.training.monitor import best_mode, format_metric, uneven_classes_hint


def test_mode_follows_the_name() -> None:
    modes = {name: best_mode(name) for name in ("val/top1", "val/mean_class_accuracy", "val/loss")}
    assert modes == {"val/top1": "max", "val/mean_class_accuracy": "max", "val/loss": "min"}


def test_losses_are_shown_as_numbers_and_accuracies_in_per_cent() -> None:
    assert format_metric("val/loss", 0.53214) == "0.5321"
    assert format_metric("val/mean_class_accuracy", 0.5) == "50.0%"


def test_mean_class_accuracy_is_suggested_for_uneven_classes() -> None:
    hint = uneven_classes_hint(["fall", "empty", "others"], [6, 0, 19])
    assert hint == (
        "classes are uneven: 'others' has 19 training videos, 'fall' has 6. best.ckpt is chosen by val/top1, in which "
        "large classes count most; --monitor val/mean_class_accuracy counts all classes equally"
    )
    assert uneven_classes_hint(["fall", "empty", "others"], [6, 0, 18]) is None
