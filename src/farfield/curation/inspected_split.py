"""A split of a collection, with the inspection result of each video."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from farfield.curation.inspection import Inspected
from farfield.data.video_record import VideoRecord


@dataclass
class InspectedSplit:
    """One manifest or folder of videos, and the inspection result of each video.

    Attributes:
        name: name in the report.
        records: rows of the manifest; for a folder, one row per video.
        root: folder that the rows' paths are relative to.
        inspected: properties of the video of each row; None if the row has a reason in `reasons`.
        reasons: for each row, why it cannot be used: the video cannot be decoded, does not have the number of frames in
            the row, or has no frame in the row's segment. None for a row that can be used.
    """

    name: str
    records: list[VideoRecord]
    root: Path
    inspected: list[Inspected | None] = field(init=False)
    reasons: list[str | None] = field(init=False)

    def __post_init__(self) -> None:
        self.inspected = [None] * len(self.records)
        self.reasons = [None] * len(self.records)
        self.paths = [self.root / record.path for record in self.records]
        """Path of each row's video file."""
        self.has_labels = any(record.label for record in self.records)
        """Whether any row has a label. If so, a video without a label shows none of the classes."""
