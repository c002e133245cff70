"""Blocks after the last stage, and the attentive head, which pools by a learned query."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from farfield import build_model, load_model, save_model
from farfield.errors import FarfieldError
from farfield.interpretability.block_activations import record_activations
from farfield.interpretability.class_evidence import class_evidence
from farfield.interpretability.grad_cam import default_stages, grad_cam
from farfield.models.frame_levels import find_levels
from farfield.models.network import ActionNet
from farfield.models.summary import summarise
from farfield.training.gradient_norms import gradient_norms, stages_of

CLIP = (1, 3, 4, 64, 64)


def tiny(**options) -> ActionNet:
    return build_model("tiny", num_classes=3, clip={"num_frames": 4, "crop_px": 64}, **options).eval()


def awake(network: ActionNet) -> ActionNet:
    """Give the blocks' norms a weight, with which they are not the identity."""
    for name, parameter in network.named_parameters():
        if name.endswith("inserted.norm.weight"):
            nn.init.ones_(parameter)
    return network


def test_blocks_on_top_change_the_map_that_the_head_pools() -> None:
    network = tiny(insert={"res3": [1], "top": 2})
    plain = tiny(insert={"res3": [1]})
    plain.load_state_dict({key: value for key, value in network.state_dict().items() if ".top." not in key})
    x = torch.randn(2, *CLIP[1:])
    assert torch.equal(network(x), plain(x))  # new blocks are the identity
    awake(network)
    features = plain.backbone(x)
    for pair in network.backbone.top_blocks():
        features = pair.inserted(features)
    assert not torch.equal(network(x), plain(x))
    awake(plain)
    expected = plain.backbone(x)
    for pair in network.backbone.top_blocks():
        expected = pair.inserted(expected)
    torch.testing.assert_close(network(x), network.head(expected))


def test_each_pathway_gets_blocks_of_its_own_width() -> None:
    network = build_model(
        "slowfast_r50",
        num_classes=3,
        insert={"top": 1, "fast_top": 2},
        backbone_options={"width": 8},
        clip={"num_frames": 8, "crop_px": 64},
    )
    (slow,), fast = network.backbone.top_blocks("top"), network.backbone.top_blocks("fast_top")
    maps = network.backbone(torch.randn(2, 3, 8, 64, 64))
    assert [slow.inserted.theta.in_channels, fast[0].inserted.theta.in_channels] == [each.shape[1] for each in maps]
    assert [row.part for row in summarise(network).rows][-4:] == [
        "top[0] non_local", "fast_top[0] non_local", "fast_top[1] non_local", "head",
    ]  # fmt: skip
    assert default_stages(network.eval()) == ["top", "fast_top"]


@pytest.mark.slow
def test_a_saved_network_has_its_blocks_and_its_head(tmp_path: Path) -> None:
    network = awake(tiny(insert={"top": 1}, head="attentive", head_options={"num_heads": 8, "depth": 2}))
    save_model(network, tmp_path / "a.ckpt")
    x = torch.randn(CLIP)
    loaded = load_model(tmp_path / "a.ckpt", for_training=True)
    with torch.inference_mode():
        assert torch.equal(loaded(x), network(x))
        torch.testing.assert_close(load_model(tmp_path / "a.ckpt")(x), network(x))
    assert loaded.config["head_options"] == {"num_heads": 8, "depth": 2}
    longer = tiny(weights=tmp_path / "a.ckpt", insert={"top": 1})
    assert (longer.config["head"], longer.config["head_options"]) == ("attentive", {"num_heads": 8, "depth": 2})
    assert torch.equal(longer(x), network(x))


@pytest.mark.slow
def test_weights_of_another_head_keep_the_trunk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "farfield")
    plain, attentive = tmp_path / "plain.ckpt", tmp_path / "attentive.ckpt"
    save_model(tiny(), plain)
    save_model(tiny(head="attentive"), attentive)
    x = torch.randn(CLIP)
    for path, head in ((plain, "attentive"), (attentive, "gap_fc")):
        network = tiny(weights=path, head=head, insert={"top": 1})
        assert network.config["head"] == head
        trained = load_model(path, for_training=True)
        assert torch.equal(network.backbone(x), trained.backbone(x))
        assert not torch.equal(network.head.fc.weight, trained.head.fc.weight)  # trained on other features
        assert "the classifier of 3 classes is replaced by a new one of 3 classes" in caplog.messages[0]
        caplog.clear()


@pytest.mark.parametrize(
    "changed", [{"num_heads": 2}, {"depth": 1}, {"depth": 3}, {"mlp_ratio": 2.0}, {"norm_eps": 0.1}]
)
def test_an_attentive_head_of_other_options_has_a_new_pooling(changed: dict, tmp_path: Path, caplog) -> None:
    options = {"head": "attentive", "head_options": {"num_heads": 4, "depth": 2, "mlp_ratio": 1.0}}
    small = {"backbone_options": {"width": 0.25}}
    pretrained = tiny(**options, **small)
    save_model(pretrained, tmp_path / "a.ckpt")
    with caplog.at_level("INFO", "farfield"):
        same = tiny(weights=tmp_path / "a.ckpt", head_options={"num_heads": 4, "norm_eps": 1e-6})
        assert "new, random" not in caplog.text
        other = tiny(weights=tmp_path / "a.ckpt", head_options=changed)
    assert "the attentive head's pooling has new, random weights" in caplog.text
    query = "head.attentive_pools.0.query"
    assert torch.equal(same.state_dict()[query], pretrained.state_dict()[query])
    assert not torch.equal(other.state_dict()[query], pretrained.state_dict()[query])
    for name, value in pretrained.backbone.state_dict().items():
        assert torch.equal(other.backbone.state_dict()[name], value)


def test_regions_stay_if_their_number_is_given(tmp_path: Path) -> None:
    top = {"insert": {"top": 1}, "block": "object_context", "backbone_options": {"width": 0.25}}
    clip = {"num_frames": 4, "crop_px": 64}
    pretrained = build_model("tiny", labels=["run", "jump", "sit"], clip=clip, **top).eval()
    awake(pretrained)
    save_model(pretrained, tmp_path / "a.ckpt")
    kept = {"block_options": {"num_regions": 3}}
    network = build_model("tiny", labels=["run", "sit"], weights=tmp_path / "a.ckpt", clip=clip, **top, **kept).eval()
    x = torch.randn(2, *CLIP[1:])
    torch.testing.assert_close(network(x), pretrained(x)[:, [0, 2]])


def test_gradients_of_blocks_on_top_have_a_row() -> None:
    network = tiny(insert={"top": 1}).train()
    network(torch.randn(2, *CLIP[1:])).sum().backward()
    assert stages_of(network) == ["stem", "res2", "res3", "res4", "res5", "top", "head"]
    expected = torch.cat([p.grad.flatten() for p in network.backbone.top_blocks().parameters()]).norm()
    assert gradient_norms(network)["top"] == pytest.approx(float(expected))


def test_they_are_explained_like_other_blocks() -> None:
    network, clip = awake(tiny(insert={"res3": [1], "top": 1})), torch.randn(CLIP)
    found = record_activations(network, clip, class_index=1)
    assert [each.name for each in found] == ["res3[1]", "top[0]"]
    assert torch.equal(found[1].x, network.backbone.trunk(clip))
    (stage,) = default_stages(network)
    cam = grad_cam(network, clip, label="1", stage=stage)
    # With a pooled linear classifier, Grad-CAM of the last map is the class's weights times the features.
    features = network.backbone(clip)[0].detach()
    expected = torch.einsum("k,kthw->thw", network.head.fc.weight[1].detach(), features).relu()
    torch.testing.assert_close(cam.values / cam.values.max(), expected / expected.max())
    assert class_evidence(network, clip).scores.mean(0) == pytest.approx(network(clip)[0].detach())
    pooled = class_evidence(tiny(head="attentive"), clip)
    assert str(pooled).startswith("no evidence over time: the attentive head")


def test_windows_share_the_frames_below_blocks_on_top() -> None:
    options = {"num_classes": 3, "clip": {"num_frames": 4, "crop_px": 64}}
    network = build_model("tiny_c2d", insert={"top": 1}, **options).eval()
    plain = build_model("tiny_c2d", **options).eval()
    levels, expected = find_levels(network), find_levels(plain)
    assert levels is not None
    assert expected is not None
    assert len(levels.levels[0].layers) == len(expected.levels[0].layers)
    assert network.backbone.top_blocks()[0] in levels.rest


@pytest.mark.parametrize(
    ("backbone", "options", "reason"),
    [
        ("tiny", {"insert": {"top": [1]}}, r"insert has top: \[1\]; give the number of blocks"),
        ("tiny", {"insert": {"top": 0}}, r"insert has top: 0; give the number"),
        ("tiny", {"insert": {"res3": 1}}, r"insert is {'res3': 1}; give lists of block indices"),
        ("tiny", {"insert": {"fast_top": 1}}, r"there is no stage 'fast_top'\. .*top"),
        ("mvit_v2_s", {"insert": {"top": 1}}, r"the features of this network have no positions"),
        ("tiny", {"head": "attentive", "head_options": {"num_heads": 7}}, "number of channels is 256; num_heads must"),
        ("tiny", {"head": "attentive", "head_options": {"heads": 8}}, r"'heads', which does not exist. .*num_heads"),
        ("tiny", {"head": "attentive", "head_options": {"norm_eps": "1e-6"}}, r"norm_eps: '1e-6'; it must be a number"),
        ("tiny", {"head": "attentive", "head_options": {"num_heads": 8.0}}, r"num_heads: 8\.0; it must be a whole"),
        ("tiny", {"head": "attentive", "head_options": {"depth": True}}, r"depth: True; it must be a whole"),
        ("tiny", {"head": "attentive", "head_options": {"norm_eps": -1}}, r"norm_eps is -1; it must be above 0"),
        ("tiny", {"head": "attentive", "head_options": {"mlp_ratio": math.inf}}, r"mlp_ratio is inf; it must be"),
        ("tiny", {"head": "attentive", "head_options": {"mlp_ratio": 1e-3}}, r"mlp_ratio is 0.001; it must be"),
        (
            "tiny",
            {"insert": {"top": 1}, "block_options": {"num_heads": 2.0}},
            r"has num_heads: 2.0; give a whole number",
        ),
        (
            "tiny",
            {"insert": {"top": 1}, "block": "criss_cross", "block_options": {"passes": 2.0}},
            r"passes: 2.0; give",
        ),
        (
            "tiny",
            {"insert": {"top": 1}, "block": "object_context", "block_options": {"key_channels": -1}},
            r"does not take the options",
        ),
        ("tiny", {"insert": ["top"]}, r"insert is \['top'\]"),
        ("tiny", {"insert": {"res3": None}}, r"res3"),
        ("tiny", {"insert": {"res3": [1.0]}}, r"res3"),
        ("tiny", {"insert": {"res3": [True]}}, r"res3"),
        ("tiny", {"head_options": {"depth": 2}}, r"head is 'gap_fc', which has no options"),
        ("tiny", {"head": "attentive", "head_windows": [[1, 1, 1]]}, r"leave it out for 'gap_fc' and 'attentive'"),
    ],
)
def test_mistakes_are_named(backbone: str, options: dict, reason: str) -> None:
    with pytest.raises(FarfieldError, match=reason), torch.device("meta"):
        build_model(backbone, num_classes=3, **options)
