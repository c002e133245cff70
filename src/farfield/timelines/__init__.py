"""Sliding windows over untrimmed videos, class probabilities over time, and segments."""
