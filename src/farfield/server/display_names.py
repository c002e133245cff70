"""Names of uploaded files, made safe to display. They are never used as paths on this machine."""

from __future__ import annotations

import re

MAX_LENGTH = 80
UNNAMED = "the video"


def display_name(given: str | None) -> str:
    """Return the last part of a path as one line of printable characters, shortened in the middle if it is long.

    The result may still contain characters that are special in HTML or in a shell: escape it before showing it. A name
    that is missing or has no printable characters becomes "the video".
    """
    last = re.split(r"[/\\]", given or "")[-1]
    # isprintable excludes lone surrogates, which UTF-8 cannot encode, and marks that change the direction of text.
    printable = "".join(character if character.isprintable() else " " for character in last)
    name = " ".join(printable.split())
    if len(name) > MAX_LENGTH:
        name = f"{name[: MAX_LENGTH - 20]}...{name[-17:]}"
    return name if name.strip(". ") else UNNAMED


def file_stem(name: str) -> str:
    """Convert a display name to a file name without suffix that is valid on every operating system."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name.rpartition(".")[0] or name).strip("_")
    return stem[:40] or "clip"
