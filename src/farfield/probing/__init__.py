"""Probes: train heads on the cached features of a frozen network."""
