"""Files that are made to harm, or damaged: a clear error, and nothing of them runs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farfield import load_model
from farfield.errors import FarfieldError
from farfield.models.peers import convert_file
from farfield.models.peers.mmaction2_config import Unreadable, parse_python_config
from farfield.models.peers.reading import Placeholder, as_tensors, read_file
from models.peer_rule import pyslowfast_cfg
from models.test_peers import narrow


class Bomb:
    """Writes a file when it is unpickled as pickle means it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


class HistoryBuffer:
    """As MMEngine's: a class of somebody's, with arrays inside, that a checkpoint of theirs carries."""

    def __init__(self) -> None:
        self.values = np.arange(3.0)


def test_what_is_beside_the_weights_stays_inert(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    content = {
        "state_dict": {"a.weight": torch.arange(6.0).view(2, 3)},
        "message_hub": {"loss": HistoryBuffer()},
        "hook": Bomb(mark),
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
        pickle.dump({"blobs": {"w": np.ones((2, 3), np.float32)}, "hook": Bomb(mark)}, file, protocol=2)
    read = read_file(tmp_path / "a.pkl")
    assert np.array_equal(read["blobs"]["w"], np.ones((2, 3), np.float32))
    assert not mark.exists()


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


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"backbone.conv1.conv.weight": HistoryBuffer()}}, tmp_path / "a.pth")
    with pytest.raises(FarfieldError, match=r"HistoryBuffer in place of the weight backbone.conv1.conv.weight"):
        convert_file(tmp_path / "a.pth")
    objects = np.array([Bomb(tmp_path / "mark"), None], dtype=object)
    with (tmp_path / "a.pkl").open("wb") as file:
        pickle.dump({"blobs": {"conv1_w": objects}}, file, protocol=2)
    with pytest.raises(FarfieldError, match="ndarray in place of the weight conv1_w"):
        convert_file(tmp_path / "a.pkl")
    assert not (tmp_path / "mark").exists()
    with pytest.raises(FarfieldError, match="named 3; names are text"):
        as_tensors({3: torch.zeros(1)}, "a.pth")
    with pytest.raises(FarfieldError, match="holds no weights: list where a dict"):
        as_tensors([1], "a.pth")


def _zip(path: Path, *, compress: bool, lie: bool) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}, protocol=2))
        archive.writestr("archive/data/0", b"\0" * 1000)
    if lie:  # the central directory says that a member is as large as a zip file can say
        raw = bytearray(path.read_bytes())
        place = raw.rindex(b"PK\x01\x02")
        raw[place + 20 : place + 28] = b"\xfe\xff\xff\xff" * 2
        path.write_bytes(bytes(raw))


def _truncated() -> bytes:
    buffer = io.BytesIO()
    torch.save({"model_state": {"s1.pathway0_stem.conv.weight": torch.randn(64, 3, 1, 7, 7)}}, buffer)
    return buffer.getvalue()[:20_000]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: _zip(path, compress=True, lie=False), "archive/data.pkl is compressed. It was not unpacked"),
        (lambda path: _zip(path, compress=False, lie=True), "says to hold more than its .* bytes. It was not unpacked"),
        (lambda path: path.write_bytes(_truncated()), "cannot be read as a checkpoint: it is cut off"),
        (lambda path: path.write_bytes(b""), "cannot be read as a checkpoint: it is empty"),
        (lambda path: path.write_bytes(b"\x80\x02" + b"(" * 100_000), "cannot be read as a checkpoint"),
        (lambda path: path.write_bytes(b"\x80\x02X\xff\xff\xff\x7fshort"), "cannot be read as a checkpoint"),
        (lambda path: path.write_bytes(b"\x80\x02]" + b"]" * 50_000 + b"a" * 50_000 + b"."), "cannot be read|holds a"),
        (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "cannot be read as a checkpoint"),
        (lambda path: path.write_text("path,label\na.mp4,run\n"), "cannot be read as a checkpoint: it is a text file"),
        (lambda path: None, "there is no checkpoint at"),
        (lambda path: path.mkdir(), "is a folder. Give the path of a checkpoint"),
        (lambda path: torch.save([1], path), "holds a list; a checkpoint is a dict"),
    ],
)
def test_damaged_files_are_refused_in_a_sentence(make, message: str, tmp_path: Path) -> None:
    make(tmp_path / "a.pth")
    with pytest.raises(FarfieldError, match=message):
        convert_file(tmp_path / "a.pth")


def test_an_array_that_says_to_be_larger_than_its_bytes_is_refused(tmp_path: Path) -> None:
    raw = pickle.dumps({"blobs": {"conv1_w": np.zeros(7, np.float32)}}, protocol=2)
    assert raw.count(b"K\x07\x85") == 1  # the shape (7,)
    (tmp_path / "a.pkl").write_bytes(raw.replace(b"K\x07\x85", b"J\x00\x00\x00\x70\x85"))
    with pytest.raises(FarfieldError, match="cannot be read as a checkpoint"):
        convert_file(tmp_path / "a.pkl")


def test_a_python_config_is_read_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = f"""
import os
os.system('touch {mark}')
norm_cfg = dict(type='BN3d', eps=-1e-5)
model = dict(backbone=dict(type='ResNet3d', norm_cfg=norm_cfg, strides=(1, 2), x=open('{mark}')), heads={{'a': [1]}})
values = [__import__('os').system('touch {mark}'), undefined, -7]
"""
    config = parse_python_config(text)
    assert not mark.exists()
    assert config["model"]["backbone"]["norm_cfg"] == {"type": "BN3d", "eps": -1e-5}
    assert config["model"]["backbone"]["strides"] == [1, 2]
    assert config["model"]["heads"] == {"a": [1]}
    assert isinstance(config["model"]["backbone"]["x"], Unreadable)
    assert [type(value).__name__ for value in config["values"]] == ["Unreadable", "Unreadable", "int"]
    assert parse_python_config("this is no Python") == {}
    assert parse_python_config("x = " + "(" * 10_000) == {}


def test_a_torchscript_archive_does_not_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """torch.load would hand it to torch.jit.load, whatever pickle module it was given."""

    class Speaks(torch.nn.Module):
        @torch.jit.export
        def __getstate__(self):
            return (self.training,)

        @torch.jit.export
        def __setstate__(self, state: tuple[bool]):
            print("CODE FROM THE FILE RAN")
            self.training = state[0]

        def forward(self, x: torch.Tensor):
            return x

    torch.jit.script(Speaks()).save(str(tmp_path / "packed.pth"))
    with zipfile.ZipFile(tmp_path / "packed.pth") as packed, zipfile.ZipFile(tmp_path / "a.pth", "w") as plain:
        for member in packed.namelist():
            plain.writestr(member, packed.read(member))
    capfd.readouterr()
    with pytest.raises(FarfieldError, match="it is a TorchScript program"):
        convert_file(tmp_path / "a.pth")
    with pytest.raises(FarfieldError, match="it is a TorchScript program"):
        load_model(tmp_path / "a.pth")
    assert "RAN" not in capfd.readouterr().out


@pytest.mark.parametrize("key", [True, False])
def test_nesting_without_end_is_refused_before_it_is_read(key: bool, tmp_path: Path) -> None:
    """A tuple of 200,000 levels overflows the C stack when it is hashed, as a dict's key."""
    deep = b"\x80\x02}(" + b")" + b"\x85" * 200_000 + b"K\x01u."
    if not key:  # the same, interleaved so that no run of one instruction shows
        deep = b"\x80\x02}(" + b")" + b"N\x86" * 100_000 + b"K\x01u."
    (tmp_path / "a.pkl").write_bytes(deep)
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", deep)
        archive.writestr("archive/version", "3")
    for name in ("a.pkl", "a.pth"):
        for read in (convert_file, load_model):
            with pytest.raises(FarfieldError, match="nested more than 500 levels deep"):
                read(tmp_path / name)


def test_long_lists_are_not_deep(tmp_path: Path) -> None:
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


def test_a_file_cannot_change_what_is_shared(tmp_path: Path) -> None:
    raw = b"\x80\x02ctorch\nFloatStorage\nN}X\x04\x00\x00\x00EVILK\x01s\x86b."
    (tmp_path / "a.pkl").write_bytes(raw)
    with pytest.raises(FarfieldError, match="changes a class or a function"):
        read_file(tmp_path / "a.pkl")
    assert not hasattr(torch.FloatStorage, "EVIL")


def test_a_view_that_says_to_be_larger_than_it_is_is_refused(tmp_path: Path) -> None:
    torch.save({"model_state": {"s1.pathway0_stem.conv.weight": torch.zeros(1).expand(10**9)}}, tmp_path / "a.pyth")
    with pytest.raises(FarfieldError, match=r"Tensor in place of the weight s1.pathway0_stem"):
        convert_file(tmp_path / "a.pyth")


def test_a_small_file_cannot_ask_for_a_network_that_no_memory_holds(tmp_path: Path) -> None:
    state = narrow("pyslowfast_C2D_8x8_R50")
    state["s1.pathway0_stem.conv.weight"] = torch.zeros(60_000, 3, 1, 7, 7)
    torch.save({"model_state": state, "cfg": pyslowfast_cfg("c2d", frames=8)}, tmp_path / "a.pyth")
    with pytest.raises(FarfieldError, match="do not fit c2d_r50"):
        convert_file(tmp_path / "a.pyth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"DATA": {"NUM_FRAMES": "eight"}}, "DATA.NUM_FRAMES 'eight', where a positive number is needed"),
        ({"DATA": {"NUM_FRAMES": 0}}, "DATA.NUM_FRAMES 0, where a positive number"),
        ({"DATA": {"MEAN": None}}, "DATA.MEAN None, where three numbers are needed"),
        ({"RESNET": {"SPATIAL_STRIDES": 2}}, "config has spatial strides 2 and dilations"),
        ({"MODEL": {"ARCH": ["c2d"], "HEAD_ACT": "softmax"}}, r"is of MODEL.ARCH \['c2d'\]; convertible are c2d"),
    ],
)
def test_configs_of_other_types_are_refused_in_a_sentence(change: dict, message: str, tmp_path: Path) -> None:
    cfg = pyslowfast_cfg("c2d", frames=8, **change)
    torch.save({"model_state": narrow("pyslowfast_C2D_8x8_R50"), "cfg": cfg}, tmp_path / "a.pyth")
    with pytest.raises(FarfieldError, match=message):
        convert_file(tmp_path / "a.pyth")


def test_numbers_as_text_are_numbers_and_aliases_end(tmp_path: Path) -> None:
    state = narrow("pyslowfast_C2D_8x8_R50")
    cfg = pyslowfast_cfg("c2d", frames=8, DATA={"NUM_FRAMES": "8", "TRAIN_CROP_SIZE": "64"})
    torch.save({"model_state": state, "cfg": cfg}, tmp_path / "a.pyth")
    assert convert_file(tmp_path / "a.pyth")[0].clip.num_frames == 8
    bomb = "a0: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(40))
    torch.save({"model_state": state, "cfg": bomb}, tmp_path / "a.pyth")
    with pytest.raises(FarfieldError, match="far larger than any of PySlowFast's"):
        convert_file(tmp_path / "a.pyth")


def test_weights_of_other_axes_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for name in ("s1.pathway0_stem.conv.weight", "s3.pathway0_res0.branch2.a.weight", "head.projection.weight"):
        state = {**narrow("pyslowfast_C2D_8x8_R50"), name: torch.zeros(())}
        torch.save({"model_state": state, "cfg": pyslowfast_cfg("c2d", frames=8)}, tmp_path / "a.pyth")
        with pytest.raises(FarfieldError, match=r"cannot be converted|do not fit"):
            convert_file(tmp_path / "a.pyth")
