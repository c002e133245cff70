"""Griffe extension: show the example of a docstring as code."""

from __future__ import annotations

import re
from textwrap import indent
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^(?P<title>Examples?:)\n(?P<code>(?: {4}.*\n?|\n)+)", re.M)


class DocstringExamples(griffe.Extension):
    """Put the lines below "Example:" in a docstring into a block of Python code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(_as_code, obj.docstring.value)


def _as_code(found: re.Match[str]) -> str:
    lines = found["code"].rstrip("\n")
    language = "pycon" if ">>>" in lines else "python"
    return f"{found['title']}\n" + indent(f"```{language}\n", "    ") + lines + "\n    ```\n"
