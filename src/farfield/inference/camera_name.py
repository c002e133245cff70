"""Names of cameras for messages and output, without the passwords that URLs contain."""

from __future__ import annotations

import re
from collections.abc import Sequence

from farfield.errors import FarfieldError

_SECRET = re.compile(
    r"(?i)([?&;](?:user(?:name)?|usr|login|pass(?:word|wd)?|pwd|auth|token|key|api_?key|secret|sig(?:nature)?)=)[^&;#\s]*"
)


def without_passwords(text: str) -> str:
    """Remove user names, passwords, and values of query parameters such as `token` from the URLs in a text."""
    plain = re.sub(r"([a-z][a-z0-9+.-]*://)[^/?#\s]*@", r"\1", text, flags=re.IGNORECASE)
    return _SECRET.sub(r"\1...", plain)


def split_name(given: str) -> tuple[str, str]:
    """Split NAME=SOURCE into name and source. If there is no name, the source without passwords is the name."""
    named = re.fullmatch(r"(\w[\w .-]*)=(.+)", given)
    return (named[1], named[2]) if named else (without_passwords(given), given)


def named_sources(given: Sequence[str]) -> list[tuple[str, str]]:
    """Return the (name, source) of each camera, given as SOURCE or NAME=SOURCE.

    Raises:
        FarfieldError: if no camera is given, or two have the same name.
    """
    if not given:
        raise FarfieldError("no camera is given; at least one is needed. Give a URL, or a device such as /dev/video0.")
    pairs = [split_name(each) for each in given]
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise FarfieldError(
            f"two cameras have the name {twice!r}; names must differ. Name each camera, as in front=rtsp://..."
        )
    return pairs
