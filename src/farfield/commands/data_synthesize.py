"""`farfield data synthesize`: write a generated data set."""

from __future__ import annotations

from typing import Any

from farfield.options.parser import runs
from farfield.synthetic.synthesize import synthesize as synthesize_data_set


@runs(synthesize_data_set)
def synthesize(**options: Any) -> int:
    """Generate labelled videos, and write them with manifests for training, validation and test."""
    folder = synthesize_data_set(**options)
    print(f"{folder}: train.csv, val.csv, test.csv")
    return 0
