from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import ResNet, resnet50
from torchvision.models.resnet import Bottleneck

from farfield import build_model
from farfield.errors import FarfieldError


def image_network() -> nn.Module:
    """torchvision's ResNet with norms that matter."""
    torch.manual_seed(5)
    network = resnet50()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.6)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def r50(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    network = image_network()
    path = tmp_path_factory.mktemp("imagenet") / "resnet50.pth"
    torch.save(network.state_dict(), path)
    return network, path


def features_of(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    body = nn.Sequential(*list(network.children())[:-2])
    with torch.no_grad():
        return body(images)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "frames", "first"), [("c2d_r50", 4, 0), ("slow_r50", 20, 9), ("i3d_r50", 40, 9)])
def test_a_video_of_one_repeated_frame_gives_the_image_networks_features(name, frames, first, r50) -> None:
    """Everywhere for C2D; for the others from the first position at which no kernel reaches over the ends of the clip.

    Slow has nine kernels of 3 in time, in res4 and res5: a position sees 9 frames to either side. I3D's reach 2 (stem)
    and 3 (res2) frames, and, once time is halved, 2 + 3 + 1 positions: position 9 sees frames from 0 on.
    """
    theirs, path = r50
    ours = build_model(name, num_classes=5, weights=path, insert="nl5").double().eval()
    image = torch.randn(1, 3, 40, 56, dtype=torch.float64)
    expected = features_of(theirs.double(), image)
    with torch.no_grad():
        features = ours.backbone(image.unsqueeze(2).expand(-1, -1, frames, -1, -1))
    steps = features.shape[2]
    assert steps - 2 * first >= 2
    for step in features[:, :, first : steps - first].unbind(2):
        torch.testing.assert_close(step, expected, rtol=0, atol=1e-7)  # a third is rounded in float32
    if first:
        assert (features[:, :, 0] - expected).abs().max() > 1e-3  # so that the above says something


@pytest.mark.slow
def test_r101_is_inflated_into_r101_only(tmp_path: Path, r50) -> None:
    with torch.device("meta"):
        names = ResNet(Bottleneck, [3, 4, 23, 3]).state_dict()
    state = {name: torch.zeros_like(value, device="cpu") for name, value in names.items()}  # random ones take seconds
    image = state["layer3.22.conv1.weight"].normal_()
    torch.save(state, tmp_path / "resnet101.pth")
    network = build_model("i3d_r101", num_classes=5, weights=tmp_path / "resnet101.pth")
    torch.testing.assert_close(network.backbone.blocks("res4")[22].branch2.conv_a.weight.sum(2), image)
    with torch.device("meta"):
        with pytest.raises(FarfieldError, match=r"have an entry layer3.6.conv1.weight, which i3d_r50 does not have"):
            build_model("i3d_r50", num_classes=5, weights=tmp_path / "resnet101.pth")
        with pytest.raises(FarfieldError, match=r"lacks weights of i3d_r101: \d+ in all"):
            build_model("i3d_r101", num_classes=5, weights=r50[1])
        with pytest.raises(FarfieldError, match=r"weights of an image network, which cannot be inflated to r3d_18"):
            build_model("r3d_18", num_classes=5, weights=r50[1])
