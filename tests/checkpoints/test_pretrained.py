from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from farfield import build_model, export
from farfield.build import resolve_clip
from farfield.checkpoints.checkpoint import load_network, save_model
from farfield.errors import FarfieldError
from farfield.models.class_subset import classifier_rows, restrict_labels

LABELS = ["air drumming", "archery", "bowling", "clapping"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose every weight differs from those of a fresh network."""
    torch.manual_seed(11)
    clip = {"num_frames": 4, "crop_px": 40, "mean": (0.1, 0.2, 0.3)}
    options = {"key_pool": None}
    network = build_model("tiny", labels=LABELS, insert={"res3": [1]}, block_options=options, clip=clip)
    for parameter in network.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    path = tmp_path_factory.mktemp("weights") / "trained.ckpt"
    save_model(network, path)
    return path


def same_features(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    x = torch.randn(2, 3, 4, 40, 40)
    with torch.no_grad():
        return torch.equal(a.eval().backbone(x), b.eval().backbone(x))


def test_new_classes_get_a_new_classifier_and_a_log_line(trained: Path, caplog) -> None:
    with caplog.at_level(logging.INFO, "farfield"):
        network = build_model("tiny", labels=["left", "right"], weights=trained, insert={"res3": [1]})
    assert same_features(network, load_network(trained))
    assert network.clip == load_network(trained).clip
    assert network.config["block_options"] == {"key_pool": None}
    [line] = [record.getMessage() for record in caplog.records]
    assert line.endswith("the classifier of 4 classes is replaced by a new one of 2 classes")


def test_known_classes_keep_their_classifier_rows(trained: Path, caplog) -> None:
    old = load_network(trained)
    with caplog.at_level(logging.INFO, "farfield"):
        network = build_model("tiny", labels=["Bowling", "air_drumming"], weights=trained, insert={"res3": [1]}).eval()
    assert network.labels == ["Bowling", "air_drumming"]
    x = torch.randn(2, 3, 4, 40, 40)
    torch.testing.assert_close(network(x), old(x)[:, [2, 0]])
    assert "the classifier's rows of 2 classes are kept" in caplog.text
    same = build_model("tiny", weights=trained, insert={"res3": [1]}).eval()
    assert same.labels == LABELS
    assert torch.equal(same(x), old(x))


def test_restricted_network_keeps_the_scores_of_its_classes(trained: Path) -> None:
    whole = load_network(trained)
    part = restrict_labels(whole, ["clapping", "archery"])
    x = torch.randn(2, 3, 4, 40, 40)
    torch.testing.assert_close(part(x), whole(x)[:, [3, 1]])
    assert not part.training
    with pytest.raises(FarfieldError, match=r"no class 'clapings'.*Did you mean 'clapping'"):
        restrict_labels(whole, ["archery", "clapings"])


def test_blocks_may_be_added_to_pretrained_weights_but_not_dropped(trained: Path, caplog) -> None:
    with caplog.at_level(logging.INFO, "farfield"):
        network = build_model("tiny", weights=trained, insert={"res3": [1], "res4": [0]})
    assert same_features(network, load_network(trained))
    assert "inserted blocks without pretrained weights: 1;" in caplog.text
    with pytest.raises(
        FarfieldError, match=r"inserted blocks \(number: 1\) that this network lacks. Build the network with"
    ):
        build_model("tiny", weights=trained)


def test_a_dilated_network_takes_the_same_weights(trained: Path) -> None:
    network = build_model("tiny", weights=trained, insert={"res3": [1]}, backbone_options={"dilated": True}).eval()
    old = load_network(trained)
    x = torch.randn(1, 3, 4, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.backbone(x)[..., ::4, ::4], old.backbone(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"weights": "nowhere.ckpt"},
            "weights is 'nowhere.ckpt', which does not exist. Give the path of a file, or a model",
        ),
        ({"weights": "imagenet"}, "weights is 'imagenet', a model zoo that has no weights for tiny, only for c2d_r50"),
        ({"weights": "pytorchvideo"}, "weights is 'pytorchvideo', a model zoo that has no weights for tiny"),
        (
            {"weights": "torchvision"},
            "weights is 'torchvision', a model zoo that has no weights for tiny, only for r3d_18",
        ),
    ],
)
def test_missing_weights_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        build_model("tiny", num_classes=3, **arguments)


def test_another_networks_weights_are_refused(trained: Path) -> None:
    with pytest.raises(FarfieldError, match=r"backbone is tiny_c2d, but the weights of .* are for tiny and do not fit"):
        build_model("tiny_c2d", weights=trained, insert={"res3": [1]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zoo", "name"), [("torchvision", "mc3_18"), ("pytorchvideo", "x3d_s"), ("imagenet", "c2d_r50")]
)
def test_zoos_are_read_from_torch_hubs_cache(zoo: str, name: str, tmp_path: Path, monkeypatch) -> None:
    """The file that a hub would give, put where torch keeps what it has fetched."""
    from farfield.checkpoints.pretrained import _url

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    url = _url(zoo, name)
    assert url.startswith("https://")
    path = tmp_path / "checkpoints" / url.rsplit("/", 1)[1]
    path.parent.mkdir()
    if zoo == "torchvision":
        from torchvision.models.video import mc3_18

        theirs = mc3_18()
        torch.save(theirs.state_dict(), path)
        stem = theirs.stem[0].weight
    elif zoo == "pytorchvideo":
        from pytorchvideo.models.hub import x3d_s

        theirs = x3d_s()
        torch.save({"model_state": theirs.state_dict()}, path)
        stem = theirs.blocks[0].conv.conv_t.weight
    else:
        from torchvision.models import resnet50

        theirs = resnet50()
        torch.save(theirs.state_dict(), path)
        stem = theirs.conv1.weight.unsqueeze(2)
    network = build_model(name, weights=zoo, num_classes=3, head="gap_fc" if zoo == "imagenet" else None)
    assert torch.equal(next(network.backbone.parameters()), stem)
    assert network.clip == resolve_clip(name, weights=zoo)
    assert network.config["head"] == {"pytorchvideo": "window_softmax_mean"}.get(zoo, "gap_fc")


def test_failed_download_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    from torchvision.models.video import R3D_18_Weights

    monkeypatch.setattr(R3D_18_Weights.KINETICS400_V1.value, "url", (tmp_path / "none" / "r3d.pth").as_uri())
    with pytest.raises(FarfieldError, match=r"cannot be downloaded: .* Download the file elsewhere and give its path"):
        build_model("r3d_18", weights="torchvision")
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.slow
def test_another_projects_file_can_be_used_as_weights(tmp_path: Path) -> None:
    from torchvision.models.video import r3d_18

    theirs = r3d_18(num_classes=9)
    torch.save(theirs.state_dict(), tmp_path / "r3d.pth")
    network = build_model("r3d_18", num_classes=4, weights=tmp_path / "r3d.pth", insert={"res3": [0]}).eval()
    x = torch.randn(1, 3, 4, 48, 48)
    with torch.no_grad():
        theirs = theirs.eval()
        features = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(theirs.stem(x)))))
        torch.testing.assert_close(network.backbone(x), features)


def test_block_options_follow_the_weights_and_cannot_contradict_them(trained: Path) -> None:
    part = build_model("tiny", weights=trained, insert={"res3": [1]}, block_options={"groups": 1})
    assert part.config["block_options"] == {"key_pool": None, "groups": 1}
    refused = ({"pairwise": "dot_product"}, {"scale": False}, {"pool_after_projection": True}, {"key_pool": "paper"})
    for options in (*refused, {"out_bias": False}):
        with pytest.raises(FarfieldError, match=f"block_options has {next(iter(options))}: .* were trained with"):
            build_model("tiny", weights=trained, insert={"res3": [1]}, block_options=options)


@pytest.mark.slow
def test_the_smaller_x3ds_share_weights_but_not_clips(tmp_path: Path, caplog) -> None:
    save_model(build_model("x3d_s", num_classes=3, head="window_mean"), tmp_path / "s.ckpt")
    with caplog.at_level(logging.INFO, "farfield"):
        network = build_model("x3d_m", weights=tmp_path / "s.ckpt")
    assert (network.clip.num_frames, network.clip.crop_px) == (16, 224)
    assert network.config["head_windows"] == [[16, 7, 7]]
    assert network.clip == resolve_clip("x3d_m", weights=tmp_path / "s.ckpt")
    assert "using the weights of x3d_s with the clip settings of x3d_m" in caplog.text
    with pytest.raises(FarfieldError, match=r"backbone is i3d_r50, but the weights of .* are for x3d_s and do not fit"):
        build_model("i3d_r50", weights=tmp_path / "s.ckpt")


@pytest.mark.parametrize(
    ("old", "new", "rows"),
    [
        (["Walk", "walk", "run_a", "run a"], ["Walk", "walk", "run_a", "run a"], [0, 1, 2, 3]),
        (["Walk", "walk", "run"], ["WALK", "run"], None),
        (["a", "b", "c"], ["C", "A"], [2, 0]),
        (["a", "b", "c"], ["c", "d"], None),
        (["0", "1", "2"], ["0", "1", "2"], [0, 1, 2]),
    ],
)
def test_classifier_rows_match_by_name(old: list[str], new: list[str], rows: list[int] | None) -> None:
    assert classifier_rows(old, new) == rows


@pytest.mark.slow
def test_options_that_a_file_does_not_state_can_be_given_with_weights(tmp_path: Path) -> None:
    from checkpoints.test_converters import narrow

    torch.save({"model_state": narrow("pyslowfast_I3D_NLN_8x8_R50")}, tmp_path / "nl.pyth")
    told = {"insert": {"res3": [1, 3], "res4": [1, 3, 5]}, "block_options": {"pairwise": "embedded_gaussian"}}
    network = build_model("i3d_r50", weights=tmp_path / "nl.pyth", **told)
    assert network.config["backbone_options"] == {"width": 8}
    torch.save({"model_state": narrow("pyslowfast_SLOWFAST_8x8_R50")}, tmp_path / "sf.pyth")
    network = build_model("slowfast_r50", weights=tmp_path / "sf.pyth", backbone_options={"alpha": 4})
    clip = resolve_clip("slowfast_r50", weights=tmp_path / "sf.pyth", backbone_options={"alpha": 4})
    assert network.clip == clip


@pytest.mark.slow
def test_equal_class_counts_keep_labels_and_numbers_are_not_names(trained: Path, tmp_path: Path, caplog) -> None:
    network = build_model("tiny", num_classes=4, weights=trained, insert={"res3": [1]})
    assert network.labels == LABELS
    assert torch.equal(network.head.fc.weight, load_network(trained).head.fc.weight)
    save_model(build_model("tiny", num_classes=5), tmp_path / "numbered.ckpt")
    with caplog.at_level(logging.INFO, "farfield"):
        build_model("tiny", num_classes=3, weights=tmp_path / "numbered.ckpt")
    assert "classifier of 5 classes is replaced by a new one of 3" in caplog.text
    part = restrict_labels(load_network(tmp_path / "numbered.ckpt"), ["3", "1"])
    assert torch.equal(part.head.fc.weight, load_network(tmp_path / "numbered.ckpt").head.fc.weight[[3, 1]])


def test_object_context_regions_follow_the_new_classes(tmp_path: Path) -> None:
    where = {"insert": {"res3": [1]}, "block": "object_context"}
    old = build_model("tiny", labels=LABELS, **where)
    save_model(old, tmp_path / "ocr.ckpt")
    new = build_model("tiny", labels=["left", "right"], weights=tmp_path / "ocr.ckpt", **where)
    assert new.backbone.blocks("res3")[1].inserted.regions.out_channels == 2
    kept = build_model("tiny", labels=["clapping", "archery"], weights=tmp_path / "ocr.ckpt", **where)
    regions = old.backbone.blocks("res3")[1].inserted.regions.weight
    assert torch.equal(kept.backbone.blocks("res3")[1].inserted.regions.weight, regions[[3, 1]])
    turned = build_model("tiny", labels=LABELS[::-1], weights=tmp_path / "ocr.ckpt", **where)
    assert torch.equal(turned.backbone.blocks("res3")[1].inserted.regions.weight, regions.flip(0))


@pytest.mark.slow
def test_options_without_a_shape_follow_the_weights(tmp_path: Path) -> None:
    small = {"width": 8, "alpha": 8, "fusion_kernel": 5}
    save_model(build_model("slowfast_r50", num_classes=3, backbone_options=small), tmp_path / "sf.ckpt")
    network = build_model("slowfast_r50", weights=tmp_path / "sf.ckpt")
    assert network.backbone.alpha == 8
    with pytest.raises(FarfieldError, match=r"has alpha: 4, but the weights of .* were trained with 8"):
        build_model("slowfast_r50", weights=tmp_path / "sf.ckpt", backbone_options={"alpha": 4})


@pytest.mark.slow
def test_small_clips_for_weights_of_swin_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_model(build_model("swin3d_t", num_classes=3), tmp_path / "swin.pt")
    for side, count in ((193, 0), (192, 1)):
        build_model("swin3d_t", num_classes=3, weights=tmp_path / "swin.pt", clip={"num_frames": 4, "crop_px": side})
        assert caplog.text.count("with clip.crop_px 192, relative positions mean something else") == count


def test_torchvision_looks_up_other_biases_in_windows_that_are_lower_or_narrower() -> None:
    """The reason of the warning; when this fails, torchvision has mended it."""
    from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

    index = ShiftedWindowAttention3d(8, [8, 7, 7], [0, 0, 0], 1).relative_position_index

    def share_of_other_offsets(t: int, h: int, w: int) -> float:
        n = t * h * w
        right = index.view(8, 7, 7, 8, 7, 7)[:t, :h, :w, :t, :h, :w].reshape(n, n)
        return float((index[:n, :n] != right).float().mean())

    assert share_of_other_offsets(8, 7, 7) == share_of_other_offsets(4, 7, 7) == 0
    assert share_of_other_offsets(8, 6, 6) == pytest.approx(0.985, abs=0.001)


def test_a_folder_for_publishing_is_read_as_the_checkpoint(trained: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "hub", to_folder=True, progress=False)
    options = {"num_classes": 2, "insert": {"res3": [1]}}
    of_file, of_folder = (build_model("tiny", weights=path, **options) for path in (trained, tmp_path / "hub"))
    assert of_file.config == of_folder.config
    assert same_features(of_file, of_folder)
    assert resolve_clip("tiny", None, str(tmp_path / "hub")).mean == (0.1, 0.2, 0.3)
    with pytest.raises(FarfieldError, match=r"is a folder without config.json or model.safetensors\. Give the path"):
        build_model("tiny", num_classes=2, weights=tmp_path)
