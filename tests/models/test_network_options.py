"""`NetworkOptions`: the one list of a network's options, for Python, checkpoints and the command line."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields

import pytest

from farfield import build_model
from farfield.cli import main
from farfield.errors import FarfieldError
from farfield.models.network import assemble
from farfield.models.network_options import NetworkOptions
from farfield.training.distillation import Distillation

CHECKPOINT_KEYS = [
    "backbone", "backbone_options", "labels", "insert", "block", "block_options", "dropout", "head", "head_windows",
    "head_options", "clip", "task",
]  # fmt: skip
"""As in every checkpoint since format 1, but for the task and head_options, which came later."""


def test_build_model_takes_the_fields_and_weights_with_the_same_defaults() -> None:
    parameters = {name: each.default for name, each in inspect.signature(build_model).parameters.items()}
    assert parameters.pop("weights") is None
    assert parameters.pop("backbone") is inspect.Parameter.empty
    assert parameters == {each.name: each.default for each in fields(NetworkOptions) if each.name != "backbone"}


def test_config_holds_resolved_plain_types_and_rebuilds_the_same_network() -> None:
    given = {"insert": {"res3": (1,)}, "block": "object_context", "head": "window_mean", "clip": {"num_frames": 5}}
    network = assemble(NetworkOptions("tiny", num_classes=3, backbone_options={"depth": 2}, **given))
    config = network.config
    assert list(config) == CHECKPOINT_KEYS
    assert json.loads(json.dumps(config)) == config
    assert (config["labels"], config["insert"]) == (["0", "1", "2"], {"res3": [1]})
    assert (config["block_options"], config["head_windows"]) == ({"num_regions": 3}, [[5, 2, 2]])
    assert assemble(NetworkOptions(**config)).config == config


def test_configs_without_later_fields_are_read() -> None:
    """Checkpoints of the first version have no head, and some no options."""
    network = assemble(NetworkOptions(backbone="tiny", labels=["a", "b"], insert=None))
    assert (network.config["head"], network.config["block"], network.config["dropout"]) == ("gap_fc", "non_local", 0.5)
    assert network.config["task"] == "single_label"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "multi_label"}, "task is 'multi_label'. Known: .*, multi_head. Did you mean 'multilabel'"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be a probability"),
        ({"block": "dual"}, "block is 'dual', which does not exist. Known: .*dual_attention"),
        ({"insert": {"res3": 1}}, "give lists of block indices"),
        ({"insert": {"res3": None}}, "give lists of block indices"),
        ({"insert": {"res3": [0.5]}}, "give lists of block indices"),
        ({"insert": {3: [1]}}, "give lists of block indices"),
        ({"insert": {"stop": 1}}, "give lists of block indices"),
        ({"block_options": {"scale": False}}, "but insert is None, so no block is inserted. Set insert"),
        ({"insert": "nl1", "block_options": {"ndim": 2}}, "block_options has ndim"),
    ],
)
def test_incompatible_options_are_refused_at_construction(given: dict, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        NetworkOptions("tiny", num_classes=3, **given)


def _options(words: list[str], capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    return set(re.findall(r"^  --([\w.]+)", capsys.readouterr().out, re.MULTILINE))


def test_fit_offers_the_options_of_build_model(capsys: pytest.CaptureFixture[str]) -> None:
    """jsonargparse finds them through the call in `build_training_module`."""
    shown = {name.removeprefix("model.") for name in _options(["fit"], capsys) if re.fullmatch(r"model\.\w+", name)}
    expected = set(inspect.signature(build_model).parameters) - {"labels", "num_classes", "head_windows"}
    of_training = {"optimisation", "execution", "loss", *(field.name for field in fields(Distillation))}
    assert shown - of_training == expected


def test_convert_offers_the_fields_of_conversion_options(capsys: pytest.CaptureFixture[str]) -> None:
    shown = _options(["convert"], capsys)
    assert {"backbone", "backbone_options", "block_options", "head", "clip", "take"} <= shown


def test_earlier_names_of_block_options_are_taken() -> None:
    options = {"insert": {"res3": [1]}, "block": "coordinate_attention", "num_classes": 3}
    network = assemble(NetworkOptions("tiny", block_options={"identity_at_birth": False}, **options))
    assert network.config["block_options"] == {"identity_at_init": False}
    assert not any(name.endswith("gamma") for name, _ in network.named_parameters())
