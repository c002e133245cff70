"""What a value must be, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pytest

from farfield.options.parser import CommandParser
from farfield.options.type_words import describe_type


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (float, "a number"),
        (int | None, "a whole number or null"),
        (bool | int, "true or false, or a whole number"),
        (int | float | None, "a whole number, a number, or null"),
        (list[str] | None, "a list of texts or null"),
        (Sequence[float], "a list of numbers"),
        (tuple[int, int] | None, "a list of 2 whole numbers or null"),
        (tuple[float, ...], "a list of numbers"),
        (Mapping[str, Any] | None, "a mapping, such as {name: value}, or null"),
        (dict[str, str], "a mapping of names to texts, such as {name: text}"),
        (
            Literal["inverse", "effective"] | dict[str, float] | None,
            "'inverse', 'effective', a mapping of names to numbers, such as {name: 1.0}, or null",
        ),
        (list[CommandParser], "a list"),
        (CommandParser, None),
        (CommandParser | None, None),
    ],
)
def test_types_in_words(hint: Any, words: str | None) -> None:
    assert describe_type(hint) == words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.clip={num_frames: three}"], "model.clip.num_frames is 'three'; it must be a whole number."),
        (["--model.clip={crop_px: null}"], "model.clip.crop_px is None; it must be a whole number."),
        (
            ["--model.clip={target_fps: fast}"],
            "model.clip.target_fps is 'fast'; it must be a positive number, or null.",
        ),
        (["--model.clip={resize: slow}"], "model.clip.resize is 'slow'. Known: fast, transformers."),
        (["--model.clip.resize=slow"], "model.clip.resize is 'slow'. Known: fast, transformers."),
        (["--model.clip.mean=[1, 2]"], "model.clip.mean is [1, 2]; it must be a list of 3 numbers."),
        (["--data.augmentation.erase=x"], "data.augmentation.erase is x; it must be a number."),
        (["--data.augmentation.flip=x"], "data.augmentation.flip is x; it must be true or false."),
        (
            ["--data.augmentation.crop_scale=[a, 1]"],
            "data.augmentation.crop_scale has the element a; it must be a list of 2 numbers.",
        ),
        (
            ["--model.optimisation.step_epochs=x"],
            "model.optimisation.step_epochs is x; it must be a list of numbers.",
        ),
        (
            ["--model.block_options=3"],
            "model.block_options is 3; it must be a mapping, such as {name: value}, or null.",
        ),
        (
            ["--model.loss.class_weights={run: x}"],
            "model.loss.class_weights is {'run': 'x'}; it must be 'inverse', 'effective', a mapping of names to "
            "numbers, such as {name: 1.0}, or null.",
        ),
        (["--probe.heads=x"], "probe.heads is x; it must be a list of texts."),
    ],
)
def test_a_value_of_the_wrong_type_is_named_in_one_sentence(
    words: list[str], message: str, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_farfield("fit", "--run_dir=x", "--model.backbone=tiny", "--data.train=a.csv", *words) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"farfield fit: {message}"
