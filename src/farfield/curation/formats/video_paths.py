"""Find the videos of a collection by the paths that its annotations give."""

from __future__ import annotations

from pathlib import PurePosixPath

from farfield.curation.formats.annotation_source import AnnotationSource


def locate_video(source: AnnotationSource, path: str, *, unique_names: bool = True) -> str | None:
    """Find a video by the path that the annotations give for it.

    The first of these steps that finds a file decides. Steps 2 and 3 find videos in a collection that was moved or
    transcoded. They compare paths without suffixes.

    1. Take the file at `path` below `root`.
    2. Take a video whose path ends in `path`.
    3. Take a video anywhere below `root` with the same file name.

    Args:
        source: videos, annotations and options of the collection.
        path: path of the video in the annotations.
        unique_names: whether all file names of the collection differ. If not, step 3 is left out for a video whose
            folder holds other videos: the video is missing, and one of the same name may be of another class.

    Returns:
        Path relative to `root`; `path` itself if the video is missing. If a step finds several files, `path` is added
        to `source.left_out`, and the result is None.
    """
    if (source.root / path).is_file():
        return path
    usual = PurePosixPath(path).with_suffix("")
    found = [PurePosixPath(each) for each in source.files_by_stem.get(usual.name, [])]
    in_folder = [each for each in found if each.with_suffix("").parts[-len(usual.parts) :] == usual.parts]
    folder = usual.parent.parts
    has_folder = not unique_names and any(each[-len(folder) :] == folder for each in source.folders)
    candidates = in_folder or ([] if has_folder else found)
    if len(candidates) > 1:
        source.leave_out_ambiguous(path, list(map(str, candidates)))
        return None
    return str(candidates[0]) if candidates else path
