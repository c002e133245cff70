"""Integer options accept 16.0, as sweeps write it, and refuse 16.5."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace

from farfield.cli import main
from farfield.options.parser import CommandParser

FIT = ["fit", "--print_config", "--run_dir=x", "--model.backbone=tiny"]


def resolved(figures: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    data = [f"--data.train={figures / 'train.csv'}", f"--data.val={figures / 'val.csv'}"]
    with pytest.raises(SystemExit) as stop:
        main([*FIT, *data, *words])
    assert stop.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_a_whole_number_stays_whole_whatever_the_order_of_a_union() -> None:
    parser = CommandParser()
    parser.add_argument("--first", type=float | int | None)  # type: ignore[arg-type]
    parser.add_argument("--second", type=int | float | None)  # type: ignore[arg-type]
    found = parser.parse_args(["--first=1", "--second=1"])
    assert [type(found.first), type(found.second)] == [int, int]
    assert parser.parse_args(["--first=1.0", "--second=0.5"]) == Namespace(first=1.0, second=0.5)


def test_whole_floats_are_taken_at_any_depth(figures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.yaml").write_text("data: {num_workers: 2.0}\nmodel: {insert: {res3: [1.0]}}\n")
    config = resolved(
        figures,
        capsys,
        f"--config={tmp_path / 'sweep.yaml'}",
        "--data.batch_size=16.0",
        "--checkpoint_every_n_steps=4.0",  # int or null
        "--seed_everything=3.0",  # bool or int
        "--model.optimisation.precise_bn_batches=2.0",  # in a dataclass
        "--model.clip.num_frames=8.0",  # in a typed dict
        "--trainer.limit_val_batches=1.0",  # int or float: all
        "--trainer.limit_train_batches=1",  # one
        "--wandb.name=16.0",
        "--model.optimisation.lr=1.0",
    )
    found = {
        "batch_size": config["data"]["batch_size"],
        "num_workers": config["data"]["num_workers"],
        "every": config["checkpoint_every_n_steps"],
        "seed": config["seed_everything"],
        "bn": config["model"]["optimisation"]["precise_bn_batches"],
        "frames": config["model"]["clip"]["num_frames"],
        "insert": config["model"]["insert"],
        "all": config["trainer"]["limit_val_batches"],
        "one": config["trainer"]["limit_train_batches"],
        "name": config["wandb"]["name"],
        "lr": config["model"]["optimisation"]["lr"],
    }
    expected = {
        "batch_size": 16, "num_workers": 2, "every": 4, "seed": 3, "bn": 2, "frames": 8, "insert": {"res3": [1]},
        "all": 1.0, "one": 1, "name": "16.0", "lr": 1.0,
    }  # fmt: skip
    assert found == expected
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in expected.items()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.batch_size=16.5"], "data.batch_size is 16.5; it must be a whole number."),
        (["--data.batch_size", "many"], "data.batch_size is many; it must be a whole number."),
        (["--data.batch_size=nan"], "data.batch_size is nan; it must be a whole number."),
        (["--data.batch_size=inf"], "data.batch_size is inf; it must be a whole number."),
        (["--checkpoint_every_n_steps=4.5"], "checkpoint_every_n_steps is 4.5; it must be a whole number or null."),
        (["--model.clip.num_frames=8.5"], "model.clip.num_frames is 8.5; it must be a whole number."),
    ],
)
def test_other_values_are_refused_in_one_sentence(
    words: list[str], message: str, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_farfield(*FIT, "--data.train=a.csv", *words) == 2
    assert capsys.readouterr().err.strip() == f"farfield fit: {message}"


def test_other_commands_take_whole_floats(run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_farfield("summary", "tiny", "--num_classes=3.0") == 0
    whole = capsys.readouterr().out
    assert run_farfield("summary", "tiny", "--num_classes=3") == 0
    assert capsys.readouterr().out == whole
    assert run_farfield("summary", "tiny", "--num_classes=3.5") == 2
    assert "num_classes is 3.5; it must be a whole number" in capsys.readouterr().err


def test_one_stays_whole_where_a_type_names_float_first() -> None:
    """Python gives Union[int, float] in the order in which the process first made it: Lightning's options, too."""

    def command(limit: float | int | None = None) -> int:
        return 0

    parser = CommandParser()
    parser.add_function_arguments(command)
    for given, kind in (("1", int), ("1.0", float)):
        config = parser.parse_args([f"--limit={given}"])
        assert type(config.limit) is kind
        assert parser.dump(config).strip() == f"limit: {given}"
        assert type(parser.instantiate(config).limit) is kind
