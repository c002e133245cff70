"""Parse untrusted JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

MAX_LEVELS = 100
"""Maximum depth of nested lists and objects. The files and events that farfield reads have about 20 levels."""
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)
"""Pattern for a string (possibly unterminated) or a bracket."""


class JsonError(ValueError):
    """Raised for text that is not JSON, or is nested too deeply.

    The message is a clause about the file, for example "it is not JSON (line 1, column 3)". The caller puts the file's
    name before it.
    """


def parse_json(text: str | bytes, *, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse UTF-8 JSON with at most `MAX_LEVELS` levels of nested lists and objects.

    Python's parser is recursive, as is most code that walks the result, so that deep nesting could exhaust the stack.
    Levels are counted without recursion before the text is parsed.

    Args:
        text: the JSON.
        object_pairs_hook: function that makes a value from the (key, value) pairs of each object; None for a dict,
            which keeps only the last of equal keys.

    Raises:
        JsonError: for text that is not JSON, or has more than `MAX_LEVELS` levels.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        _check_levels(text)
        return json.loads(text, object_pairs_hook=object_pairs_hook)
    except JsonError:
        raise
    except json.JSONDecodeError as error:
        raise JsonError(f"it is not JSON (line {error.lineno}, column {error.colno})") from error
    except ValueError as error:  # not UTF-8, or a number of thousands of digits
        raise JsonError("it is not JSON") from error


def _check_levels(text: str) -> None:
    level = 0
    for token in _TOKEN.finditer(text):
        bracket = token[0]
        if bracket in "[{":
            level += 1
        elif bracket in "]}":
            level -= 1
        if level > MAX_LEVELS:
            raise JsonError(f"it is nested more than {MAX_LEVELS} levels deep")
