"""Evaluation: views averaged to videos, metrics with their intervals, calibration, comparisons and the report."""

from farfield.evaluation.calibration import Calibration, calibration, fit_temperature, scale_temperature
from farfield.evaluation.metrics import Estimate, Metrics, average_views, measure, split_views
from farfield.evaluation.plots import (
    NAMED_CLASSES,
    confused_pairs,
    names_with_numbers,
    plot_confusion,
    plot_reliability,
    plot_views,
)
from farfield.evaluation.report import EvaluationResult, write_report
from farfield.evaluation.scores import Scores, read_scores, write_scores
from farfield.evaluation.significance import Difference, paired_bootstrap
from farfield.evaluation.views import AtViews, accuracy_by_views

__all__ = [
    "NAMED_CLASSES",
    "AtViews",
    "Calibration",
    "Difference",
    "Estimate",
    "EvaluationResult",
    "Metrics",
    "Scores",
    "accuracy_by_views",
    "average_views",
    "calibration",
    "confused_pairs",
    "fit_temperature",
    "measure",
    "names_with_numbers",
    "paired_bootstrap",
    "plot_confusion",
    "plot_reliability",
    "plot_views",
    "read_scores",
    "scale_temperature",
    "split_views",
    "write_report",
    "write_scores",
]
