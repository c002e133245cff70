"""Print the predictions of `farfield predict`."""

from __future__ import annotations

import json
from collections.abc import Iterable

from farfield.inference.output_formats import SUBTITLES, Format
from farfield.inference.prediction_schema import Prediction
from farfield.inference.tables_and_subtitles import as_csv, as_srt, as_table, as_vtt
from farfield.progress import ProgressBar


def print_each(predictions: Iterable[Prediction], format: Format) -> None:
    """Print each prediction as soon as it is finished if `format` is "table" or "jsonl"; otherwise print nothing."""
    for prediction in predictions:
        if format == "jsonl":
            ProgressBar.write(json.dumps(prediction.to_dict()))
        elif format == "table" and prediction.ranking:
            ProgressBar.write(as_table(prediction))


def print_all(predictions: list[Prediction], format: Format, *, timeline: bool) -> None:
    """Print all predictions at the end if `format` is "json", "csv", "srt" or "vtt"; otherwise print nothing."""
    if format == "json":
        print(json.dumps([prediction.to_dict() for prediction in predictions], indent=2))
    elif format == "csv":
        print(as_csv(predictions, timeline=timeline), end="")
    elif format in SUBTITLES and predictions and predictions[0].ranking:
        print({"srt": as_srt, "vtt": as_vtt}[format](predictions[0]), end="")
