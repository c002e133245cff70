from __future__ import annotations

import numpy as np
import pytest

from farfield.clip_spec import ClipSpec
from farfield.data.frame_sampling import ClipTooShort, dense_views, random_clip, stream_frames, uniform_views


def spec(**changes) -> ClipSpec:
    return ClipSpec(num_frames=5, crop_px=8, frame_stride=3).replace(**changes)


@pytest.mark.slow
def test_random_clips_use_every_valid_start() -> None:
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(400):
        clip = random_clip(20, spec(), rng)
        assert np.diff(clip).tolist() == [3, 3, 3, 3]
        starts.add(int(clip[0]))
    assert starts == set(range(20 - 13 + 1))  # 13 frames from first to last


def test_uniform_views_reach_from_the_first_frame_to_the_last() -> None:
    views = uniform_views(23, spec(), 3)
    assert views[:, 0].tolist() == [0, 5, 10]
    assert views[-1, -1] == 22
    assert uniform_views(23, spec(), 1)[:, 0].tolist() == [5]  # central


def test_dense_views_cover_every_frame_once_stride_allows() -> None:
    views = dense_views(31, spec(frame_stride=1), hop=4)
    assert set(views.flatten().tolist()) == set(range(31))
    assert views[:, 0].tolist() == [0, 4, 8, 12, 16, 20, 24, 26]
    with pytest.raises(ValueError, match="hop at least 1; sampling is 'clip' and hop is 0"):
        dense_views(31, spec(), hop=0)


def test_a_short_video_is_looped_or_refused_as_configured() -> None:
    assert random_clip(4, spec(), np.random.default_rng(0)).tolist() == [0, 3, 2, 1, 0]
    assert uniform_views(1, spec(), 2).tolist() == [[0] * 5] * 2
    message = (
        "it has 12 frames, but a clip of 5 frames at stride 3 needs 13. Lower num_frames or frame_stride, or set "
        "short_clip='loop' or 'clamp'."
    )
    for call in (
        lambda: random_clip(12, spec(short_clip="refuse"), np.random.default_rng(0)),
        lambda: uniform_views(12, spec(short_clip="refuse"), 2),
        lambda: dense_views(12, spec(short_clip="refuse"), 2),
    ):
        with pytest.raises(ClipTooShort, match=message.replace(".", r"\.")):
            call()


@pytest.mark.parametrize("fps", [23.976, 25, 30, 50])
def test_resampling_shows_the_frame_that_a_player_would(fps: float) -> None:
    times = np.arange(90) / fps
    stream = stream_frames(times, target_fps=15)
    for k, frame in enumerate(stream):
        shown = max(i for i in range(90) if times[i] <= k / 15 + 5e-4)
        assert frame == shown
    assert len(stream) == round(90 / fps * 15)


def test_resampling_follows_uneven_times() -> None:
    times = np.array([0.0, 0.1, 0.2, 1.0, 1.1])  # a gap, as slow-motion phones make
    assert stream_frames(times, target_fps=5).tolist() == [0, 2, 2, 2, 2, 3]


def test_segments_of_a_video_are_half_open() -> None:
    times = np.arange(50) / 25
    assert stream_frames(times, start_seconds=0.4, end_seconds=0.8).tolist() == list(range(10, 20))
    with pytest.raises(
        ClipTooShort, match=r"no frame lies in the segment \[3, 4\) s; the video's last frame is at 1\.960 s"
    ):
        stream_frames(times, start_seconds=3, end_seconds=4)
