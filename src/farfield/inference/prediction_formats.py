"""What was made of one video, and how it is written: as a table, JSON, CSV or subtitles."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from farfield.errors import FarfieldError, nearest
from farfield.inference.predict import RankedLabel
from farfield.inference.segments import Segment

Format = Literal["table", "json", "jsonl", "csv", "srt", "vtt"]
SUBTITLES = ("srt", "vtt")


@dataclass(frozen=True)
class Answer:
    """What was made of one video.

    Attributes:
        path: the file.
        ranking: the most probable classes of the whole, best first; empty where it could not be read.
        start_seconds: the first frame that was looked at.
        end_seconds: the last one.
        segments: what happens when; None where no timeline was asked for.
        error: why it could not be read, or not to its end; None where it could.
        features: (rows c), a row for the video or for each window; None where not asked for.
        feature_seconds: (rows 2), from when to when each row is.
    """

    path: str
    ranking: list[RankedLabel]
    start_seconds: float = 0.0
    end_seconds: float = 0.0
    segments: list[Segment] | None = None
    error: str | None = None
    features: Float[np.ndarray, "rows c"] | None = None
    feature_seconds: Float[np.ndarray, "rows 2"] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON, without features; "error" only where there is one, "segments" only with a timeline."""
        if not self.ranking:
            return {"path": self.path, "error": self.error}
        content: dict[str, Any] = {
            "path": self.path,
            "ranking": [asdict(each) for each in self.ranking],
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
        }
        if self.segments is not None:
            content["segments"] = [asdict(each) for each in self.segments]
        if self.error is not None:
            content["error"] = self.error
        return content

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Answer:
        """What `as_dict` made plain.

        Raises:
            KeyError, TypeError: for anything else.
        """
        given = dict(content)
        given["ranking"] = [RankedLabel(**each) for each in given.get("ranking", [])]
        if given.get("segments") is not None:
            given["segments"] = [Segment(**each) for each in given["segments"]]
        return cls(**given)


def check_format(name: str, *, timeline: bool) -> None:
    """Refuses a format that does not exist, and subtitles of a video that has no timeline.

    Raises:
        FarfieldError: for either.
    """
    if name not in get_args(Format):
        raise FarfieldError(f"format is {name!r}. {nearest(name, get_args(Format))}")
    if name in SUBTITLES and not timeline:
        raise FarfieldError(f"subtitles ({name}) say what happens when: ask for --timeline, too.")


def as_table(answer: Answer) -> str:
    """The ranking, or with a timeline its segments, under the file's name."""
    seen = f"{answer.start_seconds:.2f} s to {answer.end_seconds:.2f} s"
    lines = [f"{answer.path}  ({seen})"]
    if answer.segments is None:
        width = max(len(each.label) for each in answer.ranking)
        lines += [f"  {each.label:<{width}}  {100 * each.probability:6.2f}%" for each in answer.ranking]
    else:
        width = max((len(each.label) for each in answer.segments), default=0)
        lines += [
            f"  {_clock(each.start_seconds)} - {_clock(each.end_seconds)}  {each.label:<{width}}  "
            f"{100 * each.probability:6.2f}%"
            for each in answer.segments
        ]
        if not answer.segments:
            lines.append("  no class is probable enough anywhere")
    return "\n".join(lines)


CSV_HEADER = {
    False: ["path", "rank", "label", "probability", "start_seconds", "end_seconds", "error"],
    True: ["path", "label", "probability", "start_seconds", "end_seconds", "error"],
}
"""With and without a timeline: a row for each segment, or for each class of the ranking."""


def as_csv(answers: list[Answer], *, timeline: bool, header: bool = True) -> str:
    """Rows of a spreadsheet; a video that could not be read has one, with the reason."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if header:
        writer.writerow(CSV_HEADER[timeline])
    for answer in answers:
        if timeline:
            for each in answer.segments or []:
                writer.writerow([answer.path, each.label, each.probability, each.start_seconds, each.end_seconds, ""])
        else:
            for place, ranked in enumerate(answer.ranking, 1):
                shown = [answer.start_seconds, answer.end_seconds]
                writer.writerow([answer.path, place, ranked.label, ranked.probability, *shown, ""])
        if answer.error is not None:
            writer.writerow([answer.path, *[""] * (len(CSV_HEADER[timeline]) - 2), answer.error])
    return out.getvalue()


def as_srt(answer: Answer) -> str:
    """SubRip subtitles: one for each segment."""
    cues = [
        f"{number}\n{_clock(each.start_seconds, ',')} --> {_clock(each.end_seconds, ',')}\n{_cue(each)}\n"
        for number, each in enumerate(answer.segments or [], 1)
    ]
    return "\n".join(cues)


def as_vtt(answer: Answer) -> str:
    """WebVTT subtitles: one for each segment."""
    cues = [
        f"{_clock(each.start_seconds)} --> {_clock(each.end_seconds)}\n"
        + _cue(each).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        + "\n"
        for each in answer.segments or []
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _cue(segment: Segment) -> str:
    """A label on one line that cannot end the cue or begin another."""
    return f"{' '.join(segment.label.split()).replace('-->', '->')} ({100 * segment.probability:.0f}%)"


def _clock(seconds: float, point: str = ".") -> str:
    """hh:mm:ss.mmm"""
    thousandths = round(1000 * seconds)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
