"""`farfield data prepare`: transcode a collection for training."""

from __future__ import annotations

import json as json_format
import sys
from typing import Any

from farfield.commands.console import report_skipped_files
from farfield.curation.prepare import prepare as prepare_store
from farfield.options.parser import runs


@runs(prepare_store)
def prepare(*, out: str, json: bool = False, **options: Any) -> int:
    """Transcode the videos of a collection for training; return 1 if some videos failed, otherwise 0.

    Args:
        json: print JSON.
    """
    made = prepare_store(out=out, **options)
    report_skipped_files(made.skipped)
    about = made.as_dict()
    if json:
        print(json_format.dumps({"out": out} | about, indent=2))
        return 1 if made.failures else 0
    before, after = about["bytes_before"] / 1e6, about["bytes_after"] / 1e6
    print(f"{out}: {about['videos']} videos, {about['hours']:.2f} hours, {before:.1f} MB before, {after:.1f} MB now")
    if made.already_there:
        print(f"videos that were there already: {made.already_there}")
    if made.unlabelled:
        hint = "give annotations, or put the videos in folders named after their classes"
        print(f"videos without a known class, not in manifest.csv: {made.unlabelled}; {hint}.", file=sys.stderr)
    for reason, count in made.reasons().items():
        print(f"failed: {count} x {reason}", file=sys.stderr)
    if made.failures:
        print(f"{made.failures_file} lists the failed videos.", file=sys.stderr)
    return 1 if made.failures else 0
