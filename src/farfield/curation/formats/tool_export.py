"""Shared steps of reading labelling tools' exports: check JSON values, join labels, convert frames, find videos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.errors import FarfieldError, VideoError, nearest
from farfield.video.decoders import open_video
from farfield.video.frame_rate import frame_rate as average_rate

T = TypeVar("T")

_KINDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}


def checked(value: Any, kind: type[T], where: str) -> T:
    """Check the type of a JSON value, and return the value.

    Args:
        value: value to check.
        kind: required type: str, int, float (which also accepts int), list or dict.
        where: name of the value, used as the beginning of the error message.

    Raises:
        FarfieldError: for a value of another type.
    """
    valid = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
    if valid:
        return value
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    raise FarfieldError(
        f"{where} is {shown}; it must be {_KINDS[kind]}. Export the annotations again, or correct the value."
    )


def join_labels(labels: Iterable[str], where: str) -> str:
    """Join the labels of one row by `|`, as in a manifest, each label once; empty labels are dropped.

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
    """Return the option `fps`; `format` names the annotation format in messages.

    Raises:
        FarfieldError: if the option was not given, or is not positive.
    """
    if source.fps is None:
        raise FarfieldError(
            f"{source.annotations} counts time in frames; format={format!r} needs the labelling tool's frame "
            "rate. Give fps, for example fps=25."
        )
    if not source.fps > 0:
        raise FarfieldError(f"fps is {source.fps}; it must be above 0. Give the labelling tool's frame rate.")
    return source.fps


def own_frame_rate(source: AnnotationSource, video: str) -> float:
    """Return the option `fps` or, if it is not given, the average frame rate of a video.

    Use it for labelling tools that count frames at the video's average rate, and not at a rate of their own. For a
    video that is missing or cannot be opened, the result is 1; indexing later reports this video.

    Args:
        source: videos, annotations and options of the collection.
        video: path of the video relative to `root`.

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


def frame_clock(source: AnnotationSource, video: str) -> Callable[[int], float]:
    """Return a function that gives the display time, in seconds, of a frame of a video, counted from 0.

    Use it for labelling tools whose frame numbers are those of the video's decoded frames. If the option `fps` is
    given, frames have this rate. If it is not, each frame has its own time in the file; after the last frame, time goes
    on at the average frame rate. For a video that is missing or cannot be opened, the rate is 1; indexing later reports
    this video.

    Args:
        source: videos, annotations and options of the collection.
        video: path of the video relative to `root`.

    Raises:
        FarfieldError: if the option is not positive.
    """
    fps = 1.0 if source.fps is None else frame_rate(source, "")
    times = np.empty(0)
    if source.fps is None:
        try:
            with open_video(source.root / video) as opened:
                times, fps = opened.times, average_rate(opened.times)
        except VideoError:
            pass  # the rate stays 1

    def seconds(frame: int) -> float:
        if frame < len(times):
            return float(times[frame])
        return float(times[-1]) + (frame - len(times) + 1) / fps if len(times) else frame / fps

    return seconds


def frames_to_seconds(first: float, last: float, fps: float, where: str) -> tuple[float, float]:
    """Convert a range of frames, counted from 1 and including the last, to [start, end) in seconds.

    Raises:
        FarfieldError: if the first frame is below 1 or above the last.
    """
    if not 1 <= first <= last:
        raise FarfieldError(
            f"{where} is [{first}, {last}]. Frames are counted from 1, and the first must not be above the last. "
            "Correct the frames. If they were counted from 0, add 1 to them."
        )
    return (first - 1) / fps, last / fps


def choose(given: str | None, found: Iterable[str], what: str, source: AnnotationSource) -> str | None:
    """Choose the attribute or field that holds the labels.

    Args:
        given: option label_column; None if it was not given.
        found: names of the attributes or fields that hold labels in the annotations.
        what: word for one of `found` in error messages, for example "attribute", "field" or "control".
        source: source of the annotations, for error messages.

    Returns:
        `given` or, if it is None, the only name in `found`. None if `given` is None and `found` is empty.

    Raises:
        FarfieldError: if `given` is not in `found`, or if `given` is None and `found` has several names.
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
    """Find the files of the videos that an export names by paths or URLs of another machine.

    A file under `root` matches a path if both have the same file name. If there is no such file, the same name without
    suffix is enough. Of several matching files, the one that shares the most trailing folders with the path is used.
    If several files share the most folders, the video of this path is added to `source.left_out`.

    If the rules above find the same file for several videos of the export, the best of these videos gets the file, and
    the others are added to `source.left_out`. The best video is chosen as follows:

    1. It is the video whose matching path has the earliest place in the video's own list of paths in `names`.
    2. Among equals, it is the video whose matching path shares the most trailing folders with the file. An equal file
       name counts as one more folder.
    3. If several are still equal, none is the best: all videos with this file are added to `source.left_out`.

    Args:
        source: videos, annotations and options of the collection.
        names: paths to look for, by the video's name in the export. The first path that matches any file is used.

    Returns:
        Path of each video's file relative to `root`, by the video's name in the export. Videos in `source.left_out`
        have no entry. If a video has no file, its path is the file name of the last path to look for; indexing then
        reports this path as missing.
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
            source.left_out.append((name, f"the only video of this name, {video}, may also belong to {rival}"))
    return {name: found[name] for name in names if name in found}


def _fitting(source: AnnotationSource, path: str) -> tuple[int, list[str]]:
    """Find the files that best match a path of an export, by the rules of `find_videos`.

    Returns:
        (score, files): `score` is the number of trailing folders that the path shares with each of the files, plus 1 if
        the file names are equal. `files` are the paths of the files, relative to `root`.
    """
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
