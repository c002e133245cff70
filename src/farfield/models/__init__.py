"""Networks: backbones by name, blocks inserted into them, a head, and checkpoints, ours and others'."""

from farfield.models.backbones import BACKBONES, Backbone
from farfield.models.build import build_model, resolve_clip
from farfield.models.checkpoint import describe, load_model, read_checkpoint, save_model
from farfield.models.inference_form import for_inference
from farfield.models.insertion import BLOCKS, PRESETS, insert_blocks
from farfield.models.network import ActionNet, default_clip
from farfield.models.weights import restrict_labels

__all__ = [
    "BACKBONES",
    "BLOCKS",
    "PRESETS",
    "ActionNet",
    "Backbone",
    "build_model",
    "default_clip",
    "describe",
    "for_inference",
    "insert_blocks",
    "load_model",
    "read_checkpoint",
    "resolve_clip",
    "restrict_labels",
    "save_model",
]
