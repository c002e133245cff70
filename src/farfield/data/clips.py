"""Read clips of one video: open the file once, choose frames, decode each once, crop and resize."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.crops import crop_and_resize, random_resized_box, random_square, resize_short_side, spread_crops
from farfield.data.frame_cache import FrameCache
from farfield.data.frame_sampling import (
    ClipTooShort,
    dense_views,
    random_clip,
    resampled_frames,
    shown_seconds,
    stream_frames,
    uniform_views,
)
from farfield.data.video_record import VideoRecord
from farfield.errors import VideoError
from farfield.video.decoder_names import Decoder
from farfield.video.decoders import Video, open_video


@dataclass(frozen=True)
class Clip:
    """Views of one video in the network's input size.

    Attributes:
        frames: RGB frames (v t h w c). v is 1 in training; in evaluation, it is the number of clips times the
            number of crops.
        times_seconds: time of each frame of each view (v t), from the start of the video.
        bounds_seconds: start of each view's earliest frame and end of its latest frame, in seconds (v 2).
        record: row of the manifest.
        teacher_frames: frames for the teacher network, in its input size. They show the same part of the video and the
            same crop as `frames`. None without a teacher.
    """

    frames: UInt8[Tensor, "v t h w c"]
    times_seconds: Float[np.ndarray, "v t"]
    bounds_seconds: Float[np.ndarray, "v 2"]
    record: VideoRecord
    teacher_frames: UInt8[Tensor, "v teacher_t teacher_h teacher_w c"] | None = None


ChooseFrames = Callable[[Float[np.ndarray, " frames"], np.random.Generator], Int[np.ndarray, " t"]]
"""Function of (frame times, random generator) that returns a random clip's frames, as indices into the times."""


def training_clips(
    path: Path,
    record: VideoRecord,
    spec: ClipSpec,
    augmentation: Augmentation,
    generators: Sequence[np.random.Generator],
    *,
    decoder: Decoder = "pyav",
    frame_cache: FrameCache | None = None,
    choose: ChooseFrames | None = None,
    teacher: ClipSpec | None = None,
) -> list[Clip]:
    """Read clips at random times, each a random crop of the frame. The file is opened once.

    Args:
        path: video file, or folder of numbered pictures.
        record: row of the manifest, with the annotated segment.
        spec: input format of the network.
        augmentation: settings of the random crop.
        generators: a random generator for each clip. Their number is the number of clips.
        decoder: see `open_video`. Not used with `frame_cache`, which has its own decoder.
        frame_cache: cache to read frames through; None to read the file directly.
        choose: function that chooses the frames of each clip; None for a clip anywhere in the record's segment.
        teacher: input format of the teacher network, for `Clip.teacher_frames`; None without a teacher.

    Raises:
        VideoError: if the file cannot be decoded, if no frame lies in the record's segment, or if the video is shorter
            than a clip and `spec.short_clip` is "refuse".
    """
    try:
        with (
            _open(path, record, spec, decoder)
            if frame_cache is None
            else frame_cache.open(path, fps=record.fps) as video
        ):
            choose = choose or partial(_frames_in_segment, record=record, spec=spec)
            places = np.stack([choose(video.times, rng) for rng in generators])
            side = _needed_px(spec, augmentation)
            if teacher is None:
                taught = np.empty((len(places), 0), dtype=np.int64)
            else:
                taught = np.stack([resampled_frames(video.times, each, teacher.num_frames) for each in places])
                side = max(side, math.ceil(side * teacher.test_side_px / spec.crop_px))
            needed, position = np.unique(np.concatenate([places, taught], axis=1), return_inverse=True)
            position = position.reshape(len(places), -1)
            frames = torch.from_numpy(video.frames(needed, side))
            times, bounds = video.times[places], shown_seconds(video.times, places, spec.target_fps)
    except ClipTooShort as error:
        raise VideoError(path, str(error)) from error
    height, width = frames.shape[1:3]
    clips = []
    for rng, places_here, shown, seen in zip(generators, position, times, bounds, strict=True):
        own, of_teacher = places_here[: spec.num_frames], places_here[spec.num_frames :]
        if augmentation.short_side_px is None:
            box = random_resized_box(height, width, augmentation.crop_scale, rng)
        else:
            box = random_square(height, width, spec.crop_px, augmentation.short_side_px, rng)
        chosen = frames if len(own) == len(needed) and len(generators) == 1 and _is_ascending(own) else frames[own]
        bigger = None if teacher is None else crop_and_resize(frames[of_teacher], box, teacher.test_side_px)[None]
        clips.append(Clip(crop_and_resize(chosen, box, spec.crop_px)[None], shown[None], seen[None], record, bigger))
    return clips


def _frames_in_segment(
    times: Float[np.ndarray, " frames"], rng: np.random.Generator, *, record: VideoRecord, spec: ClipSpec
) -> Int[np.ndarray, " t"]:
    """Choose the frames of a clip anywhere in the record's segment."""
    stream = _stream_frames(times, record, spec)
    return stream[random_clip(len(stream), spec, rng)]


def _is_ascending(places: np.ndarray) -> bool:
    return bool(np.all(np.diff(places) > 0))


def _needed_px(spec: ClipSpec, augmentation: Augmentation) -> int:
    """Return the short side in pixels that frames need so that no crop is smaller than the network's input."""
    if augmentation.short_side_px is not None:
        return augmentation.short_side_px[1]
    return math.ceil(spec.crop_px / math.sqrt(augmentation.crop_scale[0] * 3 / 4))


def video_views(
    path: Path,
    record: VideoRecord,
    spec: ClipSpec,
    *,
    num_clips: int,
    num_crops: int,
    decoder: Decoder = "pyav",
) -> Clip:
    """Open a video once and sample its views for evaluation, see `views_of`.

    Raises:
        VideoError: see `training_clips`.
    """
    with _open(path, record, spec, decoder) as video:
        return views_of(video, path, record, spec, num_clips=num_clips, num_crops=num_crops)


def views_of(video: Video, path: Path, record: VideoRecord, spec: ClipSpec, *, num_clips: int, num_crops: int) -> Clip:
    """Sample views from an open video: `num_clips` clips spread evenly in time, each as `num_crops` crops.

    The axis v of the views has length num_clips * num_crops, and crops vary fastest. A frame that several clips share
    is decoded and resized once.

    Raises:
        VideoError: see `training_clips`.
    """
    try:
        stream = _stream_frames(video.times, record, spec)
        places = stream[uniform_views(len(stream), spec, num_clips)]
    except ClipTooShort as error:
        raise VideoError(path, str(error)) from error
    return _read_views(video, places, record, spec, num_crops)


def video_windows(
    path: Path, record: VideoRecord, spec: ClipSpec, chosen: Sequence[int], *, decoder: Decoder = "pyav"
) -> Clip:
    """Open a video once and read some of its windows, each as one central crop.

    Windows are clips that lie end to end over the record's segment. The last window ends where the segment ends, so it
    may overlap the window before it. A segment that is shorter than a clip has one window, see `ClipSpec.short_clip`.

    Args:
        path: video file, or folder of numbered pictures.
        record: row of the manifest.
        spec: input format of the network.
        chosen: indices of the windows to read, from 0 to `count_windows` - 1.
        decoder: see `open_video`.

    Raises:
        VideoError: see `training_clips`.
    """
    with _open(path, record, spec, decoder) as video:
        return _read_views(video, _window_frames(video, path, record, spec)[chosen], record, spec, num_crops=1)


def count_windows(path: Path, record: VideoRecord, spec: ClipSpec, *, decoder: Decoder = "pyav") -> int:
    """Return the number of windows of a video, see `video_windows`. No frame is decoded.

    Raises:
        VideoError: see `training_clips`.
    """
    with _open(path, record, spec, decoder) as video:
        return len(_window_frames(video, path, record, spec))


def _window_frames(video: Video, path: Path, record: VideoRecord, spec: ClipSpec) -> Int[np.ndarray, "windows t"]:
    try:
        stream = _stream_frames(video.times, record, spec)
        return stream[dense_views(len(stream), spec, spec.span)]
    except ClipTooShort as error:
        raise VideoError(path, str(error)) from error


def _read_views(
    video: Video, places: Int[np.ndarray, "clips t"], record: VideoRecord, spec: ClipSpec, num_crops: int
) -> Clip:
    """Read clips, each as `num_crops` crops; `places` are their frame indices. A shared frame is decoded once."""
    needed, position = np.unique(places, return_inverse=True)
    frames = torch.from_numpy(video.frames(needed, spec.decoded_short_side_px))
    times, bounds = video.times[places], shown_seconds(video.times, places, spec.target_fps)
    resized = resize_short_side(frames, spec.test_short_side_px, spec.resize)
    crops = torch.stack(spread_crops(resized, spec.test_side_px, num_crops, spec.resize))
    views = crops[:, torch.from_numpy(position.reshape(places.shape))]  # crops clips t h w c
    return Clip(
        views.transpose(0, 1).flatten(0, 1),
        np.repeat(times, num_crops, axis=0),
        np.repeat(bounds, num_crops, axis=0),
        record,
    )


def _open(path: Path, record: VideoRecord, spec: ClipSpec, decoder: Decoder) -> AbstractContextManager[Video]:
    return open_video(path, decoder, deinterlace=spec.deinterlace, tone_map=spec.tone_map, fps=record.fps)


def _stream_frames(times: np.ndarray, record: VideoRecord, spec: ClipSpec) -> np.ndarray:
    return stream_frames(
        times, target_fps=spec.target_fps, start_seconds=record.start_seconds, end_seconds=record.end_seconds
    )
