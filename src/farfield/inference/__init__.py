"""Predictions for videos, timelines, live streams, and results on disk."""
