"""Explanations of a network's predictions: attention maps, Grad-CAM, class evidence (logits) over time."""
