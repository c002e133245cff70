"""`farfield predict --live`: print the predictions and alarms of cameras."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from farfield.errors import FarfieldError, VideoError
from farfield.inference.alarm_events import AlarmEvent
from farfield.inference.output_formats import Format
from farfield.inference.predict_live import LivePrediction, predict_cameras
from farfield.inference.prediction_schema import RankedLabel
from farfield.reports.overlapping_labels import NO_CLASS
from farfield.scoring.load import InferenceModel

ONLY_WITH_ALARMS = ("threshold", "hysteresis", "alarm_labels", "clips")


def check_live(format: Format, *, alarms: bool, **others: object) -> None:
    """Check the options of `farfield predict --live`.

    Args:
        format: format of the predictions.
        alarms: whether alarms are requested.
        others: values of other options by name. A falsy value means that the option was not given. --live accepts the
            options in `ONLY_WITH_ALARMS` only together with alarms, and refuses all others.

    Raises:
        FarfieldError: for an option or a format that --live does not accept.
    """
    for name, given in others.items():
        if given and name in ONLY_WITH_ALARMS and not alarms:
            raise FarfieldError(
                f"with --live, --{name} only applies to alarms. Add --alarms FILE, or leave out --{name}."
            )
        if given and name not in ONLY_WITH_ALARMS:
            raise FarfieldError(f"--live and --{name} cannot be combined. Leave out --{name}.")
    if format not in ("table", "jsonl"):
        raise FarfieldError(f"format is {format!r}, but --live prints a table or jsonl only. Give --format jsonl.")


def watch(
    sources: Sequence[str], model: InferenceModel, format: Format, *, alarms_file: str | None, **options: Any
) -> int:
    """Print predictions until the last camera ends or Ctrl-C, and write the alarms; return the exit status.

    Args:
        sources: cameras, see `predict_cameras`.
        model: the network.
        format: "table" or "jsonl".
        alarms_file: file to append alarms to; "-" to print them in place of predictions; None for no alarms.
        options: other arguments of `predict_cameras`.
    """
    with _stop_on_signals() as stop, _opened(alarms_file) as alarms:
        try:
            for each in predict_cameras(sources, model, stop=stop, **options):
                if isinstance(each, AlarmEvent):
                    if alarms is not None:
                        print(json.dumps(each.to_dict()), file=alarms, flush=True)
                elif alarms_file != "-":
                    print(_as_text(each, format, several=len(sources) > 1), flush=True)
        except VideoError as error:
            print(f"farfield predict: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:  # a second Ctrl-C
            return 130
    return 0


def _opened(path: str | None) -> Any:
    """Open the file of alarms for appending. "-" gives standard output, and None gives no file."""
    if path is None or path == "-":
        return nullcontext(None if path is None else sys.stdout)
    try:
        return Path(path).open("a", encoding="utf-8")
    except OSError as error:
        raise FarfieldError(f"{path} cannot be written: {error.strerror or error}. Give another path.") from error


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set. A second signal raises `KeyboardInterrupt`.

    The event lets `predict_cameras` end its alarms and complete their clips before it stops.
    """
    stop = threading.Event()

    def request(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield stop
        return
    before = {each: signal.signal(each, request) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_text(prediction: LivePrediction, format: Format, *, several: bool) -> str:
    if format == "jsonl":
        return json.dumps(prediction.to_dict())
    name = f"{prediction.source}  " if several else ""
    return f"{prediction.end_seconds:9.2f} s  {name}{_ranking_text(prediction)}"


def _ranking_text(prediction: LivePrediction) -> str:
    """Format the ranked classes of a live prediction, with their probabilities in per cent.

    For a multilabel network, classes below their thresholds follow in parentheses.
    """

    def listed(ranking: list[RankedLabel]) -> str:
        return "  ".join(f"{ranked.label} {100 * ranked.probability:.0f}%" for ranked in ranking)

    if prediction.task != "multilabel":
        return listed(prediction.ranking)
    above = [each for each in prediction.ranking if each.above_threshold]
    below = [each for each in prediction.ranking if not each.above_threshold]
    return (listed(above) or NO_CLASS) + (f"  ({listed(below)})" if below else "")
