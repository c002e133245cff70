"""Options that the user sets for a conversion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from farfield.clip_spec import ClipOptions
from farfield.models.head_kinds import HeadKind


@dataclass
class ConversionOptions:
    """Settings of a conversion. Most are needed only if the checkpoint does not contain them.

    Args:
        backbone: name of the backbone, needed if the weights fit several networks.
        backbone_options: backbone options that the file does not state, such as {alpha: 4}.
        block_options: options of the non-local blocks that the file does not state, such as {pairwise: dot_product}.
        task: single_label (softmax over the classes) or multilabel (sigmoid of each class), if the file does not state
            it. Default: single_label.
        head: how clips larger than in training are scored: gap_fc averages all features before the classifier;
            window_mean classifies windows of the training size, and averages their logits; window_softmax_mean
            averages the windows' probabilities. Default: as in the original project.
        clip: clip settings (sampling, crops, normalisation, test views) that override those in the file, or those that
            the project uses by default.
        take: which network to convert, for a file that holds several networks, or one network and further weights. Give
            the key of the network's state dict, such as ema_state_dict, or the prefix of the network's weight names,
            such as model_ema. Default: the trained weights rather than an average over the training, such as an EMA.
            Exception: if MMAction2 or Lightning averaged the weights, they store the average as state_dict, and the
            average is the default.
    """

    backbone: str | None = None
    backbone_options: dict[str, Any] = field(default_factory=dict)
    block_options: dict[str, Any] = field(default_factory=dict)
    task: Literal["single_label", "multilabel"] | None = None
    head: HeadKind | None = None
    clip: ClipOptions = field(default_factory=ClipOptions)
    take: str | None = None
