"""Read the scores of a tested run, and the groups of its videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farfield.errors import FarfieldError
from farfield.evaluation.scores_file import FILE, Scores, read_groups, read_scores


@dataclass(frozen=True)
class ScoredRun:
    """A tested run, with its scores.

    Attributes:
        name: the run as given by the user.
        file: scores.npz of the test.
        scores: scores of the videos.
        groups: group of each video (None for a video without a group), or None if no video has a group.
    """

    name: str
    file: Path
    scores: Scores
    groups: list[str | None] | None


def find_scores(run: str | Path) -> Path | None:
    """Find the scores.npz of a run; None if there is none.

    Args:
        run: the run's folder, whose subfolder `test` has the test report; the folder of a test report; or the
            scores.npz file.
    """
    given = Path(run)
    return next((place for place in (given, given / FILE, given / "test" / FILE) if place.is_file()), None)


def read_scored_run(run: str | Path) -> ScoredRun:
    """Read the scores of a tested run, and the groups of its videos.

    Args:
        run: the run's folder, the folder of a test report, or a scores.npz file.

    Raises:
        FarfieldError: if the run has no scores, or the file is damaged or lists a video twice.
    """
    found = find_scores(run)
    if found is None:
        raise FarfieldError(f"{run} contains no scores ({FILE}). Give a run that was tested with `farfield test`.")
    scores = read_scores(found)
    if not scores.paths:
        raise FarfieldError(
            f"{found} contains no video scores. Test the run again on a manifest that lists at least one video."
        )
    if len(set(scores.names)) < len(scores.names):
        raise FarfieldError(f"{found} contains a video twice. Remove the duplicate from the manifest, and test again.")
    groups = read_groups(found)
    if groups is not None and len(groups) != len(scores.paths):
        raise FarfieldError(
            f"{found} has groups of {len(groups)} videos, but scores of {len(scores.paths)}. Test the run again to "
            "write a new file."
        )
    return ScoredRun(str(run), found, scores, groups)
