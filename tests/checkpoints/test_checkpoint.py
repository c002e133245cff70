from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from farfield import build_model
from farfield.checkpoints.checkpoint import load_network, save_model
from farfield.errors import FarfieldError
from marker import CALLED, SetsMarker


def test_checkpoint_rebuilds_the_network(tmp_path: Path) -> None:
    model = build_model(
        "tiny",
        labels=["sit down", "stand up"],
        insert={"res3": [1]},
        block_options={"key_pool": None, "scale": False},
        dropout=0.3,
        clip={"num_frames": 4, "crop_px": 24, "mean": (0.1, 0.2, 0.3)},
    ).eval()
    torch.nn.init.ones_(model.backbone.blocks("res3")[1].inserted.norm.weight)
    save_model(model, tmp_path / "a.ckpt")
    loaded = load_network(tmp_path / "a.ckpt")
    assert loaded.labels == ["sit down", "stand up"]
    assert loaded.clip == model.clip
    assert loaded.clip.mean == (0.1, 0.2, 0.3)
    assert not loaded.training
    x = torch.randn(1, 3, 4, 24, 24)
    assert torch.equal(loaded(x), model(x))
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no checkpoint at"),
        (lambda path: path.write_bytes(b""), "cannot be read as a checkpoint"),
        (lambda path: path.write_bytes(b"hello" * 99), "cannot be read as a checkpoint"),
        (lambda path: torch.save({"state_dict": {}}, path), "is not a farfield checkpoint"),
        (lambda path: torch.save([1, 2], path), "is not a farfield checkpoint"),
        (lambda path: torch.save({"farfield": 3, "state_dict": {}}, path), "is not a farfield checkpoint"),
        (
            lambda path: torch.save({"farfield": {"format": 1}, "state_dict": {}}, path),
            "by this version of farfield: ",
        ),
        (
            lambda path: torch.save({"farfield": {"format": 1, "model": {"back": 1}}, "state_dict": {}}, path),
            "by this version of farfield: .*back",
        ),
        (
            lambda path: torch.save({"farfield": {"format": 99}, "state_dict": {}}, path),
            "format 99, but this version of farfield reads format 1",
        ),
    ],
)
def test_files_that_are_not_checkpoints_are_refused(make, message: str, tmp_path: Path) -> None:
    make(tmp_path / "a.ckpt")
    with pytest.raises(FarfieldError, match=message):
        load_network(tmp_path / "a.ckpt")


def test_labels_that_were_changed_are_saved(tmp_path: Path) -> None:
    network = build_model("tiny", num_classes=2)
    network.labels = ["sit down", "stand up"]
    save_model(network, tmp_path / "a.ckpt")
    assert load_network(tmp_path / "a.ckpt").labels == ["sit down", "stand up"]
    network.labels.append("wave")
    with pytest.raises(FarfieldError, match="2 scores, but the number of labels is 3"):
        save_model(network, tmp_path / "a.ckpt")


def test_full_disk_is_reported_and_leaves_no_file(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(FarfieldError, match=r"a\.ckpt cannot be written: File too large\. Choose another path"):
            save_model(build_model("tiny", num_classes=2), tmp_path / "a.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_path_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt.partial").mkdir()
    with pytest.raises(FarfieldError, match=r"a\.ckpt cannot be written: Is a directory\. Choose another path"):
        save_model(build_model("tiny", num_classes=2), tmp_path / "a.ckpt")


def test_invalid_descriptions_are_refused(tmp_path: Path) -> None:
    save_model(build_model("tiny", num_classes=2, insert={"res3": [1]}), tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    model = content["farfield"]["model"]
    for change in ({"insert": 5}, {"insert": ["res3"]}, {"labels": "ab"}, {"clip": {**model["clip"], "std": []}}):
        torch.save({**content, "farfield": {"format": 1, "model": {**model, **change}}}, tmp_path / "b.ckpt")
        with pytest.raises(FarfieldError, match=r"options in .*b\.ckpt cannot be read|clip\.std is \[\]; each must be"):
            load_network(tmp_path / "b.ckpt")


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    save_model(build_model("tiny", num_classes=2), tmp_path / "a.ckpt")
    whole = (tmp_path / "a.ckpt").read_bytes()
    (tmp_path / "a.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FarfieldError, match="cannot be read as a checkpoint"):
        load_network(tmp_path / "a.ckpt")


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    """Python's zip reader checks it, and torch.load does not."""
    path = tmp_path / "changed.ckpt"
    save_model(build_model("tiny", labels=["swim", "walk"]), path)
    content = path.read_bytes()
    assert content.count(b"swim") == 1
    path.write_bytes(content.replace(b"swim", b"skim"))
    with pytest.raises(FarfieldError, match=r"changed\.ckpt cannot be read as a checkpoint: it is damaged"):
        load_network(path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_model(build_model("tiny", num_classes=2), tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    content["farfield"]["model"]["labels"] = ["a", "b", "c"]
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(FarfieldError, match="do not fit the network options in the same file"):
        load_network(tmp_path / "a.ckpt")


def test_code_in_a_checkpoint_is_not_executed(tmp_path: Path) -> None:
    content = {"farfield": SetsMarker("in a checkpoint"), "state_dict": {}}
    with (tmp_path / "a.ckpt").open("wb") as file:
        pickle.dump(content, file)
    with pytest.raises(FarfieldError, match="cannot be read as a checkpoint"):
        load_network(tmp_path / "a.ckpt")
    torch.save(content, tmp_path / "b.ckpt")
    with pytest.raises(FarfieldError, match="cannot be read as a checkpoint"):
        load_network(tmp_path / "b.ckpt")
    assert CALLED == []
