"""Networks: backbones by name, blocks inserted into them, a head, and checkpoints."""

from farfield.models.backbones import BACKBONES, Backbone
from farfield.models.checkpoint import describe, load_model, read_checkpoint, save_model
from farfield.models.insertion import BLOCKS, PRESETS, insert_blocks
from farfield.models.network import ActionNet, build_model, default_clip

__all__ = [
    "BACKBONES",
    "BLOCKS",
    "PRESETS",
    "ActionNet",
    "Backbone",
    "build_model",
    "default_clip",
    "describe",
    "insert_blocks",
    "load_model",
    "read_checkpoint",
    "save_model",
]
