"""Networks of farfield and PyTorchVideo with the same weights, for benchmarks of training."""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from pytorchvideo.layers.nonlocal_net import create_nonlocal
from pytorchvideo.models import hub
from torch import Tensor, nn
from torch.nn import functional as F

from farfield import build_model
from farfield.layers import NonLocalBlock3d
from farfield.models.backbones.backbone import TwoPathwayBackbone, slow_frames
from farfield.models.insertion import resolve_placement
from farfield.models.network import ActionNet

NUM_CLASSES = 400

THEIR_NAMES = {
    "residual": "0",
    "inserted.theta": "1.conv_theta",
    "inserted.phi": "1.conv_phi",
    "inserted.g": "1.conv_g",
    "inserted.w_z": "1.conv_out",
    "inserted.norm": "1.norm",
}
"""Names of our network's parts to those of PyTorchVideo's."""


def our_network(backbone: str, insert: str | None, num_frames: int, side_px: int) -> ActionNet:
    """Build a network in farfield's memory format, with weights under which every block changes the logits.

    At initialisation the inserted blocks are the identity, and their attention is nearly uniform.
    """
    clip: Any = {"num_frames": num_frames, "crop_px": side_px}
    network = build_model(backbone, num_classes=NUM_CLASSES, insert=insert, dropout=0.0, clip=clip)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1)
        elif isinstance(module, NonLocalBlock3d):
            for conv in (module.theta, module.phi, module.g, module.w_z):
                assert conv is not None
                nn.init.normal_(conv.weight, std=conv.in_channels**-0.5)
    return network.to(memory_format=torch.channels_last_3d)


def their_network(ours: ActionNet) -> nn.Module:
    """Build PyTorchVideo's network with its own blocks at the same places, our weights and contiguous memory."""
    theirs = getattr(hub, ours.config["backbone"])(model_num_class=NUM_CLASSES, dropout_rate=0.0)
    insert = ours.config["insert"]
    for stage, indices in (resolve_placement(ours.backbone, insert) if insert else {}).items():
        assert not isinstance(indices, int)  # presets have no blocks on top
        for index in indices:
            path, channels = ours.backbone.stage(stage).paths[index], ours.backbone.stage(stage).channels[index]
            # By default the softmax of embedded features, with batch norm, as ours.
            block = create_nonlocal(dim_in=channels, dim_inner=channels // 2, pool_size=(1, 2, 2))
            theirs.set_submodule(path, nn.Sequential(theirs.get_submodule(path), block))
    head = len(theirs.blocks) - 1
    theirs.blocks[head].activation = None  # X3D's softmax; the loss takes logits
    _fit_pools(theirs, ours)
    state = {}
    for key, value in ours.state_dict().items():
        name = key.removeprefix("backbone.trunk.").replace("head.fc.", f"blocks.{head}.proj.")
        name = name.replace("head.embedding.", f"blocks.{head}.pool.")  # X3D's layers around the pooling
        name = re.sub(rf"^blocks\.{head}\.pre_", f"blocks.{head}.pool.pre_", name)
        for our_part, their_part in THEIR_NAMES.items():
            name = name.replace(f".{our_part}.", f".{their_part}.")
        state[name] = value.contiguous()
    theirs.load_state_dict(state)
    return _OfClips(theirs, ours.backbone.alpha) if isinstance(ours.backbone, TwoPathwayBackbone) else theirs


class _OfClips(nn.Module):
    """SlowFast on clips, of which it takes the slow pathway's frames itself, as ours does."""

    def __init__(self, network: nn.Module, alpha: int) -> None:
        super().__init__()
        self.network = network
        self.alpha = alpha

    def forward(self, clips: Tensor) -> Tensor:
        index = slow_frames(clips.shape[2], clips.shape[2] // self.alpha)
        slow = clips.index_select(2, torch.tensor(index, device=clips.device))
        return self.network([slow, clips])


def _fit_pools(theirs: nn.Module, ours: ActionNet) -> None:
    """Set the head's pooling windows, which are those of the hub's own clips, to the size of our feature maps."""
    clip = torch.empty(1, 3, ours.clip.num_frames, ours.clip.crop_px, ours.clip.crop_px, device="meta")
    features = copy.deepcopy(ours.backbone).to("meta").eval()(clip)
    maps = features if isinstance(features, list) else [features]
    pools = [each for each in theirs.modules() if isinstance(each, nn.AvgPool3d)]
    for pool, features in zip(pools, maps, strict=True):
        pool.kernel_size = tuple(features.shape[2:])


def must_be_the_same(ours: ActionNet, theirs: nn.Module, clips: Tensor, labels: Tensor) -> dict[str, float]:
    """Measure the differences of the logits in evaluation and of the first loss, relative to the largest.

    Raises:
        AssertionError: for more than 1e-4, in which case there is nothing to compare.
    """
    networks = [copy.deepcopy(network).double() for network in (ours, theirs)]
    with torch.no_grad():
        outputs = {
            "logits": [network.eval()(clips.double()) for network in networks],
            "first loss": [F.cross_entropy(network.train()(clips.double()), labels) for network in networks],
        }
    apart = {what: float((a - b).abs().max() / b.abs().max()) for what, (a, b) in outputs.items()}
    for what, difference in apart.items():
        assert difference < 1e-4, f"{what}: the two networks are {difference:.1e} apart; they do not compute the same."
    return apart
