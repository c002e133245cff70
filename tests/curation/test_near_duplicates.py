from __future__ import annotations

import numpy as np

from farfield.curation.near_duplicates import find_near_duplicates


def test_an_equal_static_part_alone_is_no_near_duplicate() -> None:
    rng = np.random.default_rng(0)
    place = rng.integers(40, 215, (16, 16))
    videos = np.repeat(place[None, None], 3, 0).repeat(8, 1)
    for video, column in zip(videos, (2, 8, 2), strict=True):
        for t in range(8):
            video[t, t : t + 4, column : column + 3] = 255
    videos = (videos + rng.normal(0, 1.5, videos.shape)).clip(0, 255).astype(np.uint8)
    assert find_near_duplicates(videos, np.array([3.0, 3.0, 3.0])) == [(0, 2)]
    assert find_near_duplicates(videos, np.array([3.0, 3.0, 4.0])) == []


def test_moving_parts_count_from_half_a_grey_level() -> None:
    """Two frames that differ by one level everywhere have a moving part of exactly half a level."""
    rng = np.random.default_rng(0)
    place = rng.integers(40, 215, (16, 16)).astype(np.uint8)
    nearly = place + (rng.random((16, 16)) < 0.9)
    moving, noise, reverse = np.stack([place, place + 1]), np.stack([nearly, place]), np.stack([place, nearly])
    for first, second, found in ((moving, noise, []), (noise, moving, []), (noise, reverse, [(0, 1)])):
        assert find_near_duplicates(np.stack([first, second]), np.array([3.0, 3.0])) == found
