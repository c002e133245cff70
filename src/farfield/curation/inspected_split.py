"""A split of a collection, with the result of each video's inspection."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from farfield.curation.inspection import Inspected
from farfield.data.manifest import VideoRecord


@dataclass
class InspectedSplit:
    """One manifest or folder, and the results of its videos.

    Attributes:
        name: name in the report.
        records: rows of the manifest.
        root: folder that the rows' paths are relative to.
        inspected: result for each row; None for an undecodable video.
        reasons: why each video cannot be decoded; None for one that can.
    """

    name: str
    records: list[VideoRecord]
    root: Path
    inspected: list[Inspected | None] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.paths = [self.root / record.path for record in self.records]
        """File of each row."""
