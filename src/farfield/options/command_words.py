"""Rewrite the words of a command, so that jsonargparse reads lists, mappings and file names as people write them."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from farfield.errors import FarfieldError


def how_lists_end(option: str) -> str:
    """Return a sentence for error messages that explains which words are read as values of a list option."""
    return f"All words after {option} are its values: put files before it."


def is_list(kind: Any) -> bool:
    """Return whether a type annotation is a list, or a list or None (`list[str] | None`)."""
    kinds = [each for each in typing.get_args(kind) or [kind] if each is not type(None)]
    return typing.get_origin(kind) is list or (len(kinds) == 1 and typing.get_origin(kinds[0]) is list)


def join_lists(words: Sequence[str], lists: Mapping[str, bool]) -> list[str]:
    """Join the values of each list option into one JSON list: `--fractions 0.7 0.3` becomes `--fractions [0.7, 0.3]`.

    An option's values are all words after it, up to the next option. JSON lists and null are not changed.

    Args:
        words: the command's arguments.
        lists: for each option that takes a list, whether it takes numbers.

    Raises:
        FarfieldError: for a word that is not a number, if the option takes numbers.
    """
    joined: list[str] = []
    rest = list(words)
    while rest:
        joined.append(rest.pop(0))
        if joined[-1] not in lists or not rest or rest[0] == "null" or rest[0].startswith("["):
            continue
        end = next((i for i, word in enumerate(rest) if word.startswith("--")), len(rest))
        if not all(map(_is_number, rest[:end])) and lists[joined[-1]]:
            raise FarfieldError(
                f"{joined[-1].removeprefix('--')} is {' '.join(rest[:end])!r}; "
                f"it must be a list of numbers. {how_lists_end(joined[-1])}"
            )
        if end:
            joined.append("[" + ", ".join(word if _is_number(word) else json.dumps(word) for word in rest[:end]) + "]")
            del rest[:end]
    return joined


def join_mappings(words: Sequence[str], mappings: set[str]) -> list[str]:
    """Convert the value of each mapping option to JSON: `--columns a=b,c=d` becomes `--columns {"a": "b", "c": "d"}`.

    JSON objects and null keep their value.

    Args:
        words: the command's arguments.
        mappings: the options that take a mapping, such as "--columns".

    Raises:
        FarfieldError: for a value that is neither a JSON object of strings nor `name=value` pairs.
    """
    joined: list[str] = []
    for previous, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=")
        if option in mappings and equals:
            joined.append(f"{option}={_mapping_as_json(option, value)}")
        elif previous in mappings and not word.startswith("--"):
            joined.append(_mapping_as_json(previous, word))
        else:
            joined.append(word)
    return joined


def _mapping_as_json(option: str, text: str) -> str:
    if text == "null":
        return text
    mapping = _read_mapping(text)
    if not mapping or not all(isinstance(value, str) and name and value for name, value in mapping.items()):
        raise FarfieldError(
            f"{option.removeprefix('--')} is {text!r}; it must be name=value pairs separated by commas, each name "
            f'once, such as {option} a=b,c=d. If a value contains a comma, write JSON: {option} \'{{"a": "b, c"}}\'.'
        )
    return json.dumps(mapping)


def _read_mapping(text: str) -> dict[str, Any] | None:
    """Read a JSON object or `name=value` pairs. Return None for invalid JSON, or if two pairs have the same name."""
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            return None
    pairs = [[part.strip() for part in pair.partition("=")] for pair in text.split(",")]
    mapping = {name: value for name, _, value in pairs}
    return mapping if len(mapping) == len(pairs) else None


def _is_number(word: str) -> bool:
    return re.fullmatch(r"-?(\d+\.?\d*|\.\d+)(e-?\d+)?", word) is not None


def files_after_dashes(words: Sequence[str]) -> Sequence[str]:
    """Remove `--`, and put `./` before later words that start with `-`, so that they are read as file names."""
    if "--" not in words:
        return words
    end = words.index("--")
    return [*words[:end], *(f"./{word}" if re.match("-.", word) else word for word in words[end + 1 :])]
