"""Predictions for videos and live streams, and results on disk."""
