"""`farfield data verify`: decode every video, and find duplicates and leaks."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Any

from farfield.commands.console import report_skipped_files
from farfield.curation.verify import verify as verify_collection
from farfield.options.parser import runs


@runs(verify_collection)
def verify(*, out: str, json: bool = False, **options: Any) -> int:
    """Decode every video of a collection, and report unreadable videos, duplicates and leaks between splits.

    Returns 1 if a problem was found, otherwise 0.

    Args:
        json: print the report as JSON.
    """
    found = verify_collection(out=out, **options)
    report_skipped_files(found.skipped)
    if json:
        print(json_format.dumps(found.as_dict(), indent=2))
        return 0 if found.is_healthy() else 1
    print(f"{found.videos} videos, {found.hours:.2f} hours; {len(found.undecodable)} cannot be decoded")
    for reason, count in found.reasons().items():
        print(f"  {count} x {reason}")
    print(f"shared by two splits: {len(found.leaks)}")
    print(f"groups of identical files: {len(found.same_file)}; pairs of near-duplicates: {len(found.look_alike)}")
    print(f"same video with two labels: {len(found.other_labels)}; repeated rows: {len(found.repeated_rows)}")
    print(f"classes without videos: {len(found.classes_without_videos)}")
    if found.decord:
        compared = [f"{count} x {result}" for result, count in found.decord.items() if result != "not compared"]
        compared += [
            f"{count} x not compared: farfield reads them with PyAV ({reason})"
            for reason, count in found.not_compared.items()
        ]
        sample = f"a sample of {sum(found.decord.values())} of {found.videos} videos"
        print(f"decord's frames, compared with PyAV's, on {sample}: {', '.join(compared)}")
    for reason, count in found.fallbacks.items():
        print(f"decoded by PyAV instead of decord: {count} x {reason}")
    print(f"report: {Path(out) / 'report.md'}")
    return 0 if found.is_healthy() else 1
