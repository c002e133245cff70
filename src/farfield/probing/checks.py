"""Check that the data of a run suit a probe."""

from __future__ import annotations

import logging

from farfield.data.datamodule import VideoDataModule
from farfield.data.manifest import Manifest, read_manifest
from farfield.data.targets import count_videos, row_targets
from farfield.errors import FarfieldError
from farfield.probing.options import ProbeSettings

log = logging.getLogger("farfield")


def check_probe(data: VideoDataModule, settings: ProbeSettings) -> Manifest | None:
    """Check, before anything is written, that the data suit a probe; return the test manifest.

    Raises:
        FarfieldError: without validation videos, for values out of range, for options that do not apply to a probe, or
            a test manifest that cannot be read or has unknown labels.
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
    _warn_of_missing_classes(data)
    _warn_of_shared_videos(data.val_manifest, data.train_manifest, "data.val", "data.train, which trains the heads")
    if settings.test is None:
        return None
    test = read_manifest(settings.test, root=data.root)
    row_targets(test, data.labels, data.task)  # raises for an unknown label
    _warn_of_shared_videos(test, data.train_manifest, "probe.test", "data.train, which trains the heads")
    _warn_of_shared_videos(test, data.val_manifest, "probe.test", "data.val, which chooses the head")
    return test


def _warn_of_missing_classes(data: VideoDataModule) -> None:
    assert data.val_manifest is not None
    of_validation = count_videos(row_targets(data.val_manifest, data.labels, data.task), len(data.labels))
    missing = [
        label
        for label, here, there in zip(data.labels, data.class_counts, of_validation, strict=True)
        if here and not there
    ]
    if missing:
        named = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        log.warning(
            "%d of %d classes have no validation video (%s), so that heads are chosen without them. Add videos of them "
            "to data.val.",
            len(missing),
            len(data.labels),
            named,
        )


def _warn_of_shared_videos(videos: Manifest, others: Manifest, option: str, where: str) -> None:
    """Warn if figures are measured on videos that are also used elsewhere. Other segments of a video may be shared."""
    shared = len(_segments(videos) & _segments(others))
    if shared:
        log.warning(
            "%d of the %d videos of %s are also in %s, so that the figures look better than they are. Leave them out "
            "of one of the two.",
            shared,
            len(videos),
            option,
            where,
        )


def _segments(manifest: Manifest) -> set[tuple[str, float | None, float | None]]:
    rows = enumerate(manifest)
    return {(str(manifest.path(row).absolute()), each.start_seconds, each.end_seconds) for row, each in rows}
