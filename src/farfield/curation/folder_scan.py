"""Find the videos of a folder, and account for all that is passed over.

Links are followed, to files and to folders alike, and a video keeps the name by which it was found: in stores that
name files by their content (DVC, git-annex, the Hugging Face cache), a link's target tells nothing. Each folder is
scanned once, under its own name where the folder that is scanned contains it.
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
"""What counts as a video when a folder is searched. A file that is named itself is always opened."""

SYSTEM_FOLDERS = frozenset(
    ("$recycle.bin", "system volume information", "#recycle", "@recycle", "@eadir", "__macosx", "lost+found")
)
"""Folders that systems make in others' folders: deleted files, previews, what a repair found. In lower case."""


class Reason(Enum):
    """Why a scan passes something over: as said of one, and of several."""

    HIDDEN = ("hidden", "hidden")
    SYSTEM_FOLDER = ("system folder", "system folders")
    OTHER_ENDING = ("with another ending", "with other endings")
    BROKEN_LINK = ("broken link", "broken links")
    LINK_LOOP = ("link to a folder that contains it", "links to folders that contain them")
    SCANNED_ALREADY = ("folder scanned already under another name", "folders scanned already under other names")
    NO_REGULAR_FILE = ("that is no regular file", "that are no regular files")
    UNREADABLE = ("unreadable file or folder", "unreadable files or folders")
    EMPTY_CLASS = ("class folder without videos", "class folders without videos")
    OUTSIDE_CLASSES = ("video outside the class folders", "videos outside the class folders")
    OTHER_NAME = ("video not named <id>_<start>_<end>", "videos not named <id>_<start>_<end>")
    NOT_ANNOTATED = ("video that is not in the annotations", "videos that are not in the annotations")
    SAME_CLIP = ("further file of the same clip", "further files of the same clips")
    BESIDE_ARCHIVES = ("video beside the archives", "videos beside the archives")


@dataclass
class LeftOut:
    """Files and folders that were passed over.

    Attributes:
        keep_names: note names, too; a collection may have millions of pictures among its videos.
        counts: how many for each reason. A hidden folder counts once, whatever is in it.
        endings: of the files with other endings, in lower case; "" for none.
        names: (path, reason) of each, where they are kept.
    """

    keep_names: bool = False
    counts: Counter[Reason] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    names: list[tuple[str, Reason]] = field(default_factory=list)

    def add(self, reason: Reason, path: str | PurePath) -> None:
        """Counts one."""
        self.counts[reason] += 1
        if reason is Reason.OTHER_ENDING:
            self.endings[PurePath(path).suffix.lower()] += 1
        if self.keep_names:
            self.names.append((str(PurePath(path)), reason))

    def update(self, other: LeftOut) -> None:
        """Adds another account to this one."""
        self.counts += other.counts
        self.endings += other.endings
        self.names += other.names

    def summary(self) -> str:
        """All counts in one line, as "3 hidden, 12 with other endings (.txt 10, .jpg 2)"; "" for nothing."""
        parts = []
        for reason in Reason:
            if count := self.counts[reason]:
                endings = f" ({self._endings()})" if reason is Reason.OTHER_ENDING else ""
                parts.append(f"{count} {reason.value[count > 1]}{endings}")
        return ", ".join(parts)

    def sentence(self) -> str:
        """What a message that no videos were found adds; "" for nothing."""
        return f"Left out: {self.summary()}." if self.counts else ""

    def _endings(self, shown: int = 6) -> str:
        found = sorted(self.endings.items(), key=lambda each: (-each[1], each[0]))
        parts = [f"{ending or 'none'} {count}" for ending, count in found[:shown]]
        return ", ".join(parts + ([f"{len(found) - shown} others"] if len(found) > shown else []))

    def as_dict(self) -> dict[str, int]:
        """Counts by reason, for programs; only those that occur."""
        return {reason.name.lower(): self.counts[reason] for reason in Reason if self.counts[reason]}


def has_video_suffix(path: str | PurePath) -> bool:
    """Tell whether a file's name ends as a video's, in upper or lower case."""
    return PurePath(path).suffix.lower() in VIDEO_SUFFIXES


def hidden_reason(name: str) -> Reason | None:
    """Tell why a file or folder of this name is not looked at; None where it is."""
    if name.startswith("."):
        return Reason.HIDDEN
    return Reason.SYSTEM_FOLDER if name.lower() in SYSTEM_FOLDERS else None


def scan_folder(root: str | Path, left_out: LeftOut, *, exclude: str | Path | None = None) -> list[Path]:
    """Find the videos under a folder, to any depth.

    Args:
        root: the folder. It may itself be hidden, or a link.
        left_out: account of what is passed over; this scan's is added to it.
        exclude: a folder that is no part of the collection, as one that is being written; it is not accounted for.
            Nothing is excluded where it is `root` itself or contains it.

    Returns:
        Paths that begin with `root`, sorted. A link keeps its own name.
    """
    own = os.path.realpath(root)
    shut = None if exclude is None or _is_inside(own, os.path.realpath(exclude)) else os.path.realpath(exclude)
    videos: list[Path] = []
    scanned: set[str] = set()
    folders: deque[tuple[str, str]] = deque([(os.fspath(root), own)])
    linked: deque[tuple[str, str]] = deque()  # after all that is no link: a folder keeps its own name
    while folders or linked:
        folder, real = (folders or linked).popleft()
        if shut is not None and _is_inside(real, shut):
            continue
        if real in scanned:
            left_out.add(Reason.SCANNED_ALREADY, folder)
            continue
        scanned.add(real)
        for entry in _entries(folder, left_out):
            if reason := hidden_reason(entry.name):
                left_out.add(reason, entry.path)
                continue
            kind = _kind(entry, left_out)
            if kind is None:
                continue
            if stat.S_ISDIR(kind):
                if not entry.is_symlink():
                    folders.append((entry.path, f"{real.rstrip(os.sep)}{os.sep}{entry.name}"))
                elif _is_inside(real, target := os.path.realpath(entry.path)) or _is_inside(own, target):
                    left_out.add(Reason.LINK_LOOP, entry.path)
                else:
                    linked.append((entry.path, target))
            elif not stat.S_ISREG(kind):
                left_out.add(Reason.NO_REGULAR_FILE, entry.path)
            elif not has_video_suffix(entry.name):
                left_out.add(Reason.OTHER_ENDING, entry.path)
            elif shut is None or not entry.is_symlink() or not _is_inside(os.path.realpath(entry.path), shut):
                videos.append(Path(entry.path))
    return sorted(videos)


def _entries(folder: str, left_out: LeftOut) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except OSError:
        left_out.add(Reason.UNREADABLE, folder)


def _kind(entry: os.DirEntry[str], left_out: LeftOut) -> int | None:
    """The type bits of what an entry is or leads to; None where that cannot be told."""
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG  # known from the folder: no call for each of a million files
    try:
        return entry.stat().st_mode
    except FileNotFoundError:
        left_out.add(Reason.BROKEN_LINK, entry.path)
    except OSError as error:
        left_out.add(Reason.BROKEN_LINK if error.errno == errno.ELOOP else Reason.UNREADABLE, entry.path)
    return None


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
