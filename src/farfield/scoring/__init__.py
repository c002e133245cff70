"""Load a network for inference, score the views of videos, and aggregate the scores of each video's views."""
