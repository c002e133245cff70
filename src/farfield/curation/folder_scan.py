"""Find the videos of a folder, and count the skipped files by reason.

Symbolic links to files and folders are followed. A linked video is listed under the name of the link, since the name
of the target may be only a hash of its content (in DVC, git-annex, the Hugging Face cache). If several paths lead to
one folder, this folder is scanned once: under its own path if the scan reaches the folder without following a link,
otherwise under the path through the first link that leads to it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePath

from farfield.video.frame_folder import looks_like_frames

_SUFFIXES = """
    .mp4 .m4v .mov .qt .3gp .3gpp .3g2 .3gp2 .f4v .mj2 .ismv .insv
    .mkv .mk3d .webm .ogv .ogg .ogm .ogx
    .avi .divx .amv .wmv .asf .dvr-ms .wtv .flv .kux
    .ts .mts .m2ts .m2t .tp .trp .tod .rec
    .mpg .mpeg .mpe .mpv .m1v .m2v .m2p .mp2v .mod .vob .vro .evo .ty .nsv
    .h261 .h263 .h264 .264 .h26l .avc .h265 .265 .hevc .h266 .266 .vvc .av1 .obu .ivf .vc1 .avs2 .avs3
    .mjpeg .mjpg .y4m .nut
    .mxf .gxf .lxf .dv .dif .dnxhd .dnxhr .dav
    .rm .rmvb .rv .ivr .viv .bik .smk .roq .fli .flc .xmv
    .gif .apng .webp
"""
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split())
"""Suffixes by which a folder scan recognises videos. A file that the user names is opened whatever its suffix."""

SYSTEM_FOLDERS = frozenset(
    ("$recycle.bin", "system volume information", "#recycle", "@recycle", "@eadir", "__macosx", "lost+found")
)
"""Names, in lower case, of folders that operating systems create for trash, previews and recovered files."""


class Reason(Enum):
    """Why a scan skips a file or folder. Each value is the text for messages, as (singular, plural)."""

    HIDDEN = ("hidden", "hidden")
    SYSTEM_FOLDER = ("system folder", "system folders")
    OTHER_ENDING = ("file without a video suffix", "files without a video suffix")
    BROKEN_LINK = ("broken link", "broken links")
    LINK_LOOP = ("link to a folder that contains the link", "links to folders that contain the links")
    SCANNED_ALREADY = ("folder already scanned under another name", "folders already scanned under other names")
    NO_REGULAR_FILE = ("that is not a regular file", "that are not regular files")
    UNREADABLE = ("unreadable file or folder", "unreadable files or folders")
    NEEDS_FPS = (
        "folder of numbered pictures without a frame rate (give --fps)",
        "folders of numbered pictures without a frame rate (give --fps)",
    )
    EMPTY_CLASS = ("class folder without videos", "class folders without videos")
    OUTSIDE_CLASSES = ("video outside the class folders", "videos outside the class folders")
    OTHER_NAME = ("video not named <id>_<start>_<end>", "videos not named <id>_<start>_<end>")
    NOT_ANNOTATED = ("video that is not in the annotations", "videos that are not in the annotations")
    SAME_CLIP = ("extra file of a clip", "extra files of clips")
    BESIDE_ARCHIVES = ("video outside the tar archives", "videos outside the tar archives")


@dataclass
class SkippedFiles:
    """Counts, and optionally names, of the files and folders that a scan skipped.

    Attributes:
        keep_names: whether to keep the names, too; False by default, since a collection may hold millions of images.
        counts: number of files and folders for each reason. A hidden folder counts once, whatever is in it.
        endings: number of files for each suffix that is not a video suffix. Suffixes are in lower case; "" counts the
            files without a suffix.
        names: (path, reason) of each skipped file or folder; empty unless `keep_names`.
    """

    keep_names: bool = False
    counts: Counter[Reason] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    names: list[tuple[str, Reason]] = field(default_factory=list)

    def add(self, reason: Reason, path: str | PurePath) -> None:
        """Record one skipped file or folder."""
        self.counts[reason] += 1
        if reason is Reason.OTHER_ENDING:
            self.endings[PurePath(path).suffix.lower()] += 1
        if self.keep_names:
            self.names.append((str(PurePath(path)), reason))

    def update(self, other: SkippedFiles) -> None:
        """Add the counts and names that another scan recorded."""
        self.counts += other.counts
        self.endings += other.endings
        self.names += other.names

    def summary(self) -> str:
        """Format all counts in one line, for example "3 hidden, 12 files without a video suffix (.txt 10)".

        The line is "" if nothing was skipped.
        """
        parts = []
        for reason in Reason:
            if count := self.counts[reason]:
                endings = f" ({self._endings()})" if reason is Reason.OTHER_ENDING else ""
                parts.append(f"{count} {reason.value[count > 1]}{endings}")
        return ", ".join(parts)

    def sentence(self) -> str:
        """Format the counts as a sentence for error messages, "Left out: ..."; "" if nothing was skipped."""
        return f"Left out: {self.summary()}." if self.counts else ""

    def _endings(self, shown: int = 6) -> str:
        found = sorted(self.endings.items(), key=lambda each: (-each[1], each[0]))
        parts = [f"{ending or 'none'} {count}" for ending, count in found[:shown]]
        return ", ".join(parts + ([f"{len(found) - shown} others"] if len(found) > shown else []))

    def as_dict(self) -> dict[str, int]:
        """Return the counts above zero. Keys are the names of the reasons in lower case, such as "broken_link"."""
        return {reason.name.lower(): self.counts[reason] for reason in Reason if self.counts[reason]}


def has_video_suffix(path: str | PurePath) -> bool:
    """Return whether a file has a video suffix, in upper or lower case."""
    return PurePath(path).suffix.lower() in VIDEO_SUFFIXES


def hidden_reason(name: str) -> Reason | None:
    """Return why to skip a file or folder of this name: HIDDEN (leading dot) or SYSTEM_FOLDER (in `SYSTEM_FOLDERS`).

    The result is None for any other name.
    """
    if name.startswith("."):
        return Reason.HIDDEN
    return Reason.SYSTEM_FOLDER if name.lower() in SYSTEM_FOLDERS else None


def scan_folder(
    root: str | Path, skipped: SkippedFiles, *, exclude: str | Path | None = None, frame_folders: bool = False
) -> list[Path]:
    """Find all videos in a folder and its subfolders.

    A folder that holds numbered pictures, and neither videos nor subfolders, is listed or skipped as a whole (see
    `frame_folders`). The single files in this folder are neither listed nor recorded as skipped.

    Args:
        root: folder to scan. It may itself be hidden, or a link.
        skipped: record of skipped files, to which this scan adds.
        exclude: folder whose content is neither listed nor recorded as skipped, for example the output folder. This
            has no effect if the folder is `root` or contains `root`. None excludes nothing.
        frame_folders: True to list each folder of numbered pictures as one video. False to record each as skipped,
            since its frame rate is unknown.

    Returns:
        Sorted paths that begin with `root`. A linked video has the path of the link, not of its target.
    """
    real_root = os.path.realpath(root)
    excluded = None if exclude is None else os.path.realpath(exclude)
    if excluded is not None and _is_inside(real_root, excluded):
        excluded = None
    videos: list[Path] = []
    scanned: set[str] = set()
    folders: deque[tuple[str, str]] = deque([(os.fspath(root), real_root)])
    linked: deque[tuple[str, str]] = deque()  # scanned last, so that a folder keeps its own name
    while folders or linked:
        folder, real = (folders or linked).popleft()
        if excluded is not None and _is_inside(real, excluded):
            continue
        if real in scanned:
            skipped.add(Reason.SCANNED_ALREADY, folder)
            continue
        scanned.add(real)
        entries = list(_entries(folder, skipped))
        if _holds_frames(folder, entries):
            if frame_folders:
                videos.append(Path(folder))
            else:
                skipped.add(Reason.NEEDS_FPS, folder)
            continue
        for entry in entries:
            if reason := hidden_reason(entry.name):
                skipped.add(reason, entry.path)
                continue
            kind = _kind(entry, skipped)
            if kind is None:
                continue
            if stat.S_ISDIR(kind):
                if not entry.is_symlink():
                    folders.append((entry.path, f"{real.rstrip(os.sep)}{os.sep}{entry.name}"))
                elif _is_inside(real, target := os.path.realpath(entry.path)) or _is_inside(real_root, target):
                    skipped.add(Reason.LINK_LOOP, entry.path)
                else:
                    linked.append((entry.path, target))
            elif not stat.S_ISREG(kind):
                skipped.add(Reason.NO_REGULAR_FILE, entry.path)
            elif not has_video_suffix(entry.name):
                skipped.add(Reason.OTHER_ENDING, entry.path)
            elif excluded is None or not entry.is_symlink() or not _is_inside(os.path.realpath(entry.path), excluded):
                videos.append(Path(entry.path))
    return sorted(videos)


def _holds_frames(folder: str, entries: list[os.DirEntry[str]]) -> bool:
    """Return whether a folder holds numbered pictures, but no video and no folder. Hidden entries do not count."""
    shown = [entry for entry in entries if hidden_reason(entry.name) is None]
    return looks_like_frames(Path(folder), (entry.name for entry in shown)) and not any(
        (has_video_suffix(entry.name) and not entry.name.lower().endswith(".webp")) or entry.is_dir() for entry in shown
    )


def _entries(folder: str, skipped: SkippedFiles) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder, sorted by name. If the folder cannot be read, record it as skipped."""
    try:
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except OSError:
        skipped.add(Reason.UNREADABLE, folder)


def _kind(entry: os.DirEntry[str], skipped: SkippedFiles) -> int | None:
    """Return the file type of a directory entry, in the format of `st_mode`. Links are followed.

    Use only the file-type bits of the result: the permission bits may be missing. If the entry cannot be read, record
    it as skipped and return None.
    """
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG  # known from the directory listing, without a system call for each file
    try:
        return entry.stat().st_mode
    except FileNotFoundError:
        skipped.add(Reason.BROKEN_LINK, entry.path)
    except OSError as error:
        skipped.add(Reason.BROKEN_LINK if error.errno == errno.ELOOP else Reason.UNREADABLE, entry.path)
    return None


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
