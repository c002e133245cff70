"""Inference on video files."""

from farfield.inference.predict import Prediction, RankedLabel, find_videos, predict

__all__ = ["Prediction", "RankedLabel", "find_videos", "predict"]
