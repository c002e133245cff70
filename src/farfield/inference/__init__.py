"""Inference on video files: ranked labels, timelines of long videos, collections."""

from farfield.inference.inputs import find_videos
from farfield.inference.loading import Recogniser, load_recogniser
from farfield.inference.predict import Prediction, RankedLabel, predict
from farfield.inference.timeline import Segment, Timeline, timeline

__all__ = [
    "Prediction",
    "RankedLabel",
    "Recogniser",
    "Segment",
    "Timeline",
    "find_videos",
    "load_recogniser",
    "predict",
    "timeline",
]
