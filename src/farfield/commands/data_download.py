"""`farfield data download`: download the clips that a Kinetics CSV lists."""

from __future__ import annotations

import json as json_format
import sys
from typing import Any

from farfield.commands.console import quiet_libraries
from farfield.curation.download import download as download_clips
from farfield.options.parser import runs


@runs(download_clips)
def download(*, out: str, json: bool = False, **options: Any) -> int:
    """Download the clips that a Kinetics CSV lists; return 1 if some downloads failed, otherwise 0.

    Args:
        json: print the result as JSON.
    """
    quiet_libraries()
    made = download_clips(out=out, **options)
    for text, count in made.warnings.most_common():
        print(f"warned: {count} x {text}", file=sys.stderr)
    if json:
        print(json_format.dumps(made.as_dict(), indent=2))
        return 1 if made.failures else 0
    print(f"{out}: {made.fetched} clips fetched, {made.already_there} there already, {len(made.failures)} failed")
    if made.known_to_be_gone:
        print(
            f"clips that failed permanently before, and were not requested again: {made.known_to_be_gone}; --retry "
            "requests them.",
            file=sys.stderr,
        )
    for reason, count in made.reasons().items():
        print(f"failed: {count} x {reason}", file=sys.stderr)
    return 1 if made.failures else 0
