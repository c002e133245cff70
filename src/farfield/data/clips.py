"""From a record to clips: open the file once, choose frames, decode them once, cut them to size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.data.crops import crop_and_resize, random_resized_box, resize_short_side, spread_crops
from farfield.data.decode import open_video
from farfield.data.manifest import VideoRecord
from farfield.data.sampling import ClipTooShort, dense_views, random_clip, stream_frames, uniform_views
from farfield.errors import VideoError


@dataclass(frozen=True)
class Clip:
    """Views of one video, cut to the network's size.

    Attributes:
        frames: uint8, RGB. v is 1 in training and clips x crops in a test.
        times_seconds: when each frame of each view is shown, from the start of the video.
        record: the row of the manifest.
    """

    frames: UInt8[Tensor, "v t h w c"]
    times_seconds: Float[np.ndarray, "v t"]
    record: VideoRecord


def training_clip(
    path: Path, record: VideoRecord, spec: ClipSpec, crop_scale: tuple[float, float], rng: np.random.Generator
) -> Clip:
    """One clip at a random time, from a random part of the frame.

    Args:
        path: the video file.
        record: its row, with the annotated segment.
        spec: what the network wants.
        crop_scale: smallest and largest fraction of the frame's area that a crop takes.
        rng: where time and place are drawn from.

    Raises:
        VideoError: where the file cannot be decoded, or is shorter than a clip and may not be looped.
    """
    try:
        with open_video(path) as video:
            stream = _stream(video.times, record, spec)
            places = stream[random_clip(len(stream), spec, rng)]
            # What the smallest crop, at the longest aspect ratio, needs to fill the input.
            needed_px = math.ceil(spec.crop_px / math.sqrt(crop_scale[0] * 3 / 4))
            frames = torch.from_numpy(video.frames(places, needed_px))
            times = video.times[places]
    except ClipTooShort as error:
        raise VideoError(path, str(error)) from error
    box = random_resized_box(frames.shape[1], frames.shape[2], crop_scale, rng)
    return Clip(crop_and_resize(frames, box, spec.crop_px)[None], times[None], record)


def video_views(
    path: Path, record: VideoRecord, spec: ClipSpec, *, num_clips: int, num_crops: int, hop: int | None = None
) -> Clip:
    """`num_clips` clips spread evenly in time, each as `num_crops` crops; v = clips * crops, and crops vary fastest.

    With `hop`, clips start every `hop` frames instead and cover the whole video, however many they are.
    The file is opened once, and a frame that several clips share is decoded and resized once.

    Raises:
        VideoError: as `training_clip`.
    """
    try:
        with open_video(path) as video:
            stream = _stream(video.times, record, spec)
            length = len(stream)
            views_of = uniform_views(length, spec, num_clips) if hop is None else dense_views(length, spec, hop)
            places = stream[views_of]
            needed, position = np.unique(places, return_inverse=True)
            frames = torch.from_numpy(video.frames(needed, spec.test_short_side_px))
            times = np.repeat(video.times[places], num_crops, axis=0)
    except ClipTooShort as error:
        raise VideoError(path, str(error)) from error
    resized = resize_short_side(frames, spec.test_short_side_px)
    crops = torch.stack(spread_crops(resized, spec.test_side_px, num_crops))
    views = crops[:, torch.from_numpy(position.reshape(places.shape))]  # crops clips t h w c
    return Clip(views.transpose(0, 1).flatten(0, 1), times, record)


def _stream(times: np.ndarray, record: VideoRecord, spec: ClipSpec) -> np.ndarray:
    return stream_frames(
        times, target_fps=spec.target_fps, start_seconds=record.start_seconds, end_seconds=record.end_seconds
    )
