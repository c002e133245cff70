"""Load a network for inference, score views, aggregate them."""
