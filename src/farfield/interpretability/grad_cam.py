"""Grad-CAM over space and time: a map of the regions of a clip that support a class.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017, with
a map over (t, h, w) instead of (h, w). For a stage's features A_k in channel k, n = t*h*w positions, and the score y of
a class:

    alpha_k = 1/n sum_thw dy / dA_k,thw          eq. 1
    L_thw   = ReLU(sum_k alpha_k A_k,thw)        eq. 2

If the last stage is followed by global pooling and one linear layer with weights w, then alpha_k = w_k / n there. L is
then the CAM of Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, with a ReLU and the
factor 1/n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.errors import FarfieldError, nearest
from farfield.interpretability.block_activations import Middles, grid_middles
from farfield.models.backbones import TwoPathwayBackbone
from farfield.models.backbones.hugging_face import TokenTrunk
from farfield.models.network import ActionNet


@dataclass(frozen=True)
class GradCam:
    """Map of the regions of a clip that support a class.

    Attributes:
        stage: stage of the features, for example "res5".
        label: class that the regions support.
        values: the map L, at least 0. Only ratios of the values are meaningful, because their scale depends on the
            scale of the features.
        middles: middles of the map's positions along t, h and w, as fractions of the clip in [0, 1).
    """

    stage: str
    label: str
    values: Float[Tensor, "t h w"]
    middles: Middles

    @property
    def empty(self) -> bool:
        """Whether the map is 0 everywhere, because no features of this stage support the class."""
        return not bool(self.values.max() > 0)


def default_stages(network: ActionNet) -> list[str]:
    """Return the names of the stages to use for Grad-CAM: the last stage of each pathway.

    There are exceptions; the first that applies decides:

    - No features have positions: the list is empty.
    - The head classifies a class token (an encoder with output "class_token", see `hf`): the list has the name of the
      second-last layer, because the last layer's patch tokens do not affect the class token. With only one layer, the
      list is empty.
    - There are blocks after the last stage, or the backbone has no stages: the list has the names of the features that
      the head pools, such as "top".
    """
    backbone = network.backbone
    stages = list(backbone.stage_specs)
    if not backbone.has_map:
        return token_layers(network)[-2:-1]
    if not stages or any(len(backbone.top_blocks(name)) for name in backbone.tops):
        return list(backbone.tops)
    if isinstance(network.backbone, TwoPathwayBackbone):
        return [next(s for s in reversed(stages) if s.startswith("fast_") is fast) for fast in (False, True)]
    return stages[-1:]


def token_layers(network: ActionNet) -> list[str]:
    """Return the names of the layers whose patch tokens Grad-CAM can use: those of a Hugging Face encoder, else none.

    The layers of torchvision's transformers give no positions.
    """
    return network.backbone.layer_names if isinstance(network.backbone.trunk, TokenTrunk) else []


def label_index(network: ActionNet, label: str) -> int:
    """Return the index of a class in the network's output.

    Raises:
        FarfieldError: for an unknown class.
    """
    if label not in network.labels:
        raise FarfieldError(
            f"label is {label!r}, which is not a class of the network. {nearest(label, network.labels)}"
        )
    return network.labels.index(label)


def grad_cam(network: ActionNet, clip: Float[Tensor, "1 3 t h w"], *, label: str, stage: str) -> GradCam:
    """Compute the Grad-CAM map of one stage. The network's weights get no gradient, and may be frozen.

    Args:
        network: network in evaluation mode, on the device of the clip.
        clip: clip, normalised by `network.clip`.
        label: class to explain.
        stage: stage of the features, or "top" for the features that the head pools. A block inserted after the stage's
            last residual block belongs to the stage. In a Hugging Face encoder, "layer1", "layer2", ... are the patch
            tokens after a layer.

    Raises:
        FarfieldError: for an unknown class or stage.
    """
    index = label_index(network, label)
    kept: list[Tensor] = []

    def cut(_: Any, __: Any, output: Any) -> Any:
        features, *others = output if isinstance(output, tuple) else (output,)  # some layers also return attention
        kept.append(features.detach().requires_grad_())  # stops the gradient here, which saves most of its cost
        copy = kept[0].clone()  # later layers may modify it in place
        return (copy, *others) if isinstance(output, tuple) else copy

    hook = _module_of(network, stage).register_forward_hook(cut)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            score = network(clip.clone())[0, index]
            (gradient,) = torch.autograd.grad(score, kept[0])
    finally:
        hook.remove()
    features = kept[0].detach()
    trunk = network.backbone.trunk
    if isinstance(trunk, TokenTrunk) and stage in token_layers(network):
        features, gradient = (trunk.grid.split(each, clip.shape[2:])[1] for each in (features, gradient))
    features = features[0]
    alpha = gradient[0].mean((1, 2, 3))
    values = torch.einsum("k,kthw->thw", alpha, features).relu().float().cpu()
    return GradCam(stage, label, values, grid_middles(network.backbone, stage, clip.shape[2], values.shape))


def _module_of(network: ActionNet, stage: str) -> nn.Module:
    """Return the module whose outputs are the features of a stage."""
    backbone = network.backbone
    if stage in backbone.tops:
        return backbone.top_blocks(stage)
    if stage in token_layers(network):
        return backbone.layers()[backbone.layer_names.index(stage)]
    return backbone.blocks(stage)[-1]
