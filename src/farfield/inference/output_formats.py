"""Names of the formats in which predictions are printed."""

from __future__ import annotations

from typing import Literal, get_args

from farfield.errors import FarfieldError, nearest

Format = Literal["table", "json", "jsonl", "csv", "srt", "vtt"]
SUBTITLES = ("srt", "vtt")


def check_format(name: str, *, timeline: bool) -> None:
    """Check that a format exists, and that subtitles are requested only with a timeline.

    Raises:
        FarfieldError: for an unknown format, or for subtitles without a timeline.
    """
    if name not in get_args(Format):
        raise FarfieldError(f"format is {name!r}, which does not exist. {nearest(name, get_args(Format))}")
    if name in SUBTITLES and not timeline:
        raise FarfieldError(f"format is {name}, but subtitles need a timeline. Add --timeline.")
