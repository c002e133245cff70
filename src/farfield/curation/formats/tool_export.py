"""What the exports of labelling tools have in common: JSON to check, paths of another machine, frames, label lists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeVar

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.errors import FarfieldError, VideoError, nearest
from farfield.video.decoders import open_video
from farfield.video.frame_rate import frame_rate as average_rate

T = TypeVar("T")

_KINDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}


def checked(value: Any, kind: type[T], where: str) -> T:
    """Return a JSON value if it is of a kind: str, int, float (which takes whole numbers), list or dict.

    Raises:
        FarfieldError: for a value of another kind; the message begins with `where`.
    """
    valid = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
    if valid:
        return value
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    raise FarfieldError(f"{where} is {shown}; it must be {_KINDS[kind]}. Export the annotations again, or correct it.")


def join_labels(labels: Iterable[str], where: str) -> str:
    """Join the labels of one row as a manifest does, each once.

    Raises:
        FarfieldError: for a label that contains the separator.
    """
    names = list(dict.fromkeys(label.strip() for label in labels if label.strip()))
    for name in names:
        if "|" in name:
            raise FarfieldError(
                f"{where}: the label {name!r} contains '|', which separates labels in a manifest. Rename the label."
            )
    return "|".join(names)


def frame_rate(source: AnnotationSource, format: str) -> float:
    """Return the option fps.

    Raises:
        FarfieldError: if it was not given, or is not positive.
    """
    if source.fps is None:
        raise FarfieldError(
            f"{source.annotations} counts time in frames; format={format!r} needs the frame rate that the tool counted "
            "by. Give fps, for example fps=25."
        )
    if not source.fps > 0:
        raise FarfieldError(f"fps is {source.fps}; it must be above 0. Give the frame rate that the tool counted by.")
    return source.fps


def own_frame_rate(source: AnnotationSource, video: str) -> float:
    """Return the option fps, or without it the average rate of a video, for tools that count the video's own frames.

    Args:
        source: videos and options.
        video: path of the video relative to `root`. The rate of one that cannot be opened is 1; indexing reports it.

    Raises:
        FarfieldError: if the option is not positive.
    """
    if source.fps is not None:
        return frame_rate(source, "")
    try:
        with open_video(source.root / video) as opened:
            return average_rate(opened.times)
    except VideoError:
        return 1.0


def frames_to_seconds(first: float, last: float, fps: float, where: str) -> tuple[float, float]:
    """Convert frames that are counted from 1, both included, to [start, end) in seconds.

    Raises:
        FarfieldError: if the first frame is below 1 or above the last.
    """
    if not 1 <= first <= last:
        raise FarfieldError(
            f"{where} is [{first}, {last}]; frames are counted from 1, and the first must not be above the last. "
            "Correct the frames; add 1 to frames that were counted from 0."
        )
    return (first - 1) / fps, last / fps


def choose(given: str | None, found: Iterable[str], what: str, source: AnnotationSource) -> str | None:
    """Choose what holds the labels: the option label_column, or the only one that was found; None if none was found.

    Raises:
        FarfieldError: for an unknown one, or several without the option.
    """
    names = sorted(set(found))
    if given is not None and given not in names:
        raise FarfieldError(f"{source.annotations} has no {what} {given!r} with labels. {nearest(given, names)}")
    if given is None and len(names) > 1:
        raise FarfieldError(
            f"{source.annotations} has several {what}s with labels: {', '.join(names)}. Give label_column, for example "
            f"label_column={names[0]}."
        )
    return given or (names[0] if names else None)


def find_videos(source: AnnotationSource, names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Find the videos that an export names by paths or URLs of another machine.

    A video under `root` fits a path if it has its file name, or else its name without suffix. Of several, the one that
    shares most of the path's last folders is taken. A video that fits several names is given to the one that it fits
    best. All other names are added to `left_out`.

    Args:
        names: for each name that the export uses, the paths to look for; the first that fits is taken.

    Returns:
        Path relative to `root` of each name that can be used; the last file name looked for if no video fits.
    """
    found: dict[str, str] = {}
    claims: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for name, paths in names.items():
        for rank, path in enumerate(paths):
            shared, fitting = _fitting(source, path)
            if len(fitting) > 1:
                source.leave_out_ambiguous(name, fitting)
            elif fitting:
                claims[fitting[0]].append((-rank, shared, name))
            if fitting:
                break
        else:
            found[name] = PurePosixPath(paths[-1]).name
    for video, claim in claims.items():
        *others, best = sorted(claim)
        if others and others[-1][:2] == best[:2]:
            others, best = sorted(claim), (0, 0, "")
        else:
            found[best[2]] = video
        for _, _, name in others:
            rival = best[2] or next(each for _, _, each in others if each != name)
            source.left_out.append((name, f"the only video of this name, {video}, may be that of {rival}, too"))
    return {name: found[name] for name in names if name in found}


def _fitting(source: AnnotationSource, path: str) -> tuple[int, list[str]]:
    """Return how many last parts of the path are shared, and the videos that share most."""
    wanted = PurePosixPath(path.replace("\\", "/"))
    videos = source.files_by_stem.get(wanted.stem, [])
    videos = [video for video in videos if PurePosixPath(video).name == wanted.name] or videos
    shared = {video: _shared_parts(wanted, PurePosixPath(video)) for video in videos}
    most = max(shared.values(), default=0)
    return most, [video for video in videos if shared[video] == most]


def _shared_parts(one: PurePosixPath, other: PurePosixPath) -> int:
    pairs = zip(reversed(one.parts[:-1]), reversed(other.parts[:-1]), strict=False)
    count = 0
    for a, b in pairs:
        if a != b:
            break
        count += 1
    return count + (one.name == other.name)
