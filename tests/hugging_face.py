"""Small random video encoders of Hugging Face's `transformers`, saved as it saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

NAMES = ["run", "jump", "wave", "sit", "fall"]
SMALL: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "videomae": ("VideoMAE", {"image_size": 48, "num_frames": 4, "intermediate_size": 32}),
    "timesformer": ("Timesformer", {"image_size": 48, "num_frames": 4, "intermediate_size": 32}),
    "vivit": ("Vivit", {"image_size": 48, "num_frames": 4, "intermediate_size": 32, "tubelet_size": [2, 16, 16]}),
    "vjepa2": (
        "VJEPA2",
        {
            "crop_size": 48,
            "frames_per_clip": 4,
            "pred_hidden_size": 24,
            "pred_num_hidden_layers": 1,
            "pred_num_attention_heads": 3,
        },
    ),
}
"""First part of the names of the classes, and entries of the config, by model_type."""


def config_entries(kind: str, **entries: Any) -> dict[str, Any]:
    """Return the entries of a small encoder's config, as `backbone_options.config` takes them."""
    return {"model_type": kind, **SMALL, **FAMILIES[kind][1], **entries}


def make_config(kind: str, *, labels: list[str] = NAMES, **entries: Any) -> Any:
    """Make a config of `transformers` for clips of 4 frames of 48 px in patches of 16 px."""
    transformers = pytest.importorskip("transformers")
    prefix, own = FAMILIES[kind]
    named = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    return getattr(transformers, f"{prefix}Config")(**SMALL, **named, **{**own, **entries})


def make_model(kind: str, suffix: str = "ForVideoClassification", **entries: Any) -> Any:
    """Make a network of `transformers` whose weights are large enough for every part to matter."""
    import transformers

    config = make_config(kind, **entries)
    model = getattr(transformers, FAMILIES[kind][0] + suffix)(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def save(model: Any, folder: Path) -> Path:
    """Save a network of `transformers` without its progress bar; return the folder."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(folder)
    return folder


def their_scores(model: Any, clips: torch.Tensor) -> torch.Tensor:
    """Compute the scores of a network of `transformers` for clips b c t h w."""
    with torch.no_grad():
        return model(clips.transpose(1, 2)).logits
