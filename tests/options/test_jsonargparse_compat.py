"""jsonargparse's private parts, and the texts of its messages, are as farfield expects. A failure names what to adapt.

Every message here is made by jsonargparse itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypedDict

import jsonargparse
import pytest
from jsonargparse import _typehints

from farfield.options import jsonargparse_compat as compat
from farfield.options.jsonargparse_compat import RefusedValue


class Message(Exception):
    pass


class Parser(jsonargparse.ArgumentParser):
    """Raise jsonargparse's message as it is."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise Message(message) from ex


@dataclass
class Settings:
    lr: float = 0.1
    steps: int = 1
    every: int | None = None
    epochs: tuple[float, ...] = ()
    kind: Literal["sgd", "adamw"] = "sgd"


class Clip(TypedDict, total=False):
    frames: int
    fps: float | None


class Model:
    def __init__(
        self,
        name: str,
        clip: Clip | None = None,
        settings: Settings = Settings(),  # noqa: B008
    ) -> None:
        pass


def parser() -> Parser:
    made = Parser(allow_abbrev=False)
    made.add_argument("--config", action="config")
    made.add_argument("--count", type=int, default=1)
    made.add_argument("--folder", type=str, required=True)
    made.add_class_arguments(Model, "model")
    return made


REQUIRED = ["--model.name=x", "--folder=y"]


def message(*words: str) -> str:
    """Return the message for words that follow the required options."""
    with pytest.raises(Message) as raised:
        parser().parse_args([*REQUIRED, *words])
    return compat.one_line(str(raised.value))


def test_adapt_typehints_is_wrapped_and_restored() -> None:
    original = _typehints.adapt_typehints
    with compat.accept_whole_floats():
        assert _typehints.adapt_typehints is not original
        assert parser().parse_args([*REQUIRED, "--count=2.0"]).count == 2
        assert parser().parse_args([*REQUIRED, "--model.clip.frames=8.0"]).model.clip["frames"] == 8
        assert parser().parse_object({"count": 2.0, "folder": "y", "model": {"name": "x"}}).count == 2
        with pytest.raises(Message):
            parser().parse_args([*REQUIRED, "--count=1e300"])  # not exact as a float
    assert _typehints.adapt_typehints is original
    with pytest.raises(Message):
        parser().parse_args([*REQUIRED, "--count=2.0"])


def test_actions_list_the_options() -> None:
    assert compat.option_names(parser()) == [
        "count", "folder", "model", "model.name", "model.clip", "model.settings", "model.settings.lr",
        "model.settings.steps", "model.settings.every", "model.settings.epochs", "model.settings.kind",
    ]  # fmt: skip
    assert compat.required_options(parser()) == ["folder", "model.name"]


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--nope", "3"], "nope"),
        (["--nope=3"], "nope"),
        (["--model.nope=3"], "model.nope"),
        (["--model={nope: 3}"], "model.nope"),
        (["--model.settings.nope=3"], "model.settings.nope"),
        (["--model.settings={nope: 3}"], "model.settings.nope"),
    ],
)
def test_message_of_an_unknown_option(words: list[str], option: str) -> None:
    assert compat.unknown_option(message(*words)) == option


@pytest.mark.parametrize(
    ("content", "option"),
    [("nope: 3", "nope"), ("model: {nope: 3}", "model.nope"), ("model: {settings: {nope: 3}}", "model.settings.nope")],
)
def test_message_of_an_unknown_option_in_a_config(tmp_path: Path, content: str, option: str) -> None:
    (tmp_path / "config.yaml").write_text(content + "\n")
    assert compat.unknown_option(message(f"--config={tmp_path / 'config.yaml'}")) == option


def test_message_of_a_surplus_word() -> None:
    made = Parser()
    made.add_argument("file")
    with pytest.raises(Message) as raised:
        made.parse_args(["a.mp4", "b.mp4"])
    text = compat.one_line(str(raised.value))
    assert compat.surplus_word(text) == "b.mp4"
    assert compat.is_about_words(text)
    assert compat.unknown_option(text) is None


@pytest.mark.parametrize("words", [["--count"], ["--folder"], ["-a.mp4"]])
def test_message_about_words(words: list[str]) -> None:
    text = message(*words)
    assert compat.is_about_words(text)
    assert compat.expects_value(text) == words[0].startswith("--")
    assert not compat.is_about_words(message("--count=x"))


def test_message_of_missing_arguments() -> None:
    with pytest.raises(Message) as raised:
        parser().parse_args([])
    assert compat.is_about_words(str(raised.value))


def test_message_of_a_missing_value() -> None:
    """An option of a class that a linked option is computed from is checked before what is required."""
    made = Parser()
    made.add_class_arguments(Model, "model")
    made.add_argument("--size", type=int)
    made.link_arguments("model.name", "size", compute_fn=len)
    with pytest.raises(Message) as raised:
        made.parse_args([])
    assert compat.missing_value(compat.one_line(str(raised.value))) == "model.name"


def test_message_of_a_failed_link_is_the_errors_own() -> None:
    def fail(clip: Any) -> int:
        raise ValueError("there is no such network.")

    made = parser()
    made.link_arguments("model.clip", "count", compute_fn=fail)
    with pytest.raises(Message) as raised:
        made.parse_args(REQUIRED)
    assert compat.one_line(str(raised.value)) == "there is no such network."


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--count=many"], RefusedValue("count", "many", may_be_element=True)),
        (["--model.settings.steps=1.5"], RefusedValue("model.settings.steps", "1.5", may_be_element=True)),
        (["--model.settings.every=1.5"], RefusedValue("model.settings.every", "1.5")),
        (["--model.settings.epochs=[a]"], RefusedValue("model.settings.epochs", "a", may_be_element=True)),
        (["--model.settings.epochs=3"], RefusedValue("model.settings.epochs", "3")),
        (["--model.clip.frames=1.5"], RefusedValue("model.clip.frames", "1.5")),
        (["--model.clip={frames: 1.5}"], RefusedValue("model.clip", "{'frames': 1.5}")),
        (["--model.clip={fps: fast}"], RefusedValue("model.clip", "{'fps': 'fast'}")),
        (["--model.clip.frame=1"], RefusedValue("model.clip", unexpected_key="frame")),
        (["--model.clip={frame: 1}"], RefusedValue("model.clip", unexpected_key="frame")),
        (["--model.settings.kind=adm"], RefusedValue("model.settings.kind", "adm", may_be_element=True)),
    ],
)
def test_message_of_a_refused_value(words: list[str], expected: RefusedValue) -> None:
    assert compat.refused_value(message(*words)) == expected


def test_the_type_of_an_option_or_of_a_key_in_its_value() -> None:
    made = parser()
    made.add_argument("--group", type=Settings | bool, default=False)
    assert compat.option_type(made, "count") is int
    assert compat.option_type(made, "model.settings.every") == int | None
    assert compat.option_type(made, "model.clip.frames") is int
    assert compat.option_type(made, "group.steps") is int
    assert compat.option_type(made, "nope") is compat.option_type(made, "group.nope") is None


def test_other_messages_are_of_no_refused_value() -> None:
    assert compat.refused_value(message("--nope")) is None


def test_message_about_a_group_that_may_be_a_switch() -> None:
    parser = Parser()
    parser.add_argument("--group", type=Settings | bool, default=False)

    def message(*words: str) -> tuple[str, str] | None:
        with pytest.raises(Message) as caught:
            parser.parse_args(words)
        return compat.error_in_group(compat.one_line(str(caught.value)))

    found = message("--group.steps", "many")
    assert found is not None
    assert found[0] == "group"
    assert "many" in found[1]
    assert "NestedArg" not in found[1]
    assert compat.error_in_group("there is no option lr") is None
    assert parser.parse_args(["--group", "true"]).group is True
    assert parser.parse_args(["--group.steps", "3"]).group.steps == 3
