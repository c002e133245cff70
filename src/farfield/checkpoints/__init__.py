"""Checkpoints: save and load, file safety, hub folders, pretrained weights, converters."""
