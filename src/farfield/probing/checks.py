"""Check a probe's options and data, and warn of videos that are in two sets."""

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
    """Check a probe's data and options before anything is written.

    Returns:
        The test manifest; None if `probe.test` is not set.

    Raises:
        FarfieldError: in these cases:

            - a value in `settings` is not allowed;
            - `data.val` is not set;
            - an option of the data does not apply to a probe;
            - the validation or test manifest has labels that do not fit `data.labels` and `data.task`;
            - the test manifest cannot be read;
            - the task is multilabel, and no row of the test manifest has a label.
    """
    settings.check()
    if data.val_manifest is None:
        raise FarfieldError(
            "a probe chooses the head, learning rate and weight decay on validation videos, but data.val is not set. "
            "Set data.val; `farfield data split` splits one manifest into training, validation and test manifests."
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
            f"{', '.join(given)} cannot be combined with a probe, which uses single clips of trimmed videos. Leave "
            f"{'it' if len(given) == 1 else 'them'} out. To use more clips of each video, set probe.train_views."
        )
    of_validation = count_videos(row_targets(data.val_manifest, data.labels, data.task), len(data.labels))
    missing = [
        label
        for label, here, there in zip(data.labels, data.class_counts, of_validation, strict=True)
        if here and not there
    ]
    if missing:
        log.warning(
            "classes without validation videos: %d of %d (%s). They do not count when the best head is chosen. Add "
            "videos of them to data.val.",
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
    _warn_if_shared("probe.test", test, "data.val", data.val_manifest, "on which the head is chosen")
    return test


def check_readable(
    training: FeatureSet, validation: FeatureSet, test: FeatureSet | None, *, labels: Sequence[str], task: Task
) -> None:
    """Check the labels of the videos that could be read. Log a warning that names classes without training videos.

    Raises:
        FarfieldError: in a multilabel task, if no readable validation video has a label, or if `test` is given and no
            readable test video has a label.
    """
    counts = count_videos(training.video_targets.numpy(), len(labels))
    if missing := [label for label, count in zip(labels, counts, strict=True) if not count]:
        log.warning(
            "classes without a readable training video: %d of %d (%s). Heads cannot learn them. Add or repair videos "
            "of them.",
            len(missing),
            len(labels),
            _some(missing),
        )
    for option, videos in {"data.val": validation, "probe.test": test}.items():
        if task == "multilabel" and videos is not None and not videos.video_targets.any():
            raise FarfieldError(
                f"no readable video of {option} has a label ({len(videos)} can be read), so mean average precision "
                "cannot be measured. Repair the videos that were left out, or add videos with labels."
            )


def _warn_if_shared(name: str, videos: Manifest, of: str, others: Manifest, use: str) -> None:
    """Log a warning if rows of two manifests (whole videos or segments) overlap in time in the same video.

    Args:
        name: option of the manifest, such as data.val.
        videos: the manifest.
        of: option of the other manifest.
        others: the other manifest.
        use: use of the other manifest, as a relative clause such as "on which heads are trained".
    """
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
            "%s shares videos with %s, %s. The shared videos are %d of the %d videos of %s, such as %s. The metrics on "
            "%s will be too high. Remove the shared videos from one of the two manifests.",
            name,
            of,
            use,
            len(shared),
            len(videos),
            name,
            shared[0],
            name,
        )


def _segment(manifest: Manifest, row: int) -> tuple[str, float, float]:
    """Return the path of a row's video, and the start and end of its segment in seconds."""
    record = manifest[row]
    start, end = record.start_seconds, record.end_seconds
    return os.path.normpath(manifest.path(row).absolute()), start or 0.0, math.inf if end is None else end


def _some(names: Sequence[str]) -> str:
    """Return the first five names, quoted and separated by commas; "..." stands for more."""
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
