"""One row of a manifest."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class VideoRecord:
    """One row of a manifest; the manifest's columns are explained in `farfield.data.manifest`.

    `label` is one label, several labels separated by `|`, or "" for none. Any other value that the row leaves empty is
    None.
    """

    path: str
    label: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    num_frames: int | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    group: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the row; empty if `label` is ""."""
        return split_labels(self.label)


def split_labels(text: str) -> tuple[str, ...]:
    """Split the text of a manifest's column `label` into its labels, which `|` separates."""
    return tuple(label for each in text.split("|") if (label := each.strip()))


COLUMNS = tuple(field.name for field in fields(VideoRecord))
"""Columns of a manifest."""

NUMBER_COLUMNS = tuple(name for name in COLUMNS if name not in {"path", "label", "group"})
WHOLE_NUMBER_COLUMNS = ("num_frames", "width", "height")
