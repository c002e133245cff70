"""`farfield data index`: write a manifest of a collection of videos."""

from __future__ import annotations

import sys
from typing import Any

from farfield.commands.console import report_skipped_files
from farfield.curation.index import index_videos
from farfield.options.parser import runs


@runs(index_videos)
def index(*, out: str, **options: Any) -> int:
    """Index a collection of videos; return 1 if some could not be read."""
    made = index_videos(out=out, **options)
    print(f"{out}: {len(made.records)} videos of {made.num_classes} classes")
    report_skipped_files(made.skipped)
    for path, reason in made.failures:
        print(f"left out: {path}: {reason}", file=sys.stderr)
    if made.failures:
        print(f"videos left out: {len(made.failures)}", file=sys.stderr)
    return 1 if made.failures else 0
