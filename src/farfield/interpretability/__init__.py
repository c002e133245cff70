"""What a network looked at: attention maps, Grad-CAM, class evidence over time."""
