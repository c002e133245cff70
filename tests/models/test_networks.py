from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.video import r3d_18

from farfield import build_model
from farfield.errors import FarfieldError
from farfield.layers import BatchNorm3d, GlobalAvgPool3d, NonLocalBlock3d
from farfield.models import BACKBONES, BLOCKS, default_clip, insert_blocks

SMALL = {
    "c2d_r50": (2, 32),
    "i3d_r50": (2, 32),
    "slow_r50": (2, 32),
    "r3d_18": (2, 32),
    "tiny": (3, 32),
    "tiny_c2d": (3, 32),
}


def randomise(module: nn.Module) -> None:
    """Gives norms statistics and scales that matter, so that a lost one shows."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm3d):
            nn.init.uniform_(child.weight, 0.5, 1)
            nn.init.normal_(child.bias, std=0.1)
            child.running_mean.normal_(std=0.1)
            child.running_var.uniform_(0.5, 1.5)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_has_our_layers_and_answers_its_stages(name: str) -> None:
    model = build_model(name, num_classes=7, insert={"res3": [1]}).eval()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm3d)]
    assert norms
    assert all(isinstance(norm, BatchNorm3d) for norm in norms)
    assert isinstance(model.head.pool, GlobalAvgPool3d)
    assert list(model.backbone.stages) == ["res2", "res3", "res4", "res5"]
    frames, side = SMALL[name]
    x = torch.randn(2, 3, frames, side, side)
    outputs = {}
    for stage in model.backbone.stages:
        model.backbone.blocks(stage)[-1].register_forward_hook(lambda m, i, y, s=stage: outputs.update({s: y.shape[1]}))
    assert model(x).shape == (2, 7)
    assert outputs == {stage: spec.channels for stage, spec in model.backbone.stage_specs.items()}


@pytest.mark.parametrize(("name", "index"), [("c2d_r50", 6), ("i3d_r50", 6), ("slow_r50", 5)])
def test_weights_of_pytorchvideo_give_its_outputs(name: str, index: int) -> None:
    import pytorchvideo.models.hub as hub

    theirs = getattr(hub, name)(model_num_class=11).eval()
    theirs.blocks[-1].pool = nn.AdaptiveAvgPool3d(1)  # its kernel asks for the training size
    randomise(theirs)
    ours = build_model(name, num_classes=11).eval()
    state = theirs.state_dict()
    for part in ("weight", "bias"):
        state[f"fc.{part}"] = state.pop(f"blocks.{index}.proj.{part}")
    ours.backbone.trunk.load_state_dict({k: v for k, v in state.items() if k.startswith("blocks")})
    ours.head.fc.load_state_dict({k[3:]: v for k, v in state.items() if k.startswith("fc.")})
    x = torch.randn(1, 3, 4, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_weights_of_torchvision_give_its_outputs() -> None:
    theirs = r3d_18(num_classes=11).eval()
    randomise(theirs)
    ours = build_model("r3d_18", num_classes=11).eval()
    state = theirs.state_dict()
    ours.backbone.trunk.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    ours.head.fc.load_state_dict({k[3:]: v for k, v in state.items() if k.startswith("fc.")})
    x = torch.randn(1, 3, 4, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_swapping_norms_keeps_their_state() -> None:
    from farfield.models.backbones import replace_batch_norm

    network = r3d_18()
    randomise(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    replace_batch_norm(network)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("name", BACKBONES)
def test_inserted_blocks_do_not_change_what_a_network_computes(name: str) -> None:
    torch.manual_seed(3)
    plain = build_model(name, num_classes=5).eval()
    randomise(plain)
    frames, side = SMALL[name]
    x = torch.randn(1, 3, frames, side, side)
    with torch.no_grad():
        before = plain(x)
        insert_blocks(plain.backbone, {"res2": [0], "res3": [0, 1], "res4": [1]}, NonLocalBlock3d)
        assert sum(isinstance(m, NonLocalBlock3d) for m in plain.modules()) == 4
        assert torch.equal(plain(x), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": "criss_cross"}, "block is 'criss_cross' with options {}, but insert says nowhere. Give insert"),
        ({"block_options": {"scale": False}}, "but insert says nowhere"),
        (
            {"insert": {"res3": [0]}, "block": "dual_attention", "block_options": {"ndim": 2}},
            "have 3 axes. Leave it out",
        ),
        (
            {"insert": {"res3": [0]}, "block": "criss_cross", "block_options": {"pases": 2}},
            "block 'criss_cross' has no option 'pases'. Known: .* Did you mean 'passes'",
        ),
        ({"insert": {"res3": [0]}, "block": "dual"}, "block is 'dual', which does not exist"),
    ],
)
def test_blocks_that_go_nowhere_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        build_model("tiny", num_classes=5, **arguments)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_can_be_inserted_by_name(block: str) -> None:
    network = build_model("tiny", num_classes=5, insert={"res3": [0], "res4": [1]}, block=block).eval()
    assert sum(isinstance(m, type(BLOCKS[block](8, **network.config["block_options"]))) for m in network.modules()) == 2
    plain = build_model("tiny", num_classes=5).eval()
    state = {key.replace(".residual", ""): value for key, value in network.state_dict().items()}
    plain.load_state_dict({key: value for key, value in state.items() if key in plain.state_dict()})
    x = torch.randn(1, 3, 8, 32, 32)
    assert torch.equal(network(x), plain(x))


@pytest.mark.parametrize(
    ("preset", "places"),
    [
        ("nl1", {"res4": [4]}),
        ("nl5", {"res3": [1, 3], "res4": [1, 3, 5]}),
        ("nl10", {"res3": [0, 1, 2, 3], "res4": [0, 1, 2, 3, 4, 5]}),
    ],
)
def test_presets_are_the_papers_places(preset: str, places: dict[str, list[int]]) -> None:
    with torch.device("meta"):
        model = build_model("c2d_r50", num_classes=2, insert=preset)
    found = {
        stage: [i for i, block in enumerate(blocks) if any(isinstance(m, NonLocalBlock3d) for m in block.modules())]
        for stage, blocks in model.backbone.stages.items()
    }
    assert {stage: where for stage, where in found.items() if where} == places


def test_parameters_are_the_published_counts() -> None:
    """The first three are PyTorchVideo's, the last is PySlowFast's I3D_NLN_8x8_R50."""
    counts = {}
    with torch.device("meta"):
        for name, insert in (("c2d_r50", None), ("i3d_r50", None), ("slow_r50", None), ("i3d_r50", "nl5")):
            counts[name, insert] = sum(
                p.numel() for p in build_model(name, num_classes=400, insert=insert).parameters()
            )
    assert counts == {
        ("c2d_r50", None): 24_327_632,
        ("i3d_r50", None): 28_043_472,
        ("slow_r50", None): 32_454_096,
        ("i3d_r50", "nl5"): 35_401_936,
    }


@pytest.mark.parametrize(("name", "frames"), [("tiny", 13), ("tiny_c2d", 1)])
def test_tinys_temporal_receptive_field_is_what_it_says(name: str, frames: int) -> None:
    """A frame outside it changes nothing in the features of the first frame; the last inside does."""
    backbone = build_model(name, num_classes=2).backbone.eval()
    randomise(backbone)
    x = torch.randn(1, 3, 16, 32, 32, requires_grad=True)
    backbone(x)[:, :, 8].square().sum().backward()
    reached = x.grad.abs().amax((0, 1, 3, 4)) > 0
    assert reached.nonzero().flatten().tolist() == list(range(8 - frames // 2, 8 + frames // 2 + 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "i3d_r5"}, "backbone is 'i3d_r5', which does not exist.*Did you mean 'i3d_r50'"),
        ({"insert": {"res6": [0]}}, "there is no stage 'res6'. Known: res2, res3, res4, res5"),
        ({"insert": {"res3": [2]}}, "no residual block 2 in res3: this network has 2 there, 0 to 1"),
        ({"insert": {"res3": [1, 1]}}, "a block at res3, 1 is asked for twice"),
        ({"insert": "nl5"}, r"insert='nl5' places blocks at .*no residual block 3 in res3"),
        ({"insert": "nl6"}, "insert is 'nl6', which is no preset. Known: nl1, nl5, nl10"),
        ({"insert": {"res3": [1]}, "block": "nonlocal"}, "block is 'nonlocal'.*Did you mean 'non_local'"),
        (
            {"insert": {"res3": [1]}, "block_options": {"pool": 2}},
            "block 'non_local' has no option 'pool'. Known: .* Did you mean 'key_pool'",
        ),
        ({"clip": {"num_frame": 3}}, "clip has no 'num_frame'.*Did you mean 'num_frames'"),
        ({"clip": {"num_frames": 0}}, "clip.num_frames is 0; it must be at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"num_classes": None}, "needs labels or num_classes"),
        ({"num_classes": 1}, "at least 2; num_classes is 1"),
        ({"labels": ["a", "a"], "num_classes": None}, "all different"),
        ({"labels": ["a", "b"]}, "num_classes is 5, but there are 2 labels"),
    ],
)
def test_impossible_networks_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        build_model(**{"backbone": "tiny", "num_classes": 5} | arguments)


def test_clips_of_a_backbone_are_known_without_building_it() -> None:
    assert default_clip("r3d_18").crop_px == 112
    assert default_clip("slow_r50").span == 57
