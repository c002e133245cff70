"""Find the videos of a collection by the paths that its annotations give."""

from __future__ import annotations

from pathlib import PurePosixPath

from farfield.curation.formats.annotation_source import AnnotationSource


def locate_video(source: AnnotationSource, path: str) -> str | None:
    """Find a video at its usual path below `root`, or else anywhere below `root` by its name.

    The file may have another suffix than `path`, as after transcoding. If several videos have the name, those in the
    usual folder take precedence.

    Returns:
        Path relative to `root`; `path` itself if the video is missing. If several videos have the name, the name is
        added to `left_out`, and the result is None.
    """
    if (source.root / path).is_file():
        return path
    usual = PurePosixPath(path).with_suffix("")
    found = [PurePosixPath(each) for each in source.files_by_stem.get(usual.name, [])]
    in_folder = [each for each in found if each.with_suffix("").parts[-len(usual.parts) :] == usual.parts]
    candidates = in_folder or found
    if len(candidates) > 1:
        source.leave_out_ambiguous(path, list(map(str, candidates)))
        return None
    return str(candidates[0]) if candidates else path
