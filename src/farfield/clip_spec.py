"""What a network wants of a clip. A leaf: written into checkpoints by models/, followed by data/."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from farfield.errors import FarfieldError, nearest


@dataclass(frozen=True)
class ClipSpec:
    """How frames become a network's input, and how a video is seen in a test.

    Args:
        num_frames: frames in a clip (the t of b c t h w).
        crop_px: height and width of the input in pixels. Training crops are cut to it.
        test_crop_px: height and width of the input in a test, where they differ: PySlowFast's networks train on 224
            pixels and are tested on 256. None for `crop_px`.
        frame_stride: distance between neighbouring frames of a clip, in frames of the video, or in frames of
            the video resampled to `target_fps` where that is given.
        target_fps: frames per second that `frame_stride` counts in; None for the video's own rate.
        sampling: "clip" takes frames at a fixed distance, starting somewhere in the video. "segments" divides
            the video into `num_frames` equal parts and takes one frame of each, so that a clip spans the video
            (Wang et al., "Temporal Segment Networks", ECCV 2016); `frame_stride` then has no effect.
        short_clip: what happens to a video shorter than the clip: "loop" repeats it, "refuse" reports it.
        short_side_px: length in pixels to which a frame's short side is resized in a test, before cropping.
            None for the size in the proportion 256 / 224 that the paper uses, or `test_crop_px` where that is given.
        mean: per-channel (RGB) mean that is subtracted from pixels in [0, 1].
        std: per-channel (RGB) standard deviation that they are then divided by.
        num_clips: clips per video in a test, spread evenly over it. The paper's is 10.
        num_crops: square crops per clip in a test, spread evenly along the longer side. The paper's is 3.
        deinterlace: "auto" deinterlaces frames that say that they are interlaced, "off" leaves their combs.
        tone_map: "auto" converts HDR pictures (HLG and PQ) to BT.709, "off" leaves them as they are stored.

    Raises:
        FarfieldError: for a value that no clip can have.
    """

    num_frames: int
    crop_px: int
    frame_stride: int = 1
    target_fps: float | None = None
    sampling: Literal["clip", "segments"] = "clip"
    short_clip: Literal["loop", "refuse"] = "loop"
    short_side_px: int | None = None
    test_crop_px: int | None = None
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)
    num_clips: int = 10
    num_crops: int = 3
    deinterlace: Literal["auto", "off"] = "auto"
    tone_map: Literal["auto", "off"] = "auto"

    def __post_init__(self) -> None:
        for name in ("num_frames", "crop_px", "frame_stride", "num_clips", "num_crops"):
            if getattr(self, name) < 1:
                raise FarfieldError(f"clip.{name} is {getattr(self, name)}; it must be at least 1.")
        if self.target_fps is not None and self.target_fps <= 0:
            raise FarfieldError(f"clip.target_fps is {self.target_fps}; it must be positive, or null.")
        if self.test_crop_px is not None and self.test_crop_px < 1:
            raise FarfieldError(f"clip.test_crop_px is {self.test_crop_px}; it must be at least 1, or null.")
        if self.short_side_px is not None and self.short_side_px < self.test_side_px:
            name = "crop_px" if self.test_crop_px is None else "test_crop_px"
            raise FarfieldError(
                f"clip.short_side_px is {self.short_side_px} and clip.{name} {self.test_side_px}: a crop must fit into "
                f"the resized frame. Raise short_side_px to {name} or more, or leave it out."
            )
        for name in ("sampling", "short_clip", "deinterlace", "tone_map"):
            choices = typing.get_args(typing.get_type_hints(ClipSpec)[name])
            if getattr(self, name) not in choices:
                raise FarfieldError(f"clip.{name} is {getattr(self, name)!r}. {nearest(getattr(self, name), choices)}")
        if not _three_numbers(self.mean) or not _three_numbers(self.std) or not all(each > 0 for each in self.std):
            raise FarfieldError("clip.mean and clip.std are three numbers each (R, G, B), std positive.")
        object.__setattr__(self, "mean", tuple(self.mean))  # lists, as YAML and checkpoints give them
        object.__setattr__(self, "std", tuple(self.std))

    @property
    def test_side_px(self) -> int:
        """Height and width of the input in a test, in pixels."""
        return self.test_crop_px or self.crop_px

    @property
    def test_short_side_px(self) -> int:
        """The short side of a resized frame in a test, in pixels."""
        return self.short_side_px or self.test_crop_px or round(self.crop_px * 256 / 224)

    @property
    def span(self) -> int:
        """Frames from a clip's first to its last, both included."""
        return (self.num_frames - 1) * self.frame_stride + 1

    def replace(self, **changes: Any) -> ClipSpec:
        """Returns a copy with some values changed.

        Raises:
            FarfieldError: for a name that is no field, with the nearest that is.
        """
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise FarfieldError(f"clip has no {name!r}. {nearest(name, names)}")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types only, for checkpoints and configs."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClipSpec:
        return cls(**values)


def _three_numbers(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(each, int | float) for each in value)


class ClipOptions(TypedDict, total=False):
    """The values of a `ClipSpec` that a config changes; the rest stay the backbone's own."""

    num_frames: int
    crop_px: int
    frame_stride: int
    target_fps: float | None
    sampling: Literal["clip", "segments"]
    short_clip: Literal["loop", "refuse"]
    short_side_px: int | None
    test_crop_px: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_clips: int
    num_crops: int
    deinterlace: Literal["auto", "off"]
    tone_map: Literal["auto", "off"]
