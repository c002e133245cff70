"""Clip settings for a folder that `transformers` wrote: preprocessing as in its files, frame sampling as in the paper.

The files of `transformers` state the number of frames, the sizes and the normalisation, but not which frames of a video
are taken. The sampling of the model's paper is therefore used. `models/backbones/hugging_face.py` has it for Kinetics,
and the function `sampling` for Something-Something V2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from farfield.checkpoints.folder_files import read_json_object
from farfield.checkpoints.hugging_face_folder import PROCESSORS, REMEDY
from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError

BILINEAR = 2
"""Pillow's number for bilinear resizing."""
SOMETHING_SOMETHING = 174
"""Number of classes of Something-Something V2, most of which have the word "something" in their name."""


def preprocessing(folder: Path, kind: str, clip: ClipSpec) -> tuple[dict[str, Any], list[str]]:
    """Return the clip settings in a folder's processor config, and notes for the user.

    The notes state where farfield's preprocessing differs from the config, and which settings the config lacks.

    Args:
        folder: folder of the checkpoint.
        kind: `model_type` of the checkpoint's config.
        clip: settings of the model's paper, used where the folder states none.

    Raises:
        FarfieldError: if a file is damaged or a value invalid.
    """
    path, content = _read_processor(folder)
    if path is None:
        return {"resize": "transformers"}, [
            f"there is no {PROCESSORS[-1]}: sizes and normalisation are those of the publication"
        ]
    try:
        mean, std = _normalisation(content, kind, clip)
        size, crop_size = content.get("size"), content.get("crop_size")
        short_side, crop = _edge(size), _edge(crop_size)
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise FarfieldError(f"{path} has invalid settings: {error}. Correct the file, or remove it.") from error
    notes = []
    if _is_oblong(crop_size):
        notes.append(f"{path.name} crops to {crop_size}, but farfield crops to {clip.crop_px} x {clip.crop_px} px")
    elif crop is not None and crop != clip.crop_px:
        notes.append(f"{path.name} crops to {crop} px, but the encoder takes {clip.crop_px} px, which is used")
    if not content.get("do_resize", True) or not content.get("do_center_crop", True) or _is_squeezed(content):
        notes.append(f"{path.name} does not resize the short side and crop the centre, but farfield does")
    elif short_side is not None and short_side < clip.crop_px:
        notes.append(
            f"{path.name} resizes the short side to {short_side} px and pads to {clip.crop_px} px, but farfield "
            f"resizes it to {clip.crop_px} px"
        )
    elif content.get("resample", BILINEAR) != BILINEAR:
        notes.append(
            f"{path.name} resizes with resample {content['resample']}, but farfield resizes bilinearly ({BILINEAR})"
        )
    needed = ("image_mean", "image_std", "size") if content.get("do_normalize", True) else ("size",)
    if absent := [name for name in needed if content.get(name) is None]:
        notes.append(f"{path.name} does not state {', '.join(absent)}: the publication's settings are used")
    side = {} if short_side is None else {"short_side_px": max(short_side, clip.crop_px)}
    return {"mean": mean, "std": std, "resize": "transformers", **side}, notes


def sampling(kind: str, labels: Sequence[str]) -> dict[str, Any]:
    """Return the model paper's frame-sampling settings for Something-Something V2, as fields of `ClipSpec`.

    They are returned only for a network with the classes of Something-Something V2. The result is {} for any other
    network, and for models whose paper samples Something-Something V2 like Kinetics.

    Args:
        kind: `model_type` of the checkpoint's config.
        labels: class names of the checkpoint.
    """
    templates = sum("something" in label.lower() for label in labels)
    if len(labels) != SOMETHING_SOMETHING or templates < len(labels) // 2:
        return {}
    return {
        "videomae": {"sampling": "segments", "segment_offsets": "videomae", "num_clips": 2},
        "timesformer": {"sampling": "segments", "segment_offsets": "pyslowfast", "target_fps": 30.0, "num_clips": 1},
    }.get(kind, {})


def _read_processor(folder: Path) -> tuple[Path | None, Mapping[str, Any]]:
    """Return the path and the content of the file with preprocessing settings; (None, {}) if there is none."""
    for name in PROCESSORS:
        path = folder / name
        if path.is_file():
            content = read_json_object(path, remedy=REMEDY)
            if name != PROCESSORS[0]:
                return path, content
            if isinstance(content.get("video_processor"), dict):
                return path, content["video_processor"]
    return None, {}


def _normalisation(content: Mapping[str, Any], kind: str, clip: ClipSpec) -> tuple[list[float], list[float]]:
    """Return the mean and std that normalise pixels in [0, 1] as the processor normalises pixels in [0, 255].

    For a pixel p in [0, 255] the processor computes (p * rescale_factor - offset - mean) / std. The default offset is 1
    for ViViT and 0 for other families.
    """
    factor = float(content.get("rescale_factor", 1 / 127.5 if kind == "vivit" else 1 / 255))
    offset = float(content.get("offset", kind == "vivit"))
    if not content.get("do_rescale", True):
        factor, offset = 1.0, 0.0
    mean, std = [0.0] * 3, [1.0] * 3
    if content.get("do_normalize", True):
        stated = (content.get(f"image_{name}") for name in ("mean", "std"))
        mean, std = (
            _three(own if given is None else given) for given, own in zip(stated, (clip.mean, clip.std), strict=True)
        )
    if factor <= 0 or min(std) <= 0:
        raise ValueError("rescale_factor and image_std must be positive")
    scale = 255 * factor
    if math.isclose(scale, 1):
        scale = 1.0
    return [(each + offset) / scale for each in mean], [each / scale for each in std]


def _three(values: Any) -> list[float]:
    numbers = [float(values)] * 3 if isinstance(values, int | float) else [float(each) for each in values]
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError("image_mean and image_std must be three numbers")
    return numbers


def _edge(size: Any) -> int | None:
    """Return the short side, in pixels, of a size in a processor's config; None if the config does not state it.

    A size is a number, a list of numbers, {shortest_edge: n} or {height: n, width: n}.
    """
    if isinstance(size, Mapping):
        size = size.get("shortest_edge", size.get("height"))
    elif isinstance(size, list):
        size = min(size)
    if size is None:
        return None
    if type(size) is not int or size < 1:
        raise ValueError("size and crop_size must be whole numbers of pixels")
    return size


def _is_squeezed(content: Mapping[str, Any]) -> bool:
    """Return whether a processor's `size` may change the aspect ratio of frames or limit their long side.

    True if `size` gives height and width, or limits the long side. False if it gives only the short side, or is
    missing.
    """
    size = content.get("size")
    if isinstance(size, Mapping):
        return "shortest_edge" not in size or size.get("longest_edge") is not None
    return isinstance(size, list) and len(size) > 1


def _is_oblong(size: Any) -> bool:
    sides = [size.get("height"), size.get("width")] if isinstance(size, Mapping) else size
    return isinstance(sides, list) and len(set(sides)) > 1
