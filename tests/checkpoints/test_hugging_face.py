"""Folders of `transformers` become networks with the same scores."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from farfield import build_model, load_model, save_model
from farfield.build import resolve_clip
from farfield.checkpoints.checkpoint import load_network
from farfield.checkpoints.content_hash import network_hash
from farfield.checkpoints.hugging_face import read_hugging_face
from farfield.checkpoints.hugging_face_folder import is_hugging_face
from farfield.errors import FarfieldError
from hugging_face import NAMES, make_config, make_model, save, their_scores

Run = Callable[..., int]

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("videomae", {"use_mean_pooling": True}),
    ("videomae", {"use_mean_pooling": False}),
    ("videomae", {"qv_bias": False, "hidden_act": "relu"}),
    ("timesformer", {"attention_type": "divided_space_time"}),
    ("timesformer", {"attention_type": "joint_space_time"}),
    ("timesformer", {"attention_type": "space_only"}),
    ("vivit", {}),
    ("vivit", {"qkv_bias": False}),
    ("vjepa2", {"num_pooler_layers": 0}),
    ("vjepa2", {"num_pooler_layers": 3}),
    ("vjepa2", {"num_pooler_layers": 1, "crop_size": 32, "frames_per_clip": 2}),
]


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.dependency
@pytest.mark.parametrize(("kind", "entries"), VARIANTS)
def test_scores_equal_those_of_transformers(kind: str, entries: dict[str, Any], tmp_path: Path) -> None:
    model = make_model(kind, **entries)
    network = load_network(save(model, tmp_path / "folder"))
    assert network.labels == NAMES
    frames, side = network.clip.num_frames, network.clip.crop_px
    clips = torch.randn(3, 3, frames, side, side)
    expected = their_scores(model, clips)
    if entries.get("attention_type") == "space_only":  # transformers gives scores for each frame
        expected = expected.unflatten(0, (3, frames)).mean(1)
    assert float(expected.std()) > 0.1  # classes differ
    assert float((expected[0] - expected[1]).abs().max()) > 0.01  # and so do clips
    with torch.no_grad():
        ours = network(clips)
    assert relative(ours, expected) < 1e-5
    save_model(network, tmp_path / "own.ckpt")
    again = load_network(tmp_path / "own.ckpt")
    assert again.config == network.config
    with torch.no_grad():
        assert torch.equal(again(clips), ours)
        assert relative(load_model(tmp_path / "folder", device="cpu")(clips), expected) < 1e-5


@pytest.mark.dependency
def test_sizes_other_than_the_configs(tmp_path: Path) -> None:
    """V-JEPA 2 takes any number of frames, TimeSformer another number of patches; both as transformers does."""
    longer = torch.randn(2, 3, 6, 48, 48)
    model = make_model("vjepa2")
    network = load_network(save(model, tmp_path / "vjepa2"))
    with torch.no_grad():
        assert relative(network(longer), their_scores(model, longer)) < 1e-5
    larger = torch.randn(2, 3, 4, 103, 103)  # 6 x 6 patches and an edge that is left out
    model = make_model("timesformer")
    network = load_network(save(model, tmp_path / "timesformer"))
    with torch.no_grad():
        assert relative(network(larger), their_scores(model, larger)) < 1e-5


@pytest.mark.dependency
def test_weights_of_every_form_of_file_are_read(tmp_path: Path) -> None:
    """Old names of biases, pickles, and files in several parts."""
    model = make_model("videomae")
    folder = save(model, tmp_path / "folder")
    clips = torch.randn(2, 3, 4, 48, 48)
    expected = their_scores(model, clips)
    state = load_file(folder / "model.safetensors")
    earlier = {
        name.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): value for name, value in state.items()
    }
    assert "videomae.encoder.layer.0.attention.attention.q_bias" in earlier
    (folder / "model.safetensors").unlink()
    torch.save(earlier, folder / "pytorch_model.bin")
    with torch.no_grad():
        assert relative(load_network(folder)(clips), expected) < 1e-5
    (folder / "pytorch_model.bin").unlink()
    names = sorted(state)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, some in parts.items():
        save_file({name: state[name] for name in some}, folder / file, metadata={"format": "pt"})
    index = {"weight_map": {name: file for file, some in parts.items() for name in some}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with torch.no_grad():
        assert relative(load_network(folder)(clips), expected) < 1e-5
    before = network_hash(folder)
    save_file({**{name: state[name] for name in names[1::2]}, "extra": torch.zeros(1)}, folder / "b.safetensors")
    assert network_hash(folder) != before
    with pytest.raises(FarfieldError, match=r"do not fit its config\.json \(unexpected: 1, such as extra\)\. "):
        load_network(folder)
    index["weight_map"][names[0]] = "../b.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FarfieldError, match="its weight_map must name weight files in this folder"):
        load_network(folder)


@pytest.mark.dependency
def test_only_the_architecture_is_taken_from_a_config(tmp_path: Path) -> None:
    folder = save(make_model("vivit"), tmp_path / "folder")
    content = json.loads((folder / "config.json").read_text())
    more = {
        "auto_map": {"AutoModelForVideoClassification": "code.Model"},
        "attn_implementation": "somebody/kernel",
        "problem_type": "multi_label_classification",
    }
    (folder / "config.json").write_text(json.dumps(content | more))
    network = load_network(folder)
    assert network.task == "multilabel"
    config = network.config["backbone_options"]["config"]
    assert not {"auto_map", "attn_implementation", "id2label", "problem_type"} & config.keys()
    assert network.backbone.trunk.encoder.config._attn_implementation == "sdpa"


@pytest.mark.dependency
def test_weights_start_a_network(tmp_path: Path) -> None:
    model = make_model("videomae")
    folder = str(save(model, tmp_path / "folder"))
    clips = torch.randn(2, 3, 4, 48, 48)
    expected = their_scores(model, clips)
    assert resolve_clip("hf", {"num_clips": 2}, folder).num_clips == 2
    assert resolve_clip("hf", None, folder).frame_stride == 4
    same = build_model("hf", weights=folder, dropout=0.0).eval()
    subset = build_model("hf", weights=folder, labels=["wave", "run"]).eval()
    with torch.no_grad():
        assert relative(same(clips), expected) < 1e-5
        assert relative(subset(clips), expected[:, [2, 0]]) < 1e-5
    fresh = build_model("hf", weights=folder, num_classes=7, insert={"top": 1}, head="attentive",
                        head_options={"num_heads": 3, "depth": 1})  # fmt: skip
    theirs = dict(model.videomae.state_dict())
    ours = fresh.backbone.trunk.encoder.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    with pytest.raises(
        FarfieldError, match=r"a checkpoint of Hugging Face, but backbone is 'i3d_r50'\. Set backbone to"
    ):
        build_model("i3d_r50", weights=folder)


@pytest.mark.dependency
def test_another_output_needs_a_new_classifier(tmp_path: Path) -> None:
    folder = save(make_model("timesformer"), tmp_path / "folder")
    options = {"output": "map"}
    network = build_model("hf", weights=folder, backbone_options=options, num_classes=5, insert={"top": 1})
    assert network.labels == ["0", "1", "2", "3", "4"]
    assert network.backbone.has_map
    assert not torch.equal(network.head.fc.weight, load_network(folder).head.fc.weight)


@pytest.mark.dependency
@pytest.mark.parametrize(
    ("kind", "suffix", "entries"),
    [
        ("vjepa2", "Model", {}),
        ("vivit", "Model", {}),
        (
            "videomae",
            "ForPreTraining",
            {"decoder_hidden_size": 24, "decoder_num_attention_heads": 3, "decoder_num_hidden_layers": 1},
        ),
    ],
)
def test_pretrained_encoders_have_no_classifier(
    kind: str, suffix: str, entries: dict[str, Any], tmp_path: Path
) -> None:
    model = (
        make_model(kind, suffix, use_mean_pooling=False, **entries) if kind == "videomae" else make_model(kind, suffix)
    )
    folder = save(model, tmp_path / "folder")
    with pytest.raises(FarfieldError, match=r"has no classifier \(\w+Model, pretrained without labels\), so it cannot"):
        load_network(folder)
    with pytest.raises(FarfieldError, match="labels is None and num_classes is None"):
        build_model("hf", weights=folder)
    network = build_model("hf", weights=folder, labels=["a", "b", "c"]).eval()
    clips = torch.randn(2, 3, 4, 48, 48)
    pixels = {model.main_input_name: clips.transpose(1, 2)}
    base = model.videomae if kind == "videomae" else model
    with torch.no_grad():
        tokens = base(**pixels).last_hidden_state
        features = network.embed(clips)[:, 0]
    assert relative(features, tokens[:, 0] if kind == "vivit" else tokens.mean(1)) < 1e-5


@pytest.mark.slow
@pytest.mark.dependency
def test_the_command_line_takes_a_folder(
    tmp_path: Path, run_farfield: Run, make_video: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save(make_model("videomae"), tmp_path / "folder")
    video = make_video(40)

    def ranking(checkpoint: Path) -> Any:
        assert run_farfield("predict", video, "--checkpoint", checkpoint, "--json", "--device", "cpu") == 0
        return json.loads(capsys.readouterr().out)[0]["ranking"]

    (tmp_path / "names.txt").write_text("\n".join(f"class {name}" for name in NAMES))
    options = ("--labels", tmp_path / "names.txt", "--clip", "{frame_stride: 2}")
    assert run_farfield("convert", folder, tmp_path / "a.ckpt") == 0
    assert run_farfield("convert", folder, tmp_path / "b.ckpt", *options) == 0
    shown = capsys.readouterr().out
    assert "from transformers (VideoMAEForVideoClassification)" in shown
    assert "4 frames at stride 2" in shown
    assert load_network(tmp_path / "b.ckpt").labels[0] == "class run"
    assert ranking(folder) == ranking(tmp_path / "a.ckpt")
    assert run_farfield("summary", folder) == 0
    assert "trunk" in capsys.readouterr().out
    assert run_farfield("convert", folder, tmp_path / "c.ckpt", "--backbone", "i3d_r50") == 2
    assert "the folder" in capsys.readouterr().err


@pytest.mark.dependency
def test_other_networks_are_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 8}
    image = transformers.ViTForImageClassification(transformers.ViTConfig(**small, image_size=32))
    text = transformers.BertModel(transformers.BertConfig(**small, vocab_size=20))
    for name, model in {"ViTForImageClassification": image, "BertModel": text}.items():
        folder = save(model, tmp_path / name)
        with pytest.raises(FarfieldError, match=rf"\({name}\), which is not a video encoder that farfield can run"):
            load_network(folder)


@pytest.mark.dependency
def test_mistakes_in_a_folder(tmp_path: Path) -> None:
    folder = save(make_model("videomae"), tmp_path / "folder")
    with pytest.raises(FarfieldError, match=r"8 frames of 48 px: this VideoMAE was trained on clips of 4 frames"):
        build_model("hf", weights=folder, clip={"num_frames": 8})
    with pytest.raises(FarfieldError, match=r"the position embeddings of this VideoMAE are for frames of 48 px"):
        build_model("hf", weights=folder, clip={"crop_px": 32})
    content = json.loads((folder / "config.json").read_text())
    for changes, message in {
        r"id2label in config\.json has 1 name, but the number of classes is 5": {"id2label": {"0": "run"}},
        "of another shape: 33, such as ": {"hidden_size": 48},
        "is invalid": {"hidden_size": "wide"},
        "farfield needs square frames": {"image_size": [48, 32]},
        r"id2label in config\.json has no name for class 4\. Give": {
            "id2label": {"0": "a", "1": "b", "2": "c", "3": "d", "7": "e"}
        },
        r"has no name for class 0\.": {"id2label": {**content["id2label"], "0": None}},
        "several classes of .* have the name 'run'; each class needs its own": {
            "id2label": {**content["id2label"], "3": "run"}
        },
        "has problem_type 'regression', but farfield supports only single_label_classification": {
            "problem_type": "regression"
        },
        "cannot be loaded into VideoMAEForVideoClassification: too many indices": {"image_size": 0},
        "'soft' is not a known value": {"hidden_act": "soft"},
    }.items():
        (folder / "config.json").write_text(json.dumps(content | message))
        with pytest.raises(FarfieldError, match=changes):
            load_network(folder)
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(FarfieldError, match="it is damaged, truncated, or not a safetensors file"):
        load_network(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FarfieldError, match=r"has a config\.json but no weights"):
        load_network(folder)


@pytest.mark.dependency
def test_links_to_nowhere(tmp_path: Path) -> None:
    folder = save(make_model("videomae"), tmp_path / "folder")
    (folder / "README.md").symlink_to(tmp_path / "gone")
    assert load_network(folder).labels == NAMES
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(tmp_path / "gone")
    with pytest.raises(FarfieldError, match=r"has a config\.json but no weights"):
        load_network(folder)


@pytest.mark.dependency
def test_one_class_needs_a_sigmoid(tmp_path: Path) -> None:
    model = make_model("vivit", labels=["run"])
    folder = save(model, tmp_path / "folder")
    with pytest.raises(FarfieldError, match=r"has one class, whose probability would always be 1.*set problem_type to"):
        load_network(folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"problem_type": "multi_label_classification"}))
    network = load_network(folder)
    clips = torch.randn(2, 3, 4, 48, 48)
    with torch.no_grad():
        assert relative(network(clips), their_scores(model, clips)) < 1e-5


def test_names_are_told_from_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hugging_face("MCG-NJU/videomae-base")
    assert not is_hugging_face("videomae-base")
    assert not is_hugging_face("runs/a/best.ckpt")
    assert not is_hugging_face("runs/best.ckpt")
    (tmp_path / "runs").mkdir()
    assert not is_hugging_face("runs/fine")  # mistyped
    assert not is_hugging_face(tmp_path)


@pytest.mark.dependency
def test_no_network_is_needed_or_used_offline(run_farfield: Run, capsys: pytest.CaptureFixture[str],
                                              monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # restored after --offline has set it
    assert run_farfield("summary", "--offline", "nobody/no-such-model") == 2
    assert "it is not in the local cache, and --offline (HF_HUB_OFFLINE) forbids a download." in capsys.readouterr().err


@pytest.mark.dependency
def test_transformers_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(build_model("hf", backbone_options={"config": make_config_dict()}, num_classes=3), tmp_path / "a.ckpt")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(FarfieldError, match=r'package transformers is needed.*pip install "farfield\[hf\]"'):
        load_network(tmp_path / "a.ckpt")


def make_config_dict() -> dict[str, Any]:
    return {"model_type": "vivit", "num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 3,
            "image_size": 32, "num_frames": 2, "intermediate_size": 8}  # fmt: skip


@pytest.mark.dependency
def test_the_last_folder_is_read_once_and_again_when_it_changes(tmp_path: Path) -> None:
    folder = save(make_model("vivit"), tmp_path / "folder")
    first = read_hugging_face(folder)
    assert read_hugging_face(folder) is first
    content = json.loads((folder / "config.json").read_text())
    content["id2label"]["0"] = "walk"
    (folder / "config.json").write_text(json.dumps(content))
    assert read_hugging_face(folder).options["labels"][0] == "walk"
    assert make_config("vivit").num_labels == 5
