"""Grad-CAM against CAM, and against a gradient computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from farfield import build_model
from farfield.errors import FarfieldError
from farfield.interpretability.grad_cam import default_stages, grad_cam
from farfield.models.network import ActionNet
from interpretability.test_attention_maps import network, two_pathways

CLIP = (1, 3, 5, 40, 56)


def class_activation_map(made: ActionNet, clip: Tensor, index: int, pathway: int = 0) -> Tensor:
    """Compute CAM (Zhou et al. 2016), relu(sum_c w_c A_c) / n, from the features and the classifier's row."""
    with torch.no_grad():
        features: Any = made.backbone(clip)
    maps = features if isinstance(features, list) else [features]
    first = sum(each.shape[1] for each in maps[:pathway])
    a = maps[pathway][0]
    w = made.head.fc.weight[index, first : first + len(a)].detach()
    return (w[:, None, None, None] * a).sum(0).relu() / a[0].numel()


def test_at_the_last_stage_it_is_cam() -> None:
    made, clip = network().double(), torch.randn(CLIP, dtype=torch.float64)
    with torch.no_grad():
        mean: Any = made.backbone(clip).mean((0, 2, 3, 4))
        w = torch.randn_like(made.head.fc.weight)
        made.head.fc.weight.copy_(w - torch.outer(w @ mean, mean) / mean.square().sum())  # scores around 0
    for index, label in enumerate(made.labels):
        found = grad_cam(made, clip, label=label, stage="res5")
        expected = class_activation_map(made, clip, index)
        assert 0 < int((expected > 0).sum()) < expected.numel()
        torch.testing.assert_close(found.values, expected.float())
        assert (found.stage, found.label, found.empty) == ("res5", label, False)
    assert default_stages(made) == ["res5"]


def test_both_pathways_have_their_own_cam_at_their_own_times() -> None:
    made, clip = two_pathways(), torch.randn(1, 3, 16, 48, 48)
    torch.nn.init.normal_(made.head.fc.weight)
    assert default_stages(made) == ["res5", "fast_res5"]
    for pathway, (stage, steps) in enumerate((("res5", 4), ("fast_res5", 16))):
        found = grad_cam(made, clip, label=made.labels[2], stage=stage)
        torch.testing.assert_close(
            found.values, class_activation_map(made, clip, 2, pathway), rtol=1e-3, atol=float(found.values.max()) * 1e-4
        )
        assert len(found.values) == steps
    slow = grad_cam(made, clip, label=made.labels[2], stage="res5")
    assert slow.middles[0] * 16 == pytest.approx([0.5, 5.5, 10.5, 15.5])


def test_at_an_earlier_stage_the_gradient_passes_the_later_ones() -> None:
    """The oracle runs the blocks of res4 and res5 by hand and averages the gradient by loops."""
    made, clip = network(), torch.randn(CLIP)
    torch.nn.init.normal_(made.head.fc.weight)
    with torch.no_grad():
        features = clip
        for block in list(made.backbone.trunk.blocks)[:3]:  # type: ignore[arg-type]  # stem, res2, res3
            features = block(features)
    features = features.requires_grad_()
    later: Tensor = features
    for stage in ("res4", "res5"):
        for block in made.backbone.blocks(stage):
            later = block(later)
    later.mean((2, 3, 4)).matmul(made.head.fc.weight[1])[0].backward()
    assert features.grad is not None
    a, slope = features[0].detach().numpy(), features.grad[0].numpy()
    expected = np.zeros(a.shape[1:])
    for k in range(len(a)):
        expected += slope[k].sum() / a[0].size * a[k]
    found = grad_cam(made, clip, label=made.labels[1], stage="res3")
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.values.numpy(), np.maximum(expected, 0), atol=1e-4 * scale)
    assert expected.max() > 0


def test_the_network_is_unchanged_also_if_frozen_or_without_gradients() -> None:
    made, clip = network(), torch.randn(CLIP)
    expected = grad_cam(made, clip, label="1", stage="res4").values
    assert all(parameter.grad is None for parameter in made.parameters())
    made.requires_grad_(False)
    with torch.inference_mode():
        found = grad_cam(made, clip.clone(), label="1", stage="res4").values
    torch.testing.assert_close(found, expected)
    assert not any(module._forward_hooks for module in made.modules())


def test_a_map_without_support_is_empty() -> None:
    made = network()
    torch.nn.init.constant_(made.head.fc.weight, -1.0)  # features are not negative
    assert grad_cam(made, torch.randn(CLIP), label="0", stage="res5").empty


@pytest.mark.slow
def test_unknown_labels_and_stages_are_refused() -> None:
    made, clip = network(), torch.randn(CLIP)
    with pytest.raises(FarfieldError, match=r"label is 'on', which is not a class of the network\. Known: 0, 1, 2\."):
        grad_cam(made, clip, label="on", stage="res5")
    with pytest.raises(FarfieldError, match=r"there is no stage 'res6'\. Known: res2, res3, res4, res5\."):
        grad_cam(made, clip, label="1", stage="res6")
    transformer = build_model("swin3d_t", num_classes=3)
    assert default_stages(transformer) == []
    with pytest.raises(FarfieldError, match=r"there is no stage 'res5'\. This network has no stages\."):
        grad_cam(transformer, clip, label="1", stage="res5")
