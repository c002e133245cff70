"""Clip settings: length, size, sampling and normalisation of a network's input. Checkpoints store them."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from farfield.errors import FarfieldError, nearest
from farfield.plain_types import make_fields_plain, plain_number

ViewsAggregation = Literal["mean", "max"]
ShortClip = Literal["loop", "clamp", "refuse"]
SegmentOffsets = Literal["even", "pyslowfast", "videomae"]
ResizeMethod = Literal["fast", "transformers"]
MAX_SEGMENT_CLIPS = {"pyslowfast": 1, "videomae": 2}
"""Maximum number of test clips per video, for the values of `segment_offsets` that have a maximum."""


@dataclass(frozen=True)
class ClipSpec:
    """Settings that turn frames of a video into a network's input, in training and at test time.

    "The paper" below is Wang et al., "Non-local Neural Networks", CVPR 2018.

    Args:
        num_frames: number of frames in a clip (t of b c t h w).
        crop_px: height and width of the input in pixels, in training and, unless `test_crop_px` is given, at test time.
        test_crop_px: height and width of the input at test time, in pixels; None for `crop_px`. PySlowFast trains its
            networks on 224 pixels and tests them on 256.
        frame_stride: distance between consecutive frames of a clip, in frames of the video or, if `target_fps` is
            given, of the resampled video.
        target_fps: frame rate to which the video is resampled; None for the video's own rate.
        sampling: "clip" takes frames that are `frame_stride` apart, beginning at one place of the video. "segments"
            divides the video into `num_frames` equal parts and takes one frame of each, so that a clip spans the video
            (Wang et al., "Temporal Segment Networks", ECCV 2016); `frame_stride` then has no effect.
        segment_offsets: which frame of each part is taken if `sampling` is "segments", see `data/segment_sampling.py`.
            "even" takes a random frame of each part in training. At test time, a single clip takes the middle frame of
            each part. With n clips, each part is divided into n equal sections, and each clip takes the frame in the
            middle of its own section. The number of clips is not limited.
            "pyslowfast" and "videomae" take the same frames as these projects' loaders of Something-Something V2;
            "pyslowfast" allows 1 test clip, "videomae" at most 2. PySlowFast's networks need target_fps=30: they were
            trained on frames extracted at 30 per second, although the videos have 12 frames per second. VideoMAE's
            networks were trained on the videos' own frames.
        short_clip: treatment of a video shorter than a clip: "loop" repeats the video; "clamp" repeats its last frame
            after its end; "refuse" raises an error. In training, "clamp" puts the video at a random place of the clip,
            and also repeats its first frame before its start (as PySlowFast does for Charades).
        short_side_px: short side in pixels to which frames are resized at test time, before cropping. None selects
            `test_crop_px` if that is given, and otherwise `crop_px` x 256 / 224, as in the paper.
        resize: how frames are resized and cropped at test time. "fast" decodes frames at a reduced size if their short
            side is at least twice `short_side_px`, and rounds sizes to the nearest pixel. "transformers" gives the same
            pixels as the video processors of Hugging Face's transformers: every frame is resized from its full size,
            and the longer side and the crops' offsets are rounded down.
        mean: per-channel (RGB) mean that is subtracted from pixels in [0, 1].
        std: per-channel (RGB) standard deviation; pixels minus `mean` are divided by it.
        num_clips: number of clips per video at test time, spread evenly over the video. The paper uses 10.
        num_crops: number of square crops per clip at test time, spread evenly along the longer side. The paper uses 3.
        views_aggregation: how the class probabilities of a video's views are aggregated at test time: "mean", or "max"
            as PySlowFast does for Charades. With "max", a video's probabilities may sum to more than 1.
        deinterlace: "auto" deinterlaces frames that are flagged as interlaced, "off" never does.
        tone_map: "auto" converts HDR frames (HLG and PQ) to BT.709, "off" never does.

    Raises:
        FarfieldError: for an invalid value.
    """

    num_frames: int
    crop_px: int
    frame_stride: int = 1
    target_fps: float | None = None
    sampling: Literal["clip", "segments"] = "clip"
    segment_offsets: SegmentOffsets = "even"
    short_clip: ShortClip = "loop"
    short_side_px: int | None = None
    test_crop_px: int | None = None
    resize: ResizeMethod = "fast"
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)
    num_clips: int = 10
    num_crops: int = 3
    views_aggregation: ViewsAggregation = "mean"
    deinterlace: Literal["auto", "off"] = "auto"
    tone_map: Literal["auto", "off"] = "auto"

    def __post_init__(self) -> None:
        make_fields_plain(self)
        for name in ("num_frames", "crop_px", "frame_stride", "num_clips", "num_crops"):
            self._check_whole(name)
        for name in ("short_side_px", "test_crop_px"):
            if getattr(self, name) is not None:
                self._check_whole(name, or_null=", or null")
        if self.target_fps is not None and not (_is_number(self.target_fps) and self.target_fps > 0):
            raise FarfieldError(f"clip.target_fps is {self.target_fps!r}; it must be a positive number, or null.")
        if not _is_rgb(self.mean) or not _is_rgb(self.std) or not all(each > 0 for each in self.std):
            raise FarfieldError(
                f"clip.mean is {self.mean!r} and clip.std is {self.std!r}; each must be three numbers (R, G, B), and "
                "those of clip.std must be positive."
            )
        for name in ("mean", "std"):  # lists, as YAML and checkpoints give them
            object.__setattr__(self, name, tuple(map(plain_number, getattr(self, name))))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise FarfieldError(f"clip.{name} is {getattr(self, name)!r}. {nearest(getattr(self, name), choices)}")
        if self.short_side_px is not None and self.short_side_px < self.test_side_px:
            name = "crop_px" if self.test_crop_px is None else "test_crop_px"
            raise FarfieldError(
                f"clip.short_side_px is {self.short_side_px} and clip.{name} is {self.test_side_px}: a crop must fit "
                f"into the resized frame. Raise clip.short_side_px to {self.test_side_px} or more, or leave it out."
            )
        if self.segment_offsets != "even" and self.sampling != "segments":
            raise FarfieldError(
                f"clip.segment_offsets is {self.segment_offsets!r}, but clip.sampling is {self.sampling!r}, which has "
                "no segments. Set clip.sampling to 'segments', or leave clip.segment_offsets out."
            )
        check_segment_clips(self.segment_offsets, self.num_clips)

    def _check_whole(self, name: str, or_null: str = "") -> None:
        """Check that a value is a whole number of at least 1, and convert a float such as 16.0 to an integer."""
        value = getattr(self, name)
        if not (_is_number(value) and value == int(value)):
            raise FarfieldError(f"clip.{name} is {value!r}; it must be a whole number{or_null}.")
        if value < 1:
            raise FarfieldError(f"clip.{name} is {value}; it must be at least 1{or_null}.")
        object.__setattr__(self, name, int(value))

    @property
    def test_side_px(self) -> int:
        """Return the height and width of the input at test time, in pixels."""
        return self.test_crop_px or self.crop_px

    @property
    def test_short_side_px(self) -> int:
        """Return the short side of a resized frame at test time, in pixels."""
        return self.short_side_px or self.test_crop_px or round(self.crop_px * 256 / 224)

    @property
    def decoded_short_side_px(self) -> int | None:
        """Return the minimum short side of decoded frames at test time, in pixels; None to decode at full size.

        Frames with a larger short side may be decoded at a reduced size, down to this minimum.
        """
        return self.test_short_side_px if self.resize == "fast" else None

    @property
    def span(self) -> int:
        """Return the number of frames from a clip's first to its last, both included."""
        return (self.num_frames - 1) * self.frame_stride + 1

    def replace(self, **changes: Any) -> ClipSpec:
        """Return a copy with some values changed.

        Raises:
            FarfieldError: for an unknown name; the message suggests the nearest known name.
        """
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise FarfieldError(f"clip has no setting {name!r}. {nearest(name, names)}")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, in plain types for checkpoints and configs."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClipSpec:
        """Create a `ClipSpec` from the result of `to_dict`."""
        return cls(**values)


_CHOICES = {
    name: typing.get_args(hint)
    for name, hint in typing.get_type_hints(ClipSpec).items()
    if typing.get_origin(hint) is Literal
}


def check_segment_clips(segment_offsets: str, num_clips: int) -> None:
    """Raise `FarfieldError` if `segment_offsets` does not allow `num_clips` different test clips per video."""
    most = MAX_SEGMENT_CLIPS.get(segment_offsets)
    if most is not None and num_clips > most:
        raise FarfieldError(
            f"num_clips is {num_clips}; it must be {'1' if most == 1 else f'1 or {most}'} with segment_offsets "
            f"{segment_offsets!r}, since all further test clips would have the same frames."
        )


def _is_rgb(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(_is_number(plain_number(each)) for each in value)


def _is_number(value: object) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class ClipOptions(TypedDict, total=False):
    """`ClipSpec` values that a config sets. All other values come from the weights or the backbone."""

    num_frames: int
    crop_px: int
    frame_stride: int
    target_fps: float | None
    sampling: Literal["clip", "segments"]
    segment_offsets: SegmentOffsets
    short_clip: ShortClip
    short_side_px: int | None
    test_crop_px: int | None
    resize: ResizeMethod
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_clips: int
    num_crops: int
    views_aggregation: ViewsAggregation
    deinterlace: Literal["auto", "off"]
    tone_map: Literal["auto", "off"]


# `farfield fit --model.clip.help` reads the text of each key from here.
ClipOptions.__doc__ = f"{ClipOptions.__doc__}\n\n    Args:{(ClipSpec.__doc__ or '').partition('    Args:')[2]}"
