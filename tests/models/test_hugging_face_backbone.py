"""Encoders of `transformers` as backbones: where their tokens are, and how deep their layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from farfield import build_model
from farfield.errors import FarfieldError
from farfield.interpretability.grad_cam import default_stages, grad_cam
from farfield.models.backbones.hugging_face import ChannelLayerNorm
from farfield.models.network import ActionNet, build_backbone
from farfield.models.published_results import published_figures
from farfield.models.summary import summarise
from farfield.training.freezing import freeze_parts
from farfield.training.gradient_norms import gradient_norms, stages_of
from farfield.training.layer_decay import learning_rate_scales
from farfield.training.optimisation import Optimisation
from hugging_face import FAMILIES, config_entries

DEPTHS: list[tuple[str, dict[str, Any], int]] = [
    ("videomae", {}, 2),
    ("vivit", {}, 2),
    ("vjepa2", {}, 2),
    ("timesformer", {}, 1),
    ("timesformer", {"attention_type": "space_only"}, 1),
]
"""Families, entries of their config, and the frames of one token."""
LARGER: Any = {"crop_px": 64, "short_side_px": 64}

pytestmark = pytest.mark.dependency


def network(kind: str, *, output: str = "map", **entries: Any) -> ActionNet:
    pytest.importorskip("transformers")
    options = {"config": config_entries(kind, **entries), "output": output}
    return build_model("hf", num_classes=3, backbone_options=options)


@pytest.mark.parametrize(
    ("kind", "entries", "depth"), [*DEPTHS, ("timesformer", {"attention_type": "joint_space_time"}, 1)]
)
def test_a_patch_changes_the_map_where_it_is(kind: str, entries: dict[str, Any], depth: int) -> None:
    """Without layers, a token depends on its own patch only."""
    backbone = build_backbone("hf", {"config": config_entries(kind, num_hidden_layers=0, **entries)}).double().eval()
    clip = torch.randn(2, 3, 4, 48, 48).double()
    before = backbone(clip)
    assert before.shape == (2, 24, 4 // depth, 3, 3)
    for t, h, w in ((0, 1, 2), (4 // depth - 1, 2, 0)):
        changed = clip.clone()
        changed[1, :, t * depth : (t + 1) * depth, 16 * h : 16 * h + 16, 16 * w : 16 * w + 16] += 1
        moved = (backbone(changed) - before).abs().amax(1) > 1e-9
        assert moved.nonzero().tolist() == [[1, t, h, w]]


@pytest.mark.parametrize("kind", FAMILIES)
def test_depths_follow_the_layers(kind: str) -> None:
    made = network(kind)
    assert made.backbone.depth_names == ["stem", "layer1", "layer2"]
    scales = learning_rate_scales(made, 0.5)
    rates = {}
    for name, scale in scales.items():
        part = "layer0" if ".layer.0." in name or ".layers.0." in name else "layer1" if ".1." in name else name
        rates.setdefault(part, set()).add(scale)
    assert rates.pop("layer0") == {0.25}
    assert rates.pop("layer1") == {0.5}
    assert {scale for name, each in rates.items() for scale in each if "embeddings" in name} == {0.125}
    assert rates["head.fc.weight"] == {1.0}
    freeze_parts(made, Optimisation(freeze_through="layer1"))
    trained = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, scale in scales.items() if scale > 0.25}
    made(torch.randn(2, 3, 4, 48, 48)).square().sum().backward()
    assert set(gradient_norms(made)) == {"layer2", "head"}
    assert stages_of(made) == ["stem", "layer1", "layer2", "head"]


def test_only_averaged_tokens_are_normalised_again() -> None:
    """VideoMAE's fc_norm takes the place of the norm of each token."""
    assert isinstance(network("videomae").head.embedding, ChannelLayerNorm)
    assert isinstance(network("videomae", output="class_token").head.embedding, nn.Identity)
    assert isinstance(network("videomae", use_mean_pooling=False).head.embedding, nn.Identity)


def test_layers_do_not_exist_in_other_networks() -> None:
    with pytest.raises(FarfieldError, match="freeze_through is 'layer7', which is not a stage of this network"):
        freeze_parts(network("vivit"), Optimisation(freeze_through="layer7"))


@pytest.mark.parametrize("kind", FAMILIES)
def test_costs_are_counted(kind: str) -> None:
    made = network(kind, output="class_token")
    assert not made.backbone.has_map
    found = summarise(made)
    assert found.parameters == sum(parameter.numel() for parameter in made.parameters())
    tokens = 2 * 9
    assert found.multiply_adds > tokens * 24 * 24  # more than one linear layer over all patches


def test_no_result_is_published_for_a_block_on_top() -> None:
    options = {"config": config_entries("videomae")}
    made = build_model("hf", num_classes=3, backbone_options=options, insert={"top": 1})
    assert published_figures(made) is None


def test_mistakes_in_options() -> None:
    with pytest.raises(FarfieldError, match="backbone 'hf' has no config"):
        build_model("hf", num_classes=3)
    with pytest.raises(FarfieldError, match=r"output is 'maps'\. Known: map, class_token"):
        network("vivit", output="maps")
    with pytest.raises(FarfieldError, match=r"has no entry 'hiden_size'\..* Did you mean 'hidden_size'"):
        network("vivit", hiden_size=24)
    with pytest.raises(FarfieldError, match="model_type is 'bert', which is not a video encoder"):
        build_model("hf", num_classes=3, backbone_options={"config": {"model_type": "bert"}})
    for content in (3, {"model_type": ["vivit"]}, {}):
        with pytest.raises(FarfieldError, match="which is not a video encoder"):
            build_model("hf", num_classes=3, backbone_options={"config": content})
    with pytest.raises(FarfieldError, match="the config of ViViT is invalid"):
        network("vivit", hidden_act="mystery")
    with pytest.raises(FarfieldError, match=r"this V-JEPA 2 takes frames of 48 px, the crop_size in its config"):
        build_model("hf", num_classes=3, backbone_options={"config": config_entries("vjepa2")}, clip=LARGER)
    with pytest.raises(FarfieldError, match="V-JEPA 2 takes a number of frames that is a multiple of 2"):
        build_model("hf", num_classes=3, backbone_options={"config": config_entries("vjepa2")}, clip={"num_frames": 5})
    with pytest.raises(FarfieldError, match="or of any size that gives a multiple of 3 patches per frame"):
        build_model("hf", num_classes=3, backbone_options={"config": config_entries("timesformer")}, clip=LARGER)
    options = {"config": config_entries("vivit"), "output": "class_token"}
    with pytest.raises(FarfieldError, match="have no positions to attend to"):
        build_model("hf", num_classes=3, backbone_options=options, insert={"top": 1})


@pytest.mark.parametrize(("kind", "entries", "depth"), DEPTHS)
def test_grad_cam_of_a_class_token_is_that_of_the_patches_that_it_sees(
    kind: str, entries: dict[str, Any], depth: int
) -> None:
    """The map follows from the gradient of the score with respect to the patch tokens, added to a layer's output."""
    made = network(kind, output="class_token", **entries).double().eval().requires_grad_(False)
    assert default_stages(made) == ["layer1"]
    clip = torch.randn(1, 3, 4, 48, 48).double()
    found = grad_cam(made, clip, label="1", stage="layer1")
    assert found.values.shape == (4 // depth, 3, 3)
    layer = made.backbone.trunk.get_submodule(made.backbone.layer_paths[0])
    seen = {}

    def add(_: Any, __: Any, output: Any) -> Any:
        tokens = output[0] if isinstance(output, tuple) else output
        seen["tokens"] = tokens
        seen["added"] = torch.zeros_like(tokens, requires_grad=True)
        changed = tokens + seen["added"]
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    with torch.enable_grad():
        hook = layer.register_forward_hook(add)
        made(clip)[0, 1].backward()
    hook.remove()
    before = 1 if kind in ("vivit", "timesformer") else 0
    gradient, tokens = (each.flatten(0, 1) if entries else each[0] for each in (seen["added"].grad, seen["tokens"]))
    if entries:  # a class token in each frame
        keep = [i for i in range(len(tokens)) if i % 10]
        gradient, tokens = gradient[keep], tokens[keep]
    else:
        gradient, tokens = gradient[before:], tokens[before:]
    expected = (tokens @ gradient.mean(0)).relu()
    order = (3, 3, 4) if kind == "timesformer" and not entries else (4 // depth, 3, 3)
    expected = expected.reshape(order)
    expected = expected.permute(2, 0, 1) if kind == "timesformer" and not entries else expected
    assert torch.allclose(found.values.double(), expected, rtol=1e-5, atol=1e-12)
    assert float(expected.max()) > 0
