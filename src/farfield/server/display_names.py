"""Names of files as strangers give them, made fit to be shown. They are never a path on this machine."""

from __future__ import annotations

import re

MAX_LENGTH = 80


def display_name(given: str | None) -> str:
    """The last part of a path in one line of printable characters, shortened in its middle; "the clip" for nothing.

    It may hold what HTML or a shell would read as its own: whoever shows it escapes it.
    """
    last = re.split(r"[/\\]", given or "")[-1]
    # Neither lone surrogates, which cannot be written as UTF-8, nor marks that turn the direction of text.
    printable = "".join(character if character.isprintable() else " " for character in last)
    name = " ".join(printable.split())
    if len(name) > MAX_LENGTH:
        name = f"{name[: MAX_LENGTH - 20]}...{name[-17:]}"
    return name if name.strip(". ") else "the clip"


def file_stem(name: str) -> str:
    """What a file that belongs to `name` may be called on any system."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name.rpartition(".")[0] or name).strip("_")
    return stem[:40] or "clip"
