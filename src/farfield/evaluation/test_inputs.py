"""Check and describe the inputs of an evaluation: the network and the manifests."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farfield.checkpoints.checkpoint import save_operating_point
from farfield.checkpoints.content_hash import network_hash
from farfield.data.manifest import Manifest
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.models.operating_point import OperatingPoint

log = logging.getLogger("farfield")


def describe_inputs(
    model: str | Path | ActionNet, manifest: str | Path, listed: Manifest, root: str | Path | None
) -> dict[str, Any]:
    """Describe the checkpoint and the manifest of a test, with their hashes, as plain types for the test report.

    Args:
        model: a network or a checkpoint.
        manifest: path of the manifest.
        listed: the manifest, as read from this path.
        root: folder that the paths in the manifest are relative to; None for the manifest's own folder.
    """
    return {
        **({} if isinstance(model, ActionNet) else {"checkpoint": str(model), "weights": network_hash(model)}),
        "manifest": str(manifest),
        **({} if root is None else {"root": str(root)}),
        "manifest_hash": listed.content_hash(),
    }


def warn_if_tested(calibrate_on: str | Path | None, held_out: Manifest, listed: Manifest) -> None:
    """Log a warning if the validation manifest lists exactly the same videos, labels and segments as the test manifest.

    Args:
        calibrate_on: path of the manifest of validation videos, for the message.
        held_out: manifest of the validation videos.
        listed: manifest of the tested videos.
    """
    if held_out.content_hash() == listed.content_hash():
        log.warning(
            "%s lists the tested videos: a temperature or thresholds chosen on them make the results look too good. "
            "Set calibrate_on to a manifest of other videos.",
            calibrate_on,
        )


def no_readable_video(count: int, manifest: str, failures: Sequence[tuple[str, str]]) -> FarfieldError:
    """Return an error for a manifest of which no video can be read.

    Args:
        count: number of videos in the manifest.
        manifest: name of the manifest.
        failures: path of each video, and why it cannot be read.
    """
    path, reason = failures[0]
    return FarfieldError(
        f"none of the videos in {manifest} can be read ({count} in all). The first failure is {path}: {reason}. Check "
        "the manifest's paths and the videos."
    )


def keep_operating_point(point: OperatingPoint, model: str | Path | ActionNet, *, timeline: bool = False) -> None:
    """Store chosen thresholds in a network, or in its checkpoint.

    Args:
        point: the thresholds.
        model: a network or a checkpoint.
        timeline: whether the thresholds are for timelines.
    """
    if not isinstance(model, ActionNet):
        save_operating_point(point, model, timeline=timeline)
    elif timeline:
        model.timeline_operating_point = point
    else:
        model.operating_point = point
