"""Recipes found by name, listed, printed and copied."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from farfield.errors import FarfieldError
from farfield.recipes import find_config, list_recipes

CONFIGS = Path(__file__).parents[1] / "configs"
Run = Callable[..., int]


def test_every_file_of_configs_is_a_recipe_with_a_summary() -> None:
    assert {recipe.path for recipe in list_recipes()} == set(CONFIGS.rglob("*.yaml"))
    assert [recipe.name for recipe in list_recipes() if recipe.is_sweep] == [
        "sweeps/figures_lr",
        "sweeps/recall_blocks",
    ]
    for recipe in list_recipes():
        assert recipe.summary.endswith((".", "?")), recipe.name
        assert recipe.text.startswith(f"# {recipe.summary}\n#\n"), recipe.name


def test_a_recipe_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("figures_tiny_nl2") == str(CONFIGS / "figures_tiny_nl2.yaml")
    (tmp_path / "figures_tiny_nl2").mkdir()  # as a run's folder may be called
    assert find_config("figures_tiny_nl2") == str(CONFIGS / "figures_tiny_nl2.yaml")


def test_a_file_wins_over_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("figures_tiny_nl2").write_text("run_dir: mine\n")
    assert find_config("figures_tiny_nl2") == "figures_tiny_nl2"
    assert find_config(str(tmp_path / "figures_tiny_nl2")) == str(tmp_path / "figures_tiny_nl2")


@pytest.mark.slow
def test_fit_takes_a_name_a_path_or_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_farfield: Run) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("model: {backbone: tiny_c2d, dropout: 0.75}\n")
    text = "{model: {dropout: 0.25}}"
    assert _print_config(run_farfield, "figures_tiny_nl2")["model"]["insert"] == {"res3": [1], "res4": [1]}
    assert _print_config(run_farfield, "figures_tiny_nl2", "mine.yaml")["model"]["dropout"] == 0.75
    assert _print_config(run_farfield, "figures_tiny_nl2", text)["model"]["dropout"] == 0.25


def _print_config(run_farfield: Run, *configs: str) -> dict:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as stopped:
        run_farfield("fit", *(word for config in configs for word in ("-c", config)), "--print_config")
    assert stopped.value.code == 0
    return yaml.safe_load(shown.getvalue())


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("figurs_tiny_nl2", "figures_tiny_nl2"),
        ("configs/figures_tiny_nl2.yaml", "figures_tiny_nl2"),  # as a clone has it
        ("kinetics400_imagnet.yaml", "kinetics400_imagenet"),
        ("kinetics400_i3d_r50_nl5_imagenet", "kinetics400_imagenet"),  # names that there were once
        ("configs/kinetics400_c2d_r50_nl10_scratch.yaml", "kinetics400_scratch"),
    ],
)
def test_a_mistyped_name_suggests_the_nearest(
    given: str,
    meant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_farfield("fit", "--config", given) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"farfield fit: config is {given!r}, which is neither a file nor a recipe. Known: charades, crowd_"
    )
    assert f"Did you mean '{meant}'?" in said
    assert len(said.splitlines()) == 1
    assert run_farfield("configs", given) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"farfield configs: there is no recipe {given!r}. Known: charades, ")
    assert f"Did you mean '{meant}'?" in said


@pytest.mark.parametrize("given", ["sweeps/figures_lr", "nowhere/x.yaml", "", "a\0b", "x" * 5000, "[1, 2"])
def test_a_value_that_is_neither_file_nor_recipe_is_refused(given: str) -> None:
    with pytest.raises(FarfieldError, match="neither a file nor a recipe"):
        find_config(given)


def test_configs_lists_the_recipes(run_farfield: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_farfield("configs") == 0
    lines = capsys.readouterr().out.splitlines()
    first = list_recipes()[0]
    assert lines[0].split(maxsplit=1) == [first.name, first.summary]
    assert [line.split()[0] for line in lines[: len(list_recipes())]] == [recipe.name for recipe in list_recipes()]
    assert run_farfield("configs", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert run_farfield("configs", "list") == 0  # as other commands list
    assert capsys.readouterr().out.splitlines() == lines
    assert [each["name"] for each in listed] == [recipe.name for recipe in list_recipes()]
    assert all(set(each) == {"name", "summary", "path"} for each in listed)


def test_configs_prints_one(run_farfield: Run, capsys: pytest.CaptureFixture[str]) -> None:
    text = (CONFIGS / "recall_tiny_nl2.yaml").read_text()
    assert run_farfield("configs", "recall_tiny_nl2") == 0
    assert capsys.readouterr().out == text
    assert run_farfield("configs", "recall_tiny_nl2", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["text"]) == ("recall_tiny_nl2", text)


@pytest.mark.parametrize(
    ("to", "lies_at"),
    [
        ("there", "there/figures_lr.yaml"),  # a folder that exists
        ("new/folder/", "new/folder/figures_lr.yaml"),
        ("new/mine.yaml", "new/mine.yaml"),
    ],
)
def test_configs_copies_one(
    to: str,
    lies_at: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    assert run_farfield("configs", "sweeps/figures_lr", "--copy", to) == 0
    assert capsys.readouterr().out == f"{lies_at}\n"
    assert Path(lies_at).read_text() == (CONFIGS / "sweeps/figures_lr.yaml").read_text()
    Path(lies_at).write_text("mine")
    assert run_farfield("configs", "sweeps/figures_lr", "--copy", to) == 2  # what is there is not overwritten
    assert f"{lies_at} exists already. Give --copy another" in capsys.readouterr().err
    assert Path(lies_at).read_text() == "mine"


def test_configs_says_what_cannot_be_copied(
    tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_farfield("configs", "--copy", tmp_path) == 2
    assert "--copy needs the name of a recipe to copy. Give it: farfield configs NAME --copy" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run_farfield("configs", "figures_tiny_c2d", "--copy", tmp_path / "file" / "mine.yaml") == 2
    assert "file/mine.yaml cannot be written" in capsys.readouterr().err
