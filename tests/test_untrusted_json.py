from __future__ import annotations

import json

import pytest

from farfield.untrusted_json import MAX_LEVELS, JsonError, parse_json


def nested(levels: int) -> str:
    """Lists and objects by turns, with brackets in strings, which are no levels."""
    opened = ['["[[{\\"[", ' if level % 2 else '{"[": ' for level in range(levels)]
    return "".join(opened) + '"]"' + "".join("]" if level % 2 else "}" for level in reversed(range(levels)))


def test_nesting_up_to_the_limit_is_read() -> None:
    assert parse_json(nested(MAX_LEVELS)) == json.loads(nested(MAX_LEVELS))
    wide = [[[number], {"a": [number]}] for number in range(1000)]
    assert parse_json(json.dumps(wide).encode()) == wide


@pytest.mark.parametrize(
    "before", ["", '"\\\\", ', '"\\"]]", ', '"a\nb", '], ids=["alone", "backslash", "quote", "line"]
)
def test_nesting_beyond_the_limit_is_refused(before: str) -> None:
    """Whole or unfinished: Python's parser, which calls itself for each level, does not see it."""
    for text in (f"[{before}{nested(MAX_LEVELS)}]", f"[{before}" + "[" * MAX_LEVELS):
        with pytest.raises(JsonError, match="it is nested more than 100 levels deep"):
            parse_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\xfe[\x00]\x00", "^it is not JSON$"),
        ("{", r"^it is not JSON \(line 1, column 2\)$"),
        ('[1,\n"a]', r"^it is not JSON \(line 2, column 1\)$"),
        ('["\\', r"^it is not JSON \(line 1, column 2\)$"),
        ("", r"^it is not JSON \(line 1, column 1\)$"),
    ],
)
def test_invalid_json_is_reported_with_its_position(text: str | bytes, message: str) -> None:
    with pytest.raises(JsonError, match=message):
        parse_json(text)
