"""Check the videos of a probe: that they suit it, that none are in two sets, and that enough can be read."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence

from farfield.data.datamodule import VideoDataModule
from farfield.data.manifest import Manifest, read_manifest
from farfield.data.targets import count_videos, row_targets
from farfield.errors import FarfieldError
from farfield.probing.options import ProbeSettings
from farfield.probing.training_set import FeatureSet
from farfield.task import Task

log = logging.getLogger("farfield")


def check_probe(data: VideoDataModule, settings: ProbeSettings) -> Manifest | None:
    """Check, before anything is written, that the data suit a probe; return the test manifest.

    Raises:
        FarfieldError: without validation videos, for values out of range, for options that do not apply to a probe, or
            a test manifest that cannot be read, has unknown labels or, for a multilabel task, none.
    """
    settings.check()
    if data.val_manifest is None:
        raise FarfieldError(
            "a probe chooses the head, learning rate and weight decay on validation videos, but data.val is not set. "
            "Set data.val; `farfield data split` makes training, validation and test manifests of one."
        )
    augmentation = data.augmentation
    conflicts = {
        "data.untrimmed": data.untrimmed_options.untrimmed,
        "data.whole_videos": data.whole_videos,
        "data.short_cycle": data.short_cycle,
        "data.clips_per_video": data.clips_per_video > 1,
        "data.augmentation.mixup": augmentation.mixup > 0,
        "data.augmentation.cutmix": augmentation.cutmix > 0,
    }
    if given := [name for name, value in conflicts.items() if value]:
        raise FarfieldError(
            f"{', '.join(given)} cannot be combined with a probe, which computes the features of single clips of "
            "trimmed videos once. Leave it out; probe.train_views sets the number of clips of a video."
        )
    of_validation = count_videos(row_targets(data.val_manifest, data.labels, data.task), len(data.labels))
    missing = [
        label
        for label, here, there in zip(data.labels, data.class_counts, of_validation, strict=True)
        if here and not there
    ]
    if missing:
        log.warning(
            "%d of %d classes have no validation video (%s), so that heads are chosen without them. Add videos of them "
            "to data.val.",
            len(missing),
            len(data.labels),
            _some(missing),
        )
    _warn_if_shared("data.val", data.val_manifest, "data.train", data.train_manifest, "on which heads are trained")
    if settings.test is None:
        return None
    test = read_manifest(settings.test, root=data.root)
    targets = row_targets(test, data.labels, data.task)  # raises for an unknown label
    if data.task == "multilabel" and not targets.any():
        raise FarfieldError(
            f"{settings.test} has no label in any row, so mean average precision cannot be measured. Add videos of the "
            "classes, or leave out probe.test."
        )
    _warn_if_shared("probe.test", test, "data.train", data.train_manifest, "on which heads are trained")
    _warn_if_shared("probe.test", test, "data.val", data.val_manifest, "which chooses the head")
    return test


def check_readable(
    training: FeatureSet, validation: FeatureSet, test: FeatureSet | None, *, labels: Sequence[str], task: Task
) -> None:
    """Check that the videos that could be read suffice, and name classes of which no training video could be read.

    Raises:
        FarfieldError: for a multilabel task whose readable validation or test videos have no label.
    """
    counts = count_videos(training.video_targets.numpy(), len(labels))
    if missing := [label for label, count in zip(labels, counts, strict=True) if not count]:
        log.warning(
            "%d of %d classes have no readable training video (%s), so that heads cannot learn them.",
            len(missing),
            len(labels),
            _some(missing),
        )
    for option, videos in {"data.val": validation, "probe.test": test}.items():
        if task == "multilabel" and videos is not None and not videos.video_targets.any():
            raise FarfieldError(
                f"none of the {len(videos)} videos of {option} that can be read has a label, so mean average precision "
                "cannot be measured. Repair the videos that were left out, or add videos of the classes."
            )


def _warn_if_shared(name: str, videos: Manifest, of: str, others: Manifest, use: str) -> None:
    """Log a warning if some videos, or overlapping segments of them, are also among others."""
    seen: dict[str, list[tuple[float, float]]] = {}
    for row in range(len(others)):
        path, *segment = _segment(others, row)
        seen.setdefault(path, []).append((segment[0], segment[1]))
    segments = [_segment(videos, row) for row in range(len(videos))]
    shared = [
        path
        for path, start, end in segments
        if any(start < other_end and other_start < end for other_start, other_end in seen.get(path, ()))
    ]
    if shared:
        log.warning(
            "%d of the %d videos of %s, such as %s, are also in %s, %s, so that figures on them look better than they "
            "are. Remove them from one of the two.",
            len(shared),
            len(videos),
            name,
            shared[0],
            of,
            use,
        )


def _segment(manifest: Manifest, row: int) -> tuple[str, float, float]:
    """Return the path of a row's video, and the start and end of its segment in seconds."""
    record = manifest[row]
    start, end = record.start_seconds, record.end_seconds
    return os.path.normpath(manifest.path(row).absolute()), start or 0.0, math.inf if end is None else end


def _some(names: Sequence[str]) -> str:
    """Name at most five classes."""
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
