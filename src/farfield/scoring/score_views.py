"""Views through a network: uint8 frames in, scores out, and, where asked for, what the classifier sees."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from farfield.data.transforms import network_input
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.scoring.load import InferenceModel


class Scored(NamedTuple):
    """What a network makes of some views.

    Attributes:
        logits: on the network's device, float32 whatever the network computes in.
        features: one vector a view, averaged over the head's windows; None where not asked for.
    """

    logits: Float[Tensor, "views classes"]
    features: Float[Tensor, "views c"] | None


@torch.inference_mode()
def score_views(
    model: InferenceModel, views: UInt8[Tensor, "views t h w c"], *, batch_size: int, features: bool = False
) -> Scored:
    """Runs views through a network, `batch_size` at once, which bounds memory.

    Raises:
        FarfieldError: where features are asked of an exported network.
    """
    model.eval()
    if features and not isinstance(model, ActionNet):
        raise FarfieldError("an exported network gives scores only. Give its checkpoint to get features.")
    logits: list[Tensor] = []
    vectors: list[Tensor] = []
    for some in views.split(batch_size):
        x = network_input(some[None].to(model.device), model.clip).to(model.dtype)
        if features and isinstance(model, ActionNet):
            embedded = model.embed(x)
            vectors.append(embedded.mean(1).float())
            logits.append(model.head.classify(embedded).float())
        else:
            logits.append(model(x).float())
    return Scored(torch.cat(logits), torch.cat(vectors) if features else None)
