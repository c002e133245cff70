"""Arguments of the wrong type are named before anything is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import farfield
from farfield.argument_types import checked_arguments
from farfield.errors import FarfieldError


@checked_arguments
def function(
    path: str | Path,
    count: int = 1,
    *,
    share: float | None = None,
    flag: bool = False,
    other: list[int] | None = None,
    name: str = "",
) -> tuple[Any, ...]:
    return path, count, share, flag, other, name


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("a.mp4",), {}),
        ((Path("a.mp4"), 3), {"share": None, "flag": True}),
        (("a.mp4",), {"count": np.int64(3), "share": np.float32(0.5), "flag": np.bool_(True)}),
        (("a.mp4",), {"share": 1, "other": "anything, since lists are not checked", "name": "x"}),
    ],
)
def test_arguments_of_the_right_type_are_passed_on(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    assert function(*arguments, **options) == function.__wrapped__(*arguments, **options)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["a.mp4", "b.mp4"],), {}, r"path is \['a.mp4', 'b.mp4'\]; it must be a path\."),
        (("a", "3"), {}, "count is '3'; it must be a whole number"),
        (("a", 3.0), {}, "count is 3.0; it must be a whole number"),
        (("a", True), {}, "count is True; it must be a whole number"),
        (("a",), {"share": "x"}, "share is 'x'; it must be a number or None"),
        (("a",), {"flag": 1}, "flag is 1; it must be True or False"),
        (("a",), {"name": None}, "name is None; it must be text"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(
    arguments: tuple[Any, ...], options: dict[str, Any], message: str, types_unchecked: None
) -> None:
    with pytest.raises(FarfieldError, match=message):
        function(*arguments, **options)


def test_unknown_arguments_are_pythons_own_error(types_unchecked: None) -> None:
    with pytest.raises(TypeError, match=r"function\(\) got an unexpected keyword argument 'nope'"):
        function("a", nope=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda network: farfield.predict(["a.mp4"], network), "video is"),
        (lambda network: farfield.predict("a.mp4", network, top_k="5"), "top_k is '5'; it must be a whole number"),
        (lambda network: farfield.evaluate(network, ["a.csv"]), "manifest is"),
        (lambda network: farfield.explain("a.mp4", network, time="x"), "time is 'x'; it must be a number or None"),
        (lambda network: farfield.export(network, 3), "out is 3; it must be a path"),
        (lambda network: farfield.save_model(network, 3), "path is 3; it must be a path"),
        (lambda network: farfield.load_model(3), "path is 3; it must be a path"),
        (
            lambda network: farfield.build_model("tiny", num_classes="3"),
            "num_classes is '3'; it must be a whole number",
        ),
        (lambda network: farfield.train({"a": 1}), "config is {'a': 1}; it must be a path or None"),
    ],
)
def test_the_public_functions_check_their_arguments(
    call: Callable[[Any], Any], message: str, types_unchecked: None
) -> None:
    network = farfield.build_model("tiny", num_classes=3, backbone_options={"depth": 1})
    with pytest.raises(FarfieldError, match=message):
        call(network)
