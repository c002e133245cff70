"""Checkpoints and configs of unknown origin: nothing in them is called; damage and excess are refused.

Every file here is harmless to whatever reads it: it is a step beyond a limit of ours, or sets a marker.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints.recorded_network import pyslowfast_cfg
from checkpoints.test_converters import narrow
from farfield.checkpoints.checkpoint import load_network
from farfield.checkpoints.converters import restricted_unpickler
from farfield.checkpoints.converters.convert_file import convert_file
from farfield.checkpoints.converters.mmaction2_config import Unreadable, parse_python_config
from farfield.checkpoints.converters.pyslowfast_config import read_cfg
from farfield.checkpoints.converters.restricted_unpickler import Placeholder, as_tensors, read_file
from farfield.checkpoints.file_safety import MAX_NESTING
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet, assemble
from farfield.models.network_options import NetworkOptions
from farfield.untrusted_json import MAX_LEVELS
from marker import CALLED, SetsMarker


class HistoryBuffer:
    """As MMEngine's: a class of somebody's, with arrays inside, that a checkpoint of theirs carries."""

    def __init__(self) -> None:
        self.values = np.arange(3.0)


def test_objects_beside_the_weights_become_placeholders(tmp_path: Path) -> None:
    content = {
        "state_dict": {"a.weight": torch.arange(6.0).view(2, 3)},
        "message_hub": {"loss": HistoryBuffer()},
        "hook": SetsMarker("beside weights"),
    }
    for new_format in (True, False):
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=new_format)
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / "a.pth", weights_only=True)
        read = read_file(tmp_path / "a.pth")
        assert torch.equal(read["state_dict"]["a.weight"], content["state_dict"]["a.weight"])
        assert isinstance(read["message_hub"]["loss"], Placeholder)
        assert isinstance(read["hook"], Placeholder)
    with (tmp_path / "a.pkl").open("wb") as file:
        pickle.dump({"blobs": {"w": np.ones((2, 3), np.float32)}, "hook": SetsMarker("beside blobs")}, file, protocol=2)
    read = read_file(tmp_path / "a.pkl")
    assert np.array_equal(read["blobs"]["w"], np.ones((2, 3), np.float32))
    assert CALLED == []


def test_arrays_of_either_numpy_and_of_python_2_are_read(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for protocol in (0, 2, 4):
        raw = pickle.dumps({"blobs": {"conv": array, "lr": np.float64(0.5)}}, protocol=protocol)
        for core in (b"numpy._core", b"numpy.core"):
            old = b"numpy.core" if b"numpy._core" not in raw else b"numpy._core"
            if protocol == 4 and core != old:
                continue  # its strings carry their length
            (tmp_path / "a.pkl").write_bytes(raw.replace(old, core))
            read = read_file(tmp_path / "a.pkl")
            assert np.array_equal(read["blobs"]["conv"], array)
            assert read["blobs"]["lr"] == 0.5


def test_non_numeric_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"backbone.conv1.conv.weight": HistoryBuffer()}}, tmp_path / "a.pth")
    with pytest.raises(FarfieldError, match=r"HistoryBuffer for backbone.conv1.conv.weight"):
        convert_file(tmp_path / "a.pth")
    objects = np.array([SetsMarker("in an array"), None], dtype=object)
    with (tmp_path / "a.pkl").open("wb") as file:
        pickle.dump({"blobs": {"conv1_w": objects}}, file, protocol=2)
    with pytest.raises(FarfieldError, match="ndarray for conv1_w"):
        convert_file(tmp_path / "a.pkl")
    assert CALLED == []
    with pytest.raises(FarfieldError, match="named 3, but names must be text"):
        as_tensors({3: torch.zeros(1)}, "a.pth")
    with pytest.raises(FarfieldError, match="holds no weights: found a list instead of a non-empty dict"):
        as_tensors([1], "a.pth")


def _zip(path: Path, *, compress: bool, lie: bool) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}, protocol=2))
        archive.writestr("archive/data/0", b"\0" * 1000)
    if lie:  # the central directory says that a member is a byte larger than the file
        raw = bytearray(path.read_bytes())
        place = raw.rindex(b"PK\x01\x02")
        raw[place + 20 : place + 28] = struct.pack("<2I", len(raw) + 1, len(raw) + 1)
        path.write_bytes(bytes(raw))


def _truncated() -> bytes:
    buffer = io.BytesIO()
    torch.save({"model_state": {"s1.pathway0_stem.conv.weight": torch.randn(64, 3, 1, 7, 7)}}, buffer)
    return buffer.getvalue()[:20_000]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: _zip(path, compress=True, lie=False),
            "archive/data.pkl is compressed, .* It was not decompressed",
        ),
        (lambda path: _zip(path, compress=False, lie=True), "add up to more than the whole file .* It was not read"),
        (lambda path: path.write_bytes(_truncated()), "cannot be read as a checkpoint: it is truncated"),
        (lambda path: path.write_bytes(b""), "cannot be read as a checkpoint: it is empty"),
        (lambda path: path.write_bytes(b"\x80\x02" + b"(" * 100), "cannot be read as a checkpoint"),
        (lambda path: path.write_bytes(b"\x80\x02X\x06\x00\x00\x00short"), "cannot be read as a checkpoint"),
        (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "cannot be read as a checkpoint"),
        (lambda path: path.write_text("path,label\na.mp4,run\n"), "cannot be read as a checkpoint: it is a text file"),
        (lambda path: None, "there is no checkpoint at"),
        (lambda path: path.mkdir(), "is a folder. Give the path of a checkpoint"),
        (lambda path: torch.save([1], path), "holds a list, but a checkpoint must be a dict"),
    ],
)
def test_damaged_files_are_refused(make, message: str, tmp_path: Path) -> None:
    make(tmp_path / "a.pth")
    with pytest.raises(FarfieldError, match=message):
        convert_file(tmp_path / "a.pth")


def test_array_larger_than_its_data_is_refused(tmp_path: Path) -> None:
    raw = pickle.dumps({"blobs": {"conv1_w": np.zeros(7, np.float32)}}, protocol=2)
    assert raw.count(b"K\x07\x85") == 1  # the shape (7,)
    (tmp_path / "a.pkl").write_bytes(raw.replace(b"K\x07\x85", b"K\x08\x85"))
    with pytest.raises(FarfieldError, match="cannot be read as a checkpoint"):
        convert_file(tmp_path / "a.pkl")


def test_python_config_is_parsed_without_execution() -> None:
    text = """
from marker import set_marker
set_marker('a statement')
norm_cfg = dict(type='BN3d', eps=-1e-5)
model = dict(backbone=dict(type='ResNet3d', norm_cfg=norm_cfg, strides=(1, 2), x=set_marker('x')), heads={'a': [1]})
values = [set_marker('in a list'), undefined, -7]
"""
    config = parse_python_config(text)
    assert CALLED == []
    assert config["model"]["backbone"]["norm_cfg"] == {"type": "BN3d", "eps": -1e-5}
    assert config["model"]["backbone"]["strides"] == [1, 2]
    assert config["model"]["heads"] == {"a": [1]}
    assert isinstance(config["model"]["backbone"]["x"], Unreadable)
    assert [type(value).__name__ for value in config["values"]] == ["Unreadable", "Unreadable", "int"]
    assert parse_python_config("this is no Python") == {}
    brackets = ["(" * levels + "1" + ")" * levels for levels in (MAX_LEVELS, MAX_LEVELS + 1)]
    assert [parse_python_config(f"x = {each}") for each in brackets] == [{"x": 1}, {}]
    text = "(" * (MAX_LEVELS + 1)
    assert parse_python_config(f"x = '{text}'") == {"x": text}


def test_a_torchscript_archive_is_not_loaded(tmp_path: Path) -> None:
    """It is a program, and may have code of its own that loading runs; this one has none."""
    torch.jit.script(torch.nn.Identity()).save(str(tmp_path / "a.pth"))
    for read in (convert_file, load_network):
        with pytest.raises(FarfieldError, match="it is a TorchScript program"):
            read(tmp_path / "a.pth")


def _nested(kind: str, levels: int) -> bytes:
    """A pickle of a dict with a value or a key that is nested; the dict is the last of the levels."""
    inside = {
        "lists": b"K\x01" + b"]" * levels + b"a" * (levels - 1),
        "tuple as key": b")" + b"\x85" * (levels - 1) + b"K\x01",
        "pairs as key": b")" + b"N\x86" * (levels - 1) + b"K\x01",  # no run of one instruction
    }
    return b"\x80\x02}(" + inside[kind] + b"u."


@pytest.mark.parametrize("kind", ["lists", "tuple as key", "pairs as key"])
def test_nesting_beyond_the_limit_is_refused_before_it_is_read(kind: str, tmp_path: Path) -> None:
    """What reads, hashes or walks an object calls itself for each level; some readers are C, and have no limit."""
    (tmp_path / "a.pkl").write_bytes(_nested(kind, MAX_NESTING))
    assert len(read_file(tmp_path / "a.pkl")) == 1
    deep = _nested(kind, MAX_NESTING + 1)
    (tmp_path / "a.pkl").write_bytes(deep)
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", deep)
        archive.writestr("archive/version", "3")
    for name in ("a.pkl", "a.pth"):
        for read in (convert_file, load_network):
            with pytest.raises(FarfieldError, match="nested more than 500 levels deep"):
                read(tmp_path / name)


@pytest.mark.slow
def test_long_lists_do_not_count_as_nesting(tmp_path: Path) -> None:
    content = {"log": [{"step": i, "loss": (0.5, [i])} for i in range(5000)]}
    for protocol in (0, 2):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        assert read_file(tmp_path / "a.pkl") == content


def test_numbers_of_the_other_byte_order_are_read(tmp_path: Path) -> None:
    array = np.arange(4, dtype=">f4")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"blobs": {"x": array}}, protocol=2))
    read = read_file(tmp_path / "a.pkl")["blobs"]["x"]
    assert np.array_equal(read, array)
    assert torch.equal(as_tensors({"x": read}, "a.pkl")["x"], torch.arange(4.0))


@pytest.mark.parametrize("shared", [b"numpy.core.multiarray\n_reconstruct", b"marker\nSetsMarker"])
def test_classes_and_functions_cannot_be_changed_by_a_file(shared: bytes, tmp_path: Path) -> None:
    """It would stay changed for what is read later: a function of the unpickler, and a placeholder class."""
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02c" + shared + b"\nN}X\x06\x00\x00\x00markerK\x01s\x86b.")
    with pytest.raises(FarfieldError, match="changes a class or a function"):
        read_file(tmp_path / "a.pkl")
    assert not hasattr(restricted_unpickler._reconstruct, "marker")


def test_view_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    torch.save({"model_state": {"s1.pathway0_stem.conv.weight": torch.zeros(1).expand(2)}}, tmp_path / "a.pyth")
    with pytest.raises(FarfieldError, match=r"Tensor for s1.pathway0_stem"):
        convert_file(tmp_path / "a.pyth")


def test_shapes_are_compared_before_the_network_is_allocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file may ask for a wide network: its first layer says how wide all of them are."""
    devices = []

    def assembled(options: NetworkOptions) -> ActionNet:
        network = assemble(options)
        devices.append(next(network.parameters()).device.type)
        return network

    monkeypatch.setattr("farfield.checkpoints.converters.convert_file.assemble", assembled)
    state = narrow("pyslowfast_C2D_8x8_R50")
    state["s1.pathway0_stem.conv.weight"] = torch.zeros(16, 3, 1, 7, 7)  # the others are for 8 channels
    torch.save({"model_state": state, "cfg": pyslowfast_cfg("c2d", frames=8)}, tmp_path / "a.pyth")
    with pytest.raises(FarfieldError, match="do not fit c2d_r50"):
        convert_file(tmp_path / "a.pyth")
    assert devices == ["meta"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"DATA": {"NUM_FRAMES": "eight"}}, "DATA.NUM_FRAMES 'eight'; it must be a positive whole number"),
        ({"DATA": {"NUM_FRAMES": 0}}, "DATA.NUM_FRAMES 0; it must be a positive whole number"),
        ({"DATA": {"MEAN": None}}, "DATA.MEAN None; it must be three numbers"),
        ({"RESNET": {"SPATIAL_STRIDES": 2}}, "config has spatial strides 2 and dilations"),
        ({"MODEL": {"ARCH": ["c2d"], "HEAD_ACT": "softmax"}}, r"has MODEL.ARCH \['c2d'\]\. Values that can be"),
    ],
)
def test_config_values_of_wrong_types_are_refused(change: dict, message: str, tmp_path: Path) -> None:
    cfg = pyslowfast_cfg("c2d", frames=8, **change)
    torch.save({"model_state": narrow("pyslowfast_C2D_8x8_R50"), "cfg": cfg}, tmp_path / "a.pyth")
    with pytest.raises(FarfieldError, match=message):
        convert_file(tmp_path / "a.pyth")


def test_numbers_as_text_are_numbers(tmp_path: Path) -> None:
    state = narrow("pyslowfast_C2D_8x8_R50")
    cfg = pyslowfast_cfg("c2d", frames=8, DATA={"NUM_FRAMES": "8", "TRAIN_CROP_SIZE": "64"})
    torch.save({"model_state": state, "cfg": cfg}, tmp_path / "a.pyth")
    assert convert_file(tmp_path / "a.pyth")[0].clip.num_frames == 8


def test_yaml_expansion_and_nesting_are_limited() -> None:
    """Aliases and merge keys let a few lines stand for many values; readers call themselves for each level."""
    assert read_cfg("a: &a [1, 2]\nb: *a\n", "a.pyth") == {"a": [1, 2], "b": [1, 2]}
    with pytest.raises(FarfieldError, match="has more than 100,000 values"):
        read_cfg(f"a: &a {[0] * 1000}\nb: [{', '.join(['*a'] * 100)}]\n", "a.pyth")
    with pytest.raises(FarfieldError, match="has merge keys, which PySlowFast never writes"):
        read_cfg("a: &a {x: 1}\nb: {<<: *a}\n", "a.pyth")
    lists = ["[" * levels + "]" * levels for levels in (MAX_LEVELS, MAX_LEVELS + 1)]
    assert read_cfg(f"a: {lists[0]}", "a.pyth") == {"a": json.loads(lists[0])}
    with pytest.raises(FarfieldError, match=r"the config inside a\.pyth is nested more than 100 levels deep"):
        read_cfg(f"a: {lists[1]}", "a.pyth")


def test_weights_with_wrong_axes_are_refused(tmp_path: Path) -> None:
    for name in ("s1.pathway0_stem.conv.weight", "s3.pathway0_res0.branch2.a.weight", "head.projection.weight"):
        state = {**narrow("pyslowfast_C2D_8x8_R50"), name: torch.zeros(())}
        torch.save({"model_state": state, "cfg": pyslowfast_cfg("c2d", frames=8)}, tmp_path / "a.pyth")
        with pytest.raises(FarfieldError, match=r"cannot be converted|do not fit"):
            convert_file(tmp_path / "a.pyth")
