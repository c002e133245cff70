"""Published folders: the same network to the last bit, or a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from exporters.networks import awake
from farfield.checkpoints.checkpoint import load_network
from farfield.checkpoints.content_hash import network_hash
from farfield.checkpoints.hub_folder import write_folder
from farfield.errors import FarfieldError
from farfield.layers.dense_conv import DenseConv3d
from farfield.models import inference_optimization
from farfield.models.inference_optimization import optimize_for_inference
from farfield.models.network import ActionNet
from farfield.untrusted_json import MAX_LEVELS


@pytest.fixture(scope="module")
def network() -> ActionNet:
    return awake(labels=["bow", "ön & off", "a | b"])


@pytest.fixture
def folder(network: ActionNet, tmp_path: Path) -> Path:
    write_folder(network, tmp_path / "published", "# A card\n")
    return tmp_path / "published"


def test_folder_round_trip_is_bit_exact(network: ActionNet, folder: Path) -> None:
    again = load_network(folder)
    assert (again.config, again.labels, again.clip) == (network.config, network.labels, network.clip)
    assert not again.training
    state = again.state_dict()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    clips = torch.randn(2, 3, 4, 32, 32)
    assert torch.equal(again(clips), network(clips))
    assert (folder / "labels.txt").read_text(encoding="utf-8") == "bow\nön & off\na | b\n"
    assert (folder / "README.md").read_text() == "# A card\n"
    assert {oct(each.stat().st_mode & 0o777) for each in folder.iterdir()} == {oct(0o666 & ~_umask())}


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


def _config(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        change(content)
        (folder / "config.json").write_text(json.dumps(content))

    return apply


def _one_weight_less(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["head.fc.bias"]
    save_file(state, folder / "model.safetensors")


def _cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), r"is incomplete: it has no model\.safetensors"),
        (lambda f: (f / "config.json").unlink(), r"is incomplete: it has no config\.json"),
        (lambda f: [(f / n).unlink() for n in ("config.json", "model.safetensors")], "is a folder without config"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json cannot be read: it is not JSON"),
        (
            lambda f: (f / "config.json").write_text("[" * (MAX_LEVELS + 1) + "]" * (MAX_LEVELS + 1)),
            r"config\.json cannot be read: it is nested more than 100 levels deep\.",
        ),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), r"config\.json cannot be read"),
        (lambda f: (f / "config.json").write_text("[]"), "has no network options"),
        (_config(lambda c: c.update(format=2)), "has format 2, but this version of farfield reads format 1"),
        (_config(lambda c: c["model"].update(depth=3)), "cannot be read by this version of farfield"),
        (_config(lambda c: c["model"].update(backbone="tinny")), "backbone is 'tinny', which does not exist"),
        (_config(lambda c: c["model"].update(labels=["a", "b"])), "do not fit the network options in config.json"),
        (
            _config(lambda c: c["model"].update(insert=5)),
            "cannot be read by this version of farfield",
        ),
        (
            _config(lambda c: c["model"].update(labels="abc")),
            "this version of farfield: labels is not a list of strings",
        ),
        (_config(lambda c: c["model"]["clip"].update(std=[])), r"clip\.std is \[\]; each must be three numbers"),
        (
            _config(lambda c: c["model"]["clip"].update(std=[1, float("nan"), 1])),
            r"clip\.std is \[1, nan, 1\]; each must be three numbers",
        ),
        (_config(lambda c: c["model"]["clip"].update(mean=["a", 1, 1])), "clip.mean is .* each must be three numbers"),
        (_one_weight_less, "do not fit the network options in config.json"),
        (_cut_off, r"model\.safetensors cannot be read: it is damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 99), r"model\.safetensors cannot be read"),
    ],
)
def test_damaged_folder_is_refused(damage: Callable[[Path], None], message: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(FarfieldError, match=message):
        load_network(folder)


def test_content_hash_of_a_folder_ignores_labels_and_card(folder: Path) -> None:
    before = network_hash(folder)
    (folder / "README.md").write_text("# Another card\n")
    (folder / "picture.png").write_bytes(b"1")
    assert network_hash(folder) == before
    _config(lambda c: c["model"].update(dropout=0.1))(folder)
    other = network_hash(folder)
    assert other != before
    _cut_off(folder)
    assert network_hash(folder) not in (before, other)
    (folder / "config.json").unlink()
    with pytest.raises(FarfieldError, match=r"cannot be read: No such file"):
        network_hash(folder)


def test_labels_of_several_lines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match=r"is not a single line, but labels\.txt holds one"):
        write_folder(awake(labels=["a\nb", "c"]), tmp_path / "a", "")
    assert not (tmp_path / "a").exists()


def test_optimised_network_has_the_same_scores() -> None:
    network = awake(seed=3)
    network.train()
    fast = optimize_for_inference(network)
    assert (fast.labels, fast.clip, fast.config) == (network.labels, network.clip, network.config)
    clips = torch.randn(3, 3, 6, 32, 40).contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        expected = network.eval()(clips)
    assert torch.allclose(fast(clips), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert not fast.training
    assert network.backbone is not fast.backbone
    norms = [m for m in fast.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert len(norms) < len([m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]) / 4
    kernel = next(p for p in fast.parameters() if p.ndim == 5 and p.shape[1] > 1 and p.shape[-1] > 1)
    assert kernel.is_contiguous(memory_format=torch.channels_last_3d)
    assert not any(p.requires_grad for p in fast.parameters())


@pytest.mark.slow
def test_stem_is_dense_in_bfloat16_on_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    network = awake(seed=3)
    clips = torch.randn(3, 3, 6, 32, 40)
    with torch.no_grad():
        expected = network.eval()(clips)
    for units in (False, True):
        monkeypatch.setattr(inference_optimization, "has_matrix_units", lambda units=units: units)
        fast = optimize_for_inference(network, torch.bfloat16)
        assert sum(isinstance(module, DenseConv3d) for module in fast.modules()) == units
        apart = fast(clips.to(torch.bfloat16)).float() - expected
        assert float(apart.abs().max()) < 0.03 * float(expected.abs().max())
        assert not any(isinstance(module, DenseConv3d) for module in optimize_for_inference(network).modules())
