"""Prepare to write a manifest: check the output path, create its folder, and compute the videos' paths."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from farfield.errors import FarfieldError


def make_parent_folder(out: Path) -> None:
    """Create the folder of an output file before the work starts, so that a wrong path fails early.

    Raises:
        FarfieldError: if `out` is a folder, or its parent folder cannot be created.
    """
    if out.is_dir():
        raise FarfieldError(f"{out} is a folder. Give a file, for example {out / 'manifest.csv'}.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FarfieldError(f"{out.parent} cannot be created: {error.strerror}. Give another path.") from error


def refuse_to_replace_other_files(out: Path) -> None:
    """Refuse to overwrite a file that is not a manifest, such as annotations given as `out` by mistake.

    Raises:
        FarfieldError: if `out` exists, is not empty and is not a manifest.
    """
    if not out.is_file() or not out.stat().st_size:
        return
    with out.open(encoding="utf-8", errors="replace") as file:
        header = file.readline()
    if not header.startswith("path,label"):
        raise FarfieldError(
            f"{out} exists and is not a manifest: its first line is {header.strip()[:80]!r}. Choose another name."
        )


def path_in_manifest(folder: Path, root: Path, inside: str) -> str:
    """Return a video's path for a manifest: relative if the video is inside the manifest's folder, absolute if not.

    Relative paths stay valid when the manifest and its videos are moved together. For a symbolic link, the path is that
    of the link, not of its target, since tools such as git-annex name the target by a hash of its content.

    Args:
        folder: folder of the manifest.
        root: folder of the videos.
        inside: path of the video, relative to `root` or absolute.
    """
    video = root / inside
    places = [(folder.resolve(), (root.resolve() / inside))]
    if ".." in PurePosixPath(inside).parts:  # where it leads depends on links before the ".."
        places = [(folder.resolve(), video.parent.resolve() / video.name)]
    elif ".." not in {*folder.parts, *video.parts}:
        places = [(folder.absolute(), video.absolute()), *places]
    for base, file in places:
        if file.is_relative_to(base):
            relative = file.relative_to(base).as_posix()
            # Readers of manifests strip blanks around a value.
            return relative if relative == relative.strip() else f"./{relative}"
    return str(places[0][1])
