"""Converters: read other projects' checkpoints, and write checkpoints for them."""
