from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorchvideo.data.ssv2 import SSv2
from torchvision.transforms.v2 import functional as tv

from conftest import number_of
from farfield.clip_spec import ClipSpec
from farfield.data import clips, crops
from farfield.data.augmentation import Augmentation
from farfield.data.clips import training_clips, video_views
from farfield.data.crops import crop_and_resize, random_resized_box, resize_short_side, spread_crops
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, VideoError

RECORD = VideoRecord("a", "b")


def test_views_show_the_right_frames_at_the_right_times(make_video: Callable[..., Path]) -> None:
    spec = ClipSpec(num_frames=4, crop_px=48, frame_stride=5, short_side_px=48)
    # One crop per third of the width: each shows other bits, so only the first and last columns of cells are compared.
    clip = video_views(make_video(60), RECORD, spec, num_clips=3, num_crops=2)
    assert clip.frames.shape == (6, 4, 48, 48, 3)
    assert clip.frames.dtype == torch.uint8
    starts = [0, 22, 44]
    expected = np.repeat([[s + 5 * i for i in range(4)] for s in starts], 2, axis=0)
    np.testing.assert_allclose(clip.times_seconds, expected / 25, atol=1e-4)
    for view in range(0, 6, 2):
        left, right = clip.frames[view], clip.frames[view + 1]
        seen = [number_of(frame) for frame in torch.cat([left, right], dim=2)]
        assert seen == expected[view].tolist()


def test_a_video_is_opened_and_each_frame_decoded_once(
    make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, decoded = [], []
    original = clips.open_video

    class Watched:
        def __init__(self, path: Path, *more: object, **options: object) -> None:
            opened.append(path)
            self._context = original(path, *more, **options)

        def __enter__(self):
            video = self._context.__enter__()
            frames = video.frames
            video.frames = lambda indices, *size: decoded.extend(indices.tolist()) or frames(indices, *size)
            return video

        def __exit__(self, *details: object) -> None:
            self._context.__exit__(*details)

    monkeypatch.setattr(clips, "open_video", Watched)
    spec = ClipSpec(num_frames=8, crop_px=40, frame_stride=4)
    views = video_views(make_video(60), RECORD, spec, num_clips=10, num_crops=3)
    assert views.frames.shape[0] == 30
    assert len(opened) == 1
    assert len(decoded) == len(set(decoded)) < 10 * 8


def test_training_clip_keeps_to_the_annotated_segment(make_video: Callable[..., Path]) -> None:
    spec = ClipSpec(num_frames=3, crop_px=24, frame_stride=2)
    record = VideoRecord("a", "b", start_seconds=1.0, end_seconds=1.4)  # frames 25 to 34
    for seed in range(20):
        [clip] = training_clips(make_video(60), record, spec, Augmentation((1, 1)), [np.random.default_rng(seed)])
        assert clip.times_seconds.min() >= 1.0 - 1e-4
        assert clip.times_seconds.max() < 1.4


@pytest.mark.parametrize(("target_fps", "length"), [(30, 45), (None, 18)])
def test_segments_of_a_resampled_video_are_those_of_its_list_of_frames(
    target_fps: float | None, length: int, make_video: Callable[..., Path]
) -> None:
    """18 frames at 12 per second are 45 at 30, of which position k shows the frame at k / 30 seconds."""
    spec = ClipSpec(num_frames=16, crop_px=48, short_side_px=48, target_fps=target_fps, sampling="segments")
    spec = spec.replace(segment_offsets="pyslowfast", num_clips=1)
    clip = video_views(make_video(18, fps=12), RECORD, spec, num_clips=1, num_crops=1)
    listed = [k * 12 // (target_fps or 12) for k in range(length)]
    np.testing.assert_allclose(
        clip.times_seconds[0], np.array(SSv2._sample_clip_frames(listed, 16, False)) / 12, atol=1e-3
    )


def test_target_fps_counts_in_seconds(make_video: Callable[..., Path]) -> None:
    spec = ClipSpec(num_frames=4, crop_px=24, target_fps=10)
    for fps in (20, 50):
        clip = video_views(make_video(100, fps=fps), RECORD, spec, num_clips=1, num_crops=1)
        np.testing.assert_allclose(np.diff(clip.times_seconds[0]), 0.1, atol=0.021)


def test_a_video_that_is_too_short_is_named(make_video: Callable[..., Path]) -> None:
    spec = ClipSpec(num_frames=8, crop_px=24, frame_stride=8, short_clip="refuse")
    with pytest.raises(
        VideoError, match=r"12_at_25\.mp4: it has 12 frames, but a clip of 8 frames at stride 8 needs 57\. Lower"
    ):
        video_views(make_video(12), RECORD, spec, num_clips=1, num_crops=1)


def test_boxes_lie_inside_the_frame_and_have_the_drawn_area() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        top, left, height, width = random_resized_box(61, 97, (0.3, 0.7), rng)
        assert 0 <= top <= top + height <= 61
        assert 0 <= left <= left + width <= 97
        assert 0.25 < height * width / (61 * 97) < 0.75


def test_resizing_is_torchvisions() -> None:
    frames = torch.randint(0, 256, (3, 41, 67, 3), dtype=torch.uint8)
    ours = crop_and_resize(frames, (5, 7, 30, 20), 16)
    theirs = tv.resize(frames.permute(0, 3, 1, 2)[:, :, 5:35, 7:27].contiguous(), [16, 16], antialias=True)
    assert (ours.int() - theirs.permute(0, 2, 3, 1).int()).abs().max() <= 1
    assert resize_short_side(frames, 20).shape[1:3] == (20, 33)
    assert resize_short_side(frames.transpose(1, 2), 20).shape[1:3] == (33, 20)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (61, 97), (90, 130)])
@pytest.mark.parametrize("fast", [True, False])
def test_frames_are_resized_as_by_torchvision(
    count: int, size: tuple[int, int], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a processor without a fast resize of uint8 images, where torchvision resizes in float32."""
    capability = "AVX2" if fast else "DEFAULT"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    crops._resizes_uint8_fast.cache_clear()
    frames = torch.randint(256, (count, 61, 97, 3), dtype=torch.uint8)
    ours = crops._resize(frames, *size)
    crops._resizes_uint8_fast.cache_clear()
    theirs = tv.resize(frames.permute(0, 3, 1, 2), list(size), antialias=True)
    assert torch.equal(ours.permute(0, 3, 1, 2), theirs)
    assert ours.is_contiguous()


def test_crops_are_spread_along_the_longer_side() -> None:
    wide = torch.arange(31).expand(1, 11, 31)[..., None].expand(1, 11, 31, 3)
    left, middle, right = spread_crops(wide, 11, 3)
    assert (left[0, 0, 0, 0], middle[0, 0, 0, 0], right[0, 0, -1, 0]) == (0, 10, 30)
    tall = wide.transpose(1, 2)
    assert spread_crops(tall, 11, 3)[2][0, -1, 0, 0] == 30
    assert spread_crops(wide, 11, 1)[0][0, 0, 0, 0] == 10


def test_resizing_as_transformers_moves_the_longer_side_and_the_offset_by_a_pixel() -> None:
    frames = torch.zeros(1, 256, 340, 3, dtype=torch.uint8)
    assert resize_short_side(frames, 224).shape == (1, 224, 298, 3)  # 297.5
    assert resize_short_side(frames, 224, "transformers").shape == (1, 224, 297, 3)
    assert resize_short_side(frames.transpose(1, 2), 224, "transformers").shape == (1, 297, 224, 3)
    wide = torch.arange(34).expand(1, 11, 34)[..., None].expand(1, 11, 34, 3)
    assert [int(each[0, 0, 0, 0]) for each in spread_crops(wide, 11, 3)] == [0, 12, 23]  # 11.5
    assert [int(each[0, 0, 0, 0]) for each in spread_crops(wide, 11, 3, "transformers")] == [0, 11, 23]
    with pytest.raises(FarfieldError, match="resize is 'up'"):
        ClipSpec(num_frames=2, crop_px=11, resize="up")
