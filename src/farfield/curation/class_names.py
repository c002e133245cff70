"""Read class names from a file with one name per line, or return those of Kinetics-400."""

from __future__ import annotations

from pathlib import Path

from farfield.curation.text_files import read_text
from farfield.errors import FarfieldError
from farfield.kinetics_labels import kinetics400_labels


def read_class_names(path: str | Path) -> list[str]:
    """Read class names from a file with one name per line.

    Raises:
        FarfieldError: for a missing file, a file that is not UTF-8 text, or a name that occurs twice.
    """
    content = read_text(Path(path), "Give a file with one class name per line.", kind="file of class names at ")
    lines: dict[str, list[int]] = {}
    for number, line in enumerate(content.split("\n"), start=1):
        if name := line.strip():
            lines.setdefault(name, []).append(number)
    twice = {name: numbers for name, numbers in lines.items() if len(numbers) > 1}
    if twice:
        where = "; ".join(f"{name!r} on lines {', '.join(map(str, twice[name]))}" for name in list(twice)[:5])
        more = f"; and {len(twice) - 5} more" if len(twice) > 5 else ""
        raise FarfieldError(
            f"{path} has a class name more than once: {where}{more}. Equal names would merge classes: give each class "
            "its own name, or remove the duplicate."
        )
    return list(lines)


def find_class_names(class_file: str | Path) -> list[str]:
    """Read class names from a file, or return the classes of Kinetics-400 if `class_file` is "kinetics400"."""
    return kinetics400_labels() if str(class_file) == "kinetics400" else read_class_names(class_file)
