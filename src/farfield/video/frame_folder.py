"""Read a folder of numbered pictures as a video.

The names of the pictures differ only in their number, which is the last run of digits before the suffix, as in
`img_00001.jpg` or `frame9.png`, `frame10.png`. Numbers start at 0 or 1 and have no gap. Hidden files and files that are
not pictures are ignored, and so is optical flow (flow_x_*, flow_y_*) in a folder of pictures named img_*. Pictures have
no display times, so the frame rate must be given.

Pillow decodes the pictures to 8-bit RGB. Grey pictures get three equal channels, and transparency is dropped. A picture
with an EXIF orientation is turned upright, as by image viewers and OpenCV.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, ImageOps

from farfield.errors import VideoError
from farfield.video.picture_sequence import PictureSequence

PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
"""Suffixes, in lower case, of the pictures of a frame folder."""

_NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)

_FLOW = re.compile(r"flow_[xy]_[0-9]+\.[a-z]+", re.IGNORECASE)


class FrameFolder(PictureSequence):
    """An open folder of numbered pictures, with the interface of `PyAVVideo`.

    Args:
        folder: folder of the pictures.
        fps: frames per second. None means that the frame rate is unknown, and raises a `ValueError`.

    Attributes:
        times: display time of each frame, in seconds after the first frame, ascending.

    Raises:
        OSError: if the folder cannot be read.
        ValueError: if the pictures are not one sequence (see `list_pictures`), or if `fps` is not a positive number.
    """

    def __init__(self, folder: Path, fps: float | None) -> None:
        self._folder, self._names = folder, list_pictures(folder)
        self.name = str(folder)
        if fps is None:
            raise ValueError(
                "the frame rate of this folder of pictures is unknown; give it as fps, or in the manifest's column fps "
                "(`farfield data index --fps` fills it)"
            )
        if not 0 < fps < math.inf:
            raise ValueError(f"fps is {fps:g}; the frame rate of a folder of pictures must be a positive number")
        self.times: Float[np.ndarray, " frames"] = np.arange(len(self._names)) / fps

    @cached_property
    def stored_size(self) -> tuple[int, int]:
        """Width and height in pixels of the first picture, after its EXIF orientation is applied."""
        with _opened(self._folder, self._names[0]) as image:
            return _upright_size(image)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _read_frame(self, place: int) -> VideoFrame:
        name = self._names[place]
        with _opened(self._folder, name) as image:
            _check_size(name, _upright_size(image), self._names[0], self.stored_size)
            if image.mode.startswith(("I", "F")):  # Pillow would clip the values at 255
                raise ValueError(f"{name} has more than 8 bits per channel; convert the pictures to 8 bits")
            return VideoFrame.from_ndarray(_to_rgb(image), format="rgb24")


class _Numbered(NamedTuple):
    number: int
    name: str
    form: tuple[str, str]
    """Parts of the name before and after the number."""


def list_pictures(folder: Path) -> list[str]:
    """Return the names of a folder's pictures in the order of their numbers.

    Raises:
        OSError: if the folder cannot be read.
        ValueError: if there is no picture, if a name has no number, if names differ in more than their number, or if
            numbers are missing, occur twice, or do not start at 0 or 1.
    """
    with os.scandir(folder) as entries:
        names = _without_flow(_picture_names(entry.name for entry in entries))
    expected = _uninterrupted(names)
    if names and expected.keys() == set(names):  # nearly always, and much faster than reading each number
        return list(expected)
    pictures = []
    for name in names:
        parts = _NUMBERED.fullmatch(name)
        if parts is None:
            raise ValueError(f"{name} has no number; number every picture of the folder, or move it elsewhere")
        pictures.append(_Numbered(int(parts[2]), name, (parts[1], parts[3])))
    if not pictures:
        raise ValueError(f"the folder holds no pictures ({' '.join(PICTURE_SUFFIXES)})")
    pictures.sort()
    for before, picture in pairwise(pictures):
        if picture.form != before.form:
            raise ValueError(
                f"{before.name} and {picture.name} differ in more than their number; give each sequence of pictures "
                "its own folder"
            )
        if picture.number == before.number:
            raise ValueError(f"{before.name} and {picture.name} have the same number; remove one of them")
        if picture.number != before.number + 1:
            raise ValueError(f"picture {before.number + 1} is missing between {before.name} and {picture.name}")
    if pictures[0].number > 1:
        raise ValueError(f"the first picture is {pictures[0].name}; number the pictures from 0 or 1")
    return [picture.name for picture in pictures]


def _uninterrupted(names: Sequence[str]) -> dict[str, None]:
    """Return, in order, the names that the pictures must have so that their numbers have no gap.

    `names` are assumed to differ only in their number. The keys of the returned dict are the names: as many as in
    `names`, counting up from the lowest number. The dict is empty if the lowest number is not 0 or 1, or if there is no
    number.
    """
    first = min(names, key=lambda name: (len(name), name), default="")
    parts = _NUMBERED.fullmatch(first)
    if parts is None or int(parts[2]) > 1:
        return {}
    before, number, after = parts.groups()
    start, width = int(number), len(number)
    return {f"{before}{place:0{width}}{after}": None for place in range(start, start + len(names))}


def looks_like_frames(folder: Path, names: Iterable[str]) -> bool:
    """Return whether a folder with files of these names holds at least two numbered pictures.

    A WebP animation is a video, not a picture: if the first numbered WebP file is an animation, the result is False. No
    other file is opened.
    """
    numbered = [name for name in _picture_names(names) if _NUMBERED.fullmatch(name)]
    webp = next((name for name in numbered if name.lower().endswith(".webp")), None)
    return len(numbered) > 1 and (webp is None or not _is_animation(folder / webp))


def check_picture_sizes(folder: Path) -> None:
    """Check that all pictures of a folder have the same size. Only their headers are read.

    Raises:
        VideoError: if a picture has another size than the first, or a header cannot be read.
    """
    try:
        names = list_pictures(folder)
        first_size: tuple[int, int] | None = None
        for name in names:
            with _opened(folder, name) as image:
                size = _upright_size(image)
            first_size = first_size or size
            _check_size(name, size, names[0], first_size)
    except (OSError, ValueError) as error:
        raise VideoError(folder, str(error)) from error


def pictures_bytes(folder: Path) -> int:
    """Return the total size of a folder's pictures in bytes.

    Raises:
        OSError, ValueError: see `list_pictures`.
    """
    return sum((folder / name).stat().st_size for name in list_pictures(folder))


def _without_flow(names: list[str]) -> list[str]:
    """Leave out optical flow (flow_x_*, flow_y_*) if all other names are img_*; MMAction2 writes such folders."""
    pictures = [name for name in names if name.startswith("img_")]
    others = len(names) - len(pictures)
    if not pictures or not others or sum(_FLOW.fullmatch(name) is not None for name in names) < others:
        return names
    return pictures


def _picture_names(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith(".")]


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[Image.Image]:
    """Open a picture for a `with` block. Errors raised in the block get the picture's name."""
    try:
        with Image.open(folder / name) as image:
            yield image
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{name} is not a picture, or is damaged") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: of damaged PNG
        raise ValueError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 means upright. EXIF data after the pixels of a PNG are ignored."""
    return image.getexif().get(ExifTags.Base.Orientation, 1) if "exif" in image.info else 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if 5 <= _orientation(image) <= 8 else (width, height)


def _to_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w c"]:
    if _orientation(image) != 1:
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "RGB":
        return np.asarray(image)
    # Pillow warns if a palette with transparency loses it, unless it becomes RGBA first.
    return np.asarray((image.convert("RGBA") if image.mode == "P" else image).convert("RGB"))


def _check_size(name: str, size: tuple[int, int], first: str, first_size: tuple[int, int]) -> None:
    if size != first_size:
        raise ValueError(
            f"{name} has {size[0]} x {size[1]} pixels, but {first} has {first_size[0]} x {first_size[1]}; give all "
            "pictures one size"
        )


def _is_animation(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return bool(getattr(image, "is_animated", False))
    except OSError:
        return False
