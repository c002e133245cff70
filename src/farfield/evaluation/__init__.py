"""Metrics with confidence intervals, calibration, significance, test reports."""
