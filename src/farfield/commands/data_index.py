"""`farfield data index`: write a manifest of a collection of videos."""

from __future__ import annotations

import sys
from typing import Any

from farfield.commands.console import report_skipped_files
from farfield.curation.folder_scan import Reason
from farfield.curation.index import index_videos
from farfield.options.parser import runs


@runs(index_videos)
def index(*, out: str, **options: Any) -> int:
    """Write a manifest of a collection of videos.

    Returns 1 if videos cannot be used, or folders of pictures lack a frame rate; otherwise 0.
    """
    made = index_videos(out=out, **options)
    rows = "" if made.num_videos == len(made.records) else f"{len(made.records)} segments in "
    print(f"{out}: {rows}{made.num_videos} videos of {made.num_classes} classes")
    report_skipped_files(made.skipped)
    for path, reason in made.failures:
        print(f"left out: {path}: {reason}", file=sys.stderr)
    if made.failures:
        print(f"videos and segments left out: {len(made.failures)}", file=sys.stderr)
    return 1 if made.failures or made.skipped.counts[Reason.NEEDS_FPS] else 0
