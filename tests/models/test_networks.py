from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.video import r3d_18

from exporters.networks import without_repeats
from farfield import build_model
from farfield.errors import FarfieldError
from farfield.layers import BatchNorm3d, GlobalAvgPool3d, NonLocalBlock3d
from farfield.layers.shape_copy import shape_copy
from farfield.models.backbones import BACKBONES, option_defaults
from farfield.models.backbones.backbone import TwoPathwayBackbone, slow_frames
from farfield.models.insertion import BLOCKS, insert_blocks
from farfield.models.network import default_clip
from farfield.models.structure_only import structure_only

CONVOLUTIONAL = [name for name in BACKBONES if not name.startswith(("mvit", "swin3d"))]
"""Those with stages to insert into."""

DEEPER = {
    **{name: name.replace("101", "50") for name in ("c2d_r101", "i3d_r101", "slow_r101", "slowfast_r101")},
    "slowfast_16x8_r101": "slowfast_r50",
    **dict.fromkeys(("x3d_s", "x3d_m", "x3d_l"), "x3d_xs"),
}
"""Networks that the builder of another one makes, with more residual blocks or for other clips."""


def small(name: str) -> tuple[int, int]:
    """Frames and side of about the smallest clip that a network and the blocks in it take."""
    if name.startswith("slowfast"):
        return 8, 32
    return {"s3d": (16, 64), "csn_r101": (8, 32), "r2plus1d_r50": (4, 64)}.get(name, (4, 32))


def narrow(name: str) -> dict[str, int]:
    """Options of a network of few channels, where it has any: its layers and their connections are the same."""
    if name.startswith("tiny"):  # narrow as it is; its width is a factor
        return {}
    few = {"width": 16, "beta_inv": 2}  # of a fast pathway of fewer than 8 channels all may be below zero before a ReLU
    return {option: value for option, value in few.items() if option in option_defaults(name)}


def randomise(module: nn.Module) -> None:
    """Gives norms statistics and scales that matter, so that a lost one shows."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm3d):
            nn.init.uniform_(child.weight, 0.5, 1)
            nn.init.normal_(child.bias, std=0.1)
            child.running_mean.normal_(std=0.1)
            child.running_var.uniform_(0.5, 1.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_have_farfield_norms_and_stages(name: str) -> None:
    with structure_only():
        model = build_model(name, num_classes=7).eval()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert all(isinstance(norm, BatchNorm3d) for norm in norms)
    assert bool(norms) == (name in CONVOLUTIONAL)
    assert isinstance(model.head.pool, GlobalAvgPool3d)
    stages = ["res2", "res3", "res4", "res5"] if name in CONVOLUTIONAL else []
    if name.startswith("slowfast"):
        stages += [f"fast_{stage}" for stage in stages]
    assert list(model.backbone.stages) == stages
    outputs: dict[str, list[int]] = {stage: [] for stage in stages}
    model = shape_copy(model)
    for stage in stages:
        for block in model.backbone.blocks(stage):
            block.register_forward_hook(lambda m, i, y, s=stage: outputs[s].append(y.shape[1]))
    clip = model.clip
    assert model(torch.empty(2, 3, clip.num_frames, clip.crop_px, clip.crop_px, device="meta")).shape == (2, 7)
    assert outputs == {stage: list(spec.channels) for stage, spec in model.backbone.stage_specs.items()}


def test_swapping_norms_keeps_their_state() -> None:
    from farfield.models.backbones.torchvision_networks import replace_batch_norm

    network = r3d_18()
    randomise(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    replace_batch_norm(network)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


EVERY_BLOCK = {
    "object_context": {"num_regions": 5},
    "self_attention": {},
    "dual_attention": {},
    "criss_cross": {},
    "coordinate_attention": {},
    "non_local": {"key_pool": None},
}

# A bias that adds the same to all that a softmax runs over: to the affinities of a query, or to a region's map. In
# training a norm after it would take away the biases before it, too; here norms are in evaluation.
NO_GRADIENT = {
    "non_local": "phi.bias",
    "self_attention": "key.bias",
    "dual_attention": "position.key.bias",
    "criss_cross": "key.bias",
    "object_context": "regions.bias",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONVOLUTIONAL if name not in DEEPER])
def test_every_block_goes_into_every_backbone(name: str) -> None:
    """All six kinds at once: the identity at initialisation; then the gradient reaches every parameter."""
    torch.manual_seed(3)
    frames, side = small(name)
    clip = {"num_frames": frames, "crop_px": side}
    network = build_model(name, num_classes=5, clip=clip, dropout=0.0, backbone_options=narrow(name)).double().eval()
    without_repeats(network, keep=4)
    randomise(network)
    x = torch.randn(2, 3, frames, side, side, dtype=torch.float64)
    with torch.no_grad():
        before = network(x)
    prefix = "fast_" if name.startswith("slowfast") else ""
    places = [("res2", 0), ("res3", 0), ("res3", 1), (prefix + "res3", -1), (prefix + "res4", 0), ("res4", 1)]
    places = [(stage, index % len(network.backbone.blocks(stage))) for stage, index in places]
    if len(set(places)) < 6:  # two blocks a stage
        places = [("res2", 0), ("res2", 1), ("res3", 0), ("res3", 1), ("res4", 0), ("res4", 1)]
    inserted = {}
    for (stage, index), (kind, options) in zip(places, EVERY_BLOCK.items(), strict=True):
        insert_blocks(network.backbone, {stage: [index]}, lambda c, kind=kind, o=options: BLOCKS[kind](c, **o).double())
        inserted[kind] = network.backbone.blocks(stage)[index].inserted
    with torch.no_grad():
        assert torch.equal(network.eval()(x), before)
    for block in inserted.values():  # gamma away from zero, and regions away from each other
        for module in block.modules():
            for parameter in getattr(module, "zero_at_init", ()):
                nn.init.constant_(module.get_parameter(parameter), 0.3)
    regions = inserted["object_context"].regions.weight
    nn.init.normal_(regions, std=2 * regions.shape[1] ** -0.5)
    network.zero_grad()
    scores = network(x)
    assert (scores - before).abs().max() > 0
    scores.square().sum().backward()
    silent = set()
    for kind, block in inserted.items():
        sizes = {key: 0.0 if p.grad is None else float(p.grad.abs().max()) for key, p in block.named_parameters()}
        silent |= {f"{kind}: {key}" for key, size in sizes.items() if size < 1e-12 * max(sizes.values())}
    expected = {f"{kind}: {key}" for kind, key in NO_GRADIENT.items()}
    # Where the features of all regions are on one side of a ReLU, its bias adds the same to all of them.
    assert silent - {"object_context: psi.1.bias"} == expected
    outside = [k for k, p in network.named_parameters() if ".inserted." not in k and p.grad.abs().max() == 0]
    assert not outside


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONVOLUTIONAL if name not in DEEPER and name != "s3d"])
def test_a_dilated_backbone_computes_the_same_at_every_fourth_position(name: str) -> None:
    torch.manual_seed(3)
    strided, dilated = BACKBONES[name](**narrow(name)).eval(), BACKBONES[name](**narrow(name), dilated=True).eval()
    randomise(strided)
    dilated.load_state_dict(strided.state_dict())
    frames, _ = small(name)
    x = torch.randn(1, 3, frames, 64, 64)
    with torch.no_grad():
        few, many = strided(x), dilated(x)
    pairs = zip(few, many, strict=True) if isinstance(few, list) else [(few, many)]
    for a, b in pairs:
        assert b.shape[3] == 4 * a.shape[3]
        torch.testing.assert_close(b[..., ::4, ::4], a, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DEEPER if name not in ("x3d_s", "x3d_m")])  # x3d_xs for other clips
def test_a_deeper_dilated_backbone_has_an_eighth_of_the_resolution(name: str) -> None:
    with torch.device("meta"), torch.no_grad():
        dilated = BACKBONES[name](**narrow(name), dilated=True).eval()
        maps = dilated(torch.empty(1, 3, small(name)[0], 64, 64))
    assert {each.shape[3:] for each in (maps if isinstance(maps, list) else [maps])} == {(8, 8)}


def test_networks_without_strides_in_blocks_cannot_be_dilated() -> None:
    with pytest.raises(FarfieldError, match=r"backbone 's3d' has no option 'dilated'. This backbone has no options"):
        build_model("s3d", num_classes=5, backbone_options={"dilated": True})


@pytest.mark.slow
def test_slowfast_packs_its_slow_frames_as_pyslowfast_does() -> None:
    backbone = build_model("slowfast_r50", num_classes=5, backbone_options={"width": 8}).backbone
    taken = []
    backbone.trunk.register_forward_pre_hook(lambda module, inputs: taken.extend(inputs[0]))
    backbone.eval()(torch.arange(32.0).view(1, 1, 32, 1, 1).expand(1, 3, 32, 32, 32).contiguous())
    assert slow_frames(32, 8) == [0, 4, 8, 13, 17, 22, 26, 31]
    assert taken[0].shape[2] == 8
    assert taken[1].shape[2] == 32
    with pytest.raises(FarfieldError, match=r"frames divisible by alpha=4; given 30"):
        build_model("slowfast_r50", num_classes=5, clip={"num_frames": 30})


def test_slow_frames_are_those_of_a_linspace_in_float32() -> None:
    for frames in range(1, 130):
        for count in range(1, frames + 1):
            assert slow_frames(frames, count) == torch.linspace(0, frames - 1, count).long().tolist()
    assert slow_frames(160, 40) == torch.linspace(0, 159, 40).long().tolist()  # one is 52: 53 without rounding


def test_both_pathways_are_packed_in_one_compiled_graph() -> None:
    class Trunk(nn.Module):
        def forward(self, pathways: list[torch.Tensor]) -> list[torch.Tensor]:
            return [pathway * 2 for pathway in pathways]

    backbone = TwoPathwayBackbone(Trunk(), {}, default_clip("slowfast_r50"), out_channels=6, alpha=4)
    clips = torch.randn(1, 3, 32, 2, 2)
    compiled = torch.compile(backbone, backend="eager", fullgraph=True)
    for found, expected in zip(compiled(clips), backbone(clips), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "mvit_v2_s", "insert": "nl5"}, "insert is 'nl5', but this network has no stages"),
        ({"backbone": "mvit_v2_s", "insert": {"res3": [0]}}, "no stage 'res3'. This network has no stages"),
        ({"backbone": "r3d_18", "insert": "nl5"}, "places blocks at .*no residual block 3 in res3: this network has 2"),
        ({"backbone": "i3d_r50", "insert": "nl3_r101"}, "no residual block 6 in res4: this network has 6"),
        ({"backbone": "s3d", "insert": "nl10"}, "no residual block 2 in res3"),
        ({"backbone": "i3d_r50", "backbone_options": {"widht": 8}}, "no option 'widht'.*Did you mean 'width'"),
        ({"backbone": "tiny", "backbone_options": {"filters": 8}}, "no option 'filters'. Known: depth, width"),
        (
            {"backbone": "slowfast_r50", "backbone_options": {"width": 12}},
            "width is 12 and beta_inv is 8; width must be divisible by beta_inv",
        ),
        (
            {"backbone": "i3d_r50", "backbone_options": {"temporal_kernels": [[2], [1], [1], [1]]}},
            "give a list of odd kernel lengths",
        ),
        (
            {"backbone": "mvit_v2_s", "clip": {"crop_px": 192}},
            r"mvit_v2_s .* cannot take clips of 16 frames of 192 px: .*\d\. Change clip.num_frames or clip.crop_px\.$",
        ),
        (
            {"backbone": "slowfast_r50", "clip": {"num_frames": 3}},
            r"given 3\. Change the number of frames\. Change clip.num_frames or clip.crop_px\.$",
        ),
    ],
)
def test_unknown_networks_are_refused(arguments: dict, message: str) -> None:
    with torch.device("meta"), pytest.raises(FarfieldError, match=message):
        build_model(num_classes=5, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"block": "criss_cross"},
            "block is 'criss_cross' with options {}, but insert is None, so no block is inserted. Set insert",
        ),
        ({"block_options": {"scale": False}}, "but insert is None, so no block is inserted"),
        (
            {"insert": {"res3": [0]}, "block": "dual_attention", "block_options": {"ndim": 2}},
            "always have 3 axes. Leave ndim out",
        ),
        (
            {"insert": {"res3": [0]}, "block": "criss_cross", "block_options": {"pases": 2}},
            "block 'criss_cross' has no option 'pases'. Known: .* Did you mean 'passes'",
        ),
        ({"insert": {"res3": [0]}, "block": "dual"}, "block is 'dual', which does not exist"),
    ],
)
def test_invalid_block_options_are_refused(arguments: dict, message: str) -> None:
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
        ("nl5_r101", {"res3": [1, 3], "res4": [6, 13, 20]}),
        ("nl3_r101", {"res4": [6, 13, 20]}),
    ],
)
def test_presets_are_the_published_places(preset: str, places: dict[str, list[int]]) -> None:
    with torch.device("meta"):
        model = build_model("c2d_r101" if "r101" in preset else "c2d_r50", num_classes=2, insert=preset)
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
def test_tiny_has_the_documented_temporal_receptive_field(name: str, frames: int) -> None:
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
        ({"insert": {"res3": [2]}}, "no residual block 2 in res3: this network has 2 there. Choose from 0 to 1"),
        ({"insert": {"res3": [1, 1]}}, "residual block 1 of res3 is given twice"),
        ({"insert": "nl5"}, r"insert='nl5' places blocks at .*no residual block 3 in res3"),
        ({"insert": "{res3:1}"}, "insert is the text '{res3:1}', not a mapping. Give lists of block indices, e.g. "),
        ({"insert": "nl6"}, "insert is 'nl6', which is not a preset. Known: nl1, nl5, nl10, nl5_r101, nl3_r101"),
        ({"insert": {"res3": [1]}, "block": "nonlocal"}, "block is 'nonlocal'.*Did you mean 'non_local'"),
        (
            {"insert": {"res3": [1]}, "block_options": {"pool": 2}},
            "block 'non_local' has no option 'pool'. Known: .* Did you mean 'key_pool'",
        ),
        ({"clip": {"num_frame": 3}}, "clip has no setting 'num_frame'.*Did you mean 'num_frames'"),
        ({"clip": {"num_frames": 0}}, "clip.num_frames is 0; it must be at least 1"),
        ({"clip": {"num_frames": "8"}}, "clip.num_frames is '8'; it must be a whole number"),
        ({"clip": {"frame_stride": 1.5}}, "clip.frame_stride is 1.5; it must be a whole number"),
        ({"clip": {"num_clips": True}}, "clip.num_clips is True; it must be a whole number"),
        ({"clip": {"test_crop_px": math.inf}}, "clip.test_crop_px is inf; it must be a whole number, or null"),
        ({"clip": {"target_fps": math.nan}}, "clip.target_fps is nan; it must be a positive number, or null"),
        ({"clip": {"mean": [math.nan, 0.4, 0.4]}}, r"clip.mean is \[nan, 0.4, 0.4\] .* each must be three numbers"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"num_classes": None}, "labels is None and num_classes is None"),
        ({"num_classes": 1}, "num_classes is 1. Set labels, or num_classes to at least 2"),
        ({"labels": ["a", "a"], "num_classes": None}, "has repeated names: a"),
        ({"labels": ["a", "b"]}, "num_classes is 5, but the number of labels is 2"),
    ],
)
def test_invalid_networks_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        build_model(**{"backbone": "tiny", "num_classes": 5} | arguments)


def test_whole_numbers_of_a_clip_may_be_floats() -> None:
    clip = build_model("tiny", num_classes=2, clip={"num_frames": 4.0, "num_clips": np.float32(2)}).clip
    assert (clip.num_frames, clip.num_clips) == (4, 2)
    assert (type(clip.num_frames), type(clip.num_clips)) == (int, int)


def test_clips_of_a_backbone_are_known_without_building_it() -> None:
    assert default_clip("r3d_18").crop_px == 112
    assert default_clip("slow_r50").span == 57
    assert default_clip("i3d_r50", {"stem_temporal_strides": [2, 2]}).num_frames == 32
