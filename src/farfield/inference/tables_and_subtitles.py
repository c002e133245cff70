"""Format predictions as text: table, CSV or subtitles. For JSON, see `prediction_schema.py`."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator
from itertools import pairwise

from farfield.inference.prediction_schema import Prediction, RankedLabel
from farfield.reports.overlapping_labels import NO_CLASS
from farfield.timelines.segments import Segment


def as_table(prediction: Prediction) -> str:
    """Format a prediction as a table: the video's path, then the ranking or the segments of a timeline."""
    seen = f"{prediction.start_seconds:.2f} s to {prediction.end_seconds:.2f} s"
    lines = [f"{prediction.title}  ({seen})"]
    multilabel = prediction.task == "multilabel"
    if prediction.segments is None:
        # Of a file of results, only the ranking is known.
        in_ranking = any(each.above_threshold is not None for each in prediction.ranking)
        has_thresholds = in_ranking or prediction.reaches_threshold is not None
        if has_thresholds and not prediction.above_threshold and not prediction.reaches_threshold:
            who = NO_CLASS if multilabel else "no class"
            if not multilabel and prediction.reaches_threshold is None:
                who = "none of these classes"
            lines.append(f"  {who} reaches its threshold")
        width = max(len(each.label) for each in prediction.ranking)
        for each in prediction.ranking:
            unknown = has_thresholds and each.above_threshold is None
            mark = "  above threshold" if each.above_threshold else "  has no threshold" if unknown else ""
            lines.append(f"  {each.label:<{width}}  {100 * each.probability:6.2f}%{mark}")
    else:
        width = max((len(each.label) for each in prediction.segments), default=0)
        scored = any(each.score != each.probability for each in prediction.segments)
        lines += [
            f"  {_clock(each.start_seconds)} - {_clock(each.end_seconds)}  {each.label:<{width}}  "
            f"{100 * each.probability:6.2f}%" + (f"  score {each.score:.4f}" if scored else "")
            for each in prediction.segments
        ]
        if not prediction.segments:
            who, which = (NO_CLASS, "its") if multilabel else ("no class", "the")
            lines.append(f"  {who} reaches {which} threshold for long enough")
    return "\n".join(lines)


_REQUESTED = ["requested_start_seconds", "requested_end_seconds"]
CSV_HEADER = {
    False: ["path", "rank", "label", "probability", "start_seconds", "end_seconds", "error", *_REQUESTED],
    True: ["path", "label", "probability", "start_seconds", "end_seconds", "error", *_REQUESTED, "score"],
}
"""CSV columns. False: without a timeline, one row per ranked class. True: with a timeline, one row per segment.

Without a timeline, a multilabel network's rows have an additional last column, above_threshold: true or false.
"""


def as_csv(predictions: list[Prediction], *, timeline: bool, header: bool = True) -> str:
    """Format predictions as CSV. A prediction with an `error` has an additional row, which contains the error.

    Args:
        predictions: predictions to format.
        timeline: whether rows are segments of timelines; otherwise they are ranked classes.
        header: whether to begin with a line of column names.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    marked = not timeline and any(prediction.task == "multilabel" for prediction in predictions)
    if header:
        writer.writerow([*CSV_HEADER[timeline], *["above_threshold"] * marked])
    for prediction in predictions:
        requested = [prediction.requested_start_seconds, prediction.requested_end_seconds]
        if timeline:
            for each in prediction.segments or []:
                cells = [prediction.path, each.label, each.probability, each.start_seconds, each.end_seconds, ""]
                writer.writerow([*cells, *requested, each.score])
        else:
            for place, ranked in enumerate(prediction.ranking, 1):
                shown = [prediction.start_seconds, prediction.end_seconds]
                cells = [prediction.path, place, ranked.label, ranked.probability, *shown, "", *requested]
                writer.writerow([*cells, *[_truth(ranked)] * marked])
        if prediction.error is not None:
            blanks = [""] * (CSV_HEADER[timeline].index("error") - 1)
            writer.writerow([prediction.path, *blanks, prediction.error, *requested, *[""] * (marked or timeline)])
    return out.getvalue()


def _truth(ranked: RankedLabel) -> str:
    return "" if ranked.above_threshold is None else str(ranked.above_threshold).lower()


def as_srt(prediction: Prediction) -> str:
    """Format segments as SubRip subtitles. Segments that overlap share a cue, with a line for each."""
    cues = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{_cue(segments)}\n"
        for number, (start, end, segments) in enumerate(_moments(prediction.segments or []), 1)
    ]
    return "\n".join(cues)


def as_vtt(prediction: Prediction) -> str:
    """Format segments as WebVTT subtitles. Segments that overlap share a cue, with a line for each."""
    cues = [
        f"{_clock(start)} --> {_clock(end)}\n"
        + _cue(segments).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        + "\n"
        for start, end, segments in _moments(prediction.segments or [])
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _moments(segments: list[Segment]) -> Iterator[tuple[float, float, list[Segment]]]:
    """Yield (start, end, segments) of each subtitle cue. Cues do not overlap.

    The starts and ends of all segments divide time into intervals. Each interval with active segments becomes a cue
    that has all of them. With one cue per segment instead, cues could overlap, and players would show only one of
    them.
    """
    bounds = sorted({bound for each in segments for bound in (each.start_seconds, each.end_seconds)})
    waiting = deque(sorted(segments, key=lambda each: each.start_seconds))
    current: list[Segment] = []
    for start, end in pairwise(bounds):
        current = [each for each in current if each.end_seconds > start]
        while waiting and waiting[0].start_seconds <= start:
            current.append(waiting.popleft())
        if current:
            yield start, end, current


def _cue(segments: list[Segment]) -> str:
    """Format the text of a cue, one line per segment.

    Line breaks and "-->" in labels are replaced, because they would end the cue.
    """
    return "\n".join(
        f"{' '.join(each.label.split()).replace('-->', '->')} ({100 * each.probability:.0f}%)" for each in segments
    )


def _clock(seconds: float, point: str = ".") -> str:
    """Format seconds as hh:mm:ss.mmm. `point` is the decimal separator."""
    thousandths = round(1000 * seconds)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
