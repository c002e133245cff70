"""Explanations: what a position of a clip attends to."""

from farfield.explain.attention import AttentionMap, attention_maps, draw_attention

__all__ = ["AttentionMap", "attention_maps", "draw_attention"]
