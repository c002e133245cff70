"""`farfield data split`: make training, validation and test manifests, or folds."""

from __future__ import annotations

import json as json_format
import sys
from typing import Any

from farfield.curation.split import SplitResult
from farfield.curation.split import split as split_manifest
from farfield.options.parser import runs


@runs(split_manifest)
def split(*, json: bool = False, **options: Any) -> int:
    """Split a manifest into parts, and print how many rows (videos or segments) each has.

    Args:
        json: print the result as JSON.
        options: further options, those of `split_manifest`.
    """
    made = split_manifest(**options)
    if made.siblings is not None:
        print(_warning(made), file=sys.stderr)
    if json:
        print(json_format.dumps(made.as_dict(), indent=2))
        return 0
    for name, path in made.manifests.items():
        present = sum(counts[name] > 0 for label, counts in made.classes.items() if label)
        print(f"{path}: {made.videos[name]} rows of {present} classes")
    if made.ungrouped:
        print(f"videos without a group: {made.ungrouped}; each counts as a group of its own", file=sys.stderr)
    print(f"{made.groups} groups" + (f", of which {made.kept} stayed where they were" if made.kept else ""))
    return 0


def _warning(made: SplitResult) -> str:
    assert made.siblings is not None
    found = made.siblings
    return (
        f"farfield data split: {' and '.join(found.example)} look like videos of one source: {found.videos} file names "
        f"show {found.sources} sources. If videos of one source are in training and test, the test metrics are too "
        f"high. To keep them together: --group '{found.pattern}' --overwrite"
    )
