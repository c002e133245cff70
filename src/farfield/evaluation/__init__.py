"""Evaluation: views averaged to videos, metrics with their intervals, and the report."""

from farfield.evaluation.metrics import Estimate, Metrics, average_views, measure
from farfield.evaluation.plots import plot_confusion
from farfield.evaluation.report import EvaluationResult, write_report

__all__ = ["Estimate", "EvaluationResult", "Metrics", "average_views", "measure", "plot_confusion", "write_report"]
