"""Options of a conversion that the user states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from farfield.clip_spec import ClipOptions
from farfield.models.head import HeadKind


@dataclass
class ConversionOptions:
    """Settings that the user must supply because the checkpoint does not contain them.

    Args:
        backbone: the network, if the weights fit several.
        backbone_options: backbone options that the file does not state, as {alpha: 4}.
        block_options: options of its non-local blocks that the file does not state, as {pairwise: dot_product}.
        head: how larger clips are tested, instead of the origin's way: gap_fc, window_mean, window_softmax_mean.
        clip: changes to the sampling, crops, normalisation and test views of the file or its origin.
        take: which network to convert, if the file holds several, or one beside other weights: the name of its state
            dict, as ema_state_dict, or the prefix of its weights' names, as model_ema. Default: the trained one.
            MMAction2 and Lightning, if they average weights, save the average as state_dict.
    """

    backbone: str | None = None
    backbone_options: dict[str, Any] = field(default_factory=dict)
    block_options: dict[str, Any] = field(default_factory=dict)
    head: HeadKind | None = None
    clip: ClipOptions = field(default_factory=ClipOptions)
    take: str | None = None
