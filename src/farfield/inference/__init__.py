"""Predict the actions in videos and live streams, and store the results on disk."""
