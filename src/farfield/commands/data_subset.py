"""`farfield data subset`: choose a subset of a data set."""

from __future__ import annotations

import json as json_format
import sys
from typing import Any

from farfield.commands.console import report_skipped_files
from farfield.curation.subset import write_subset
from farfield.options.parser import runs


@runs(write_subset)
def subset(*, json: bool = False, **options: Any) -> int:
    """Write a manifest of a subset of a data set: some classes, and some videos of each class.

    Args:
        json: print JSON.
    """
    made = write_subset(**options)
    report_skipped_files(made.skipped, can_list=False)
    if json:
        print(json_format.dumps(made.as_dict(), indent=2))
        return 0
    tail = "" if made.hash is None else f", hash {made.hash}"
    print(f"{made.path}: {made.videos} videos of {len(made.labels)} classes{tail}")
    for path in made.missing[:10]:
        print(f"missing: {path}", file=sys.stderr)
    if made.missing:
        print(f"chosen videos that are missing: {len(made.missing)}", file=sys.stderr)
    return 0
