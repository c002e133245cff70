from __future__ import annotations

import pytest

from farfield.curation.formats.segments import clip_segment, parse_seconds, parse_segment


@pytest.mark.parametrize(("value", "seconds"), [(3, 3.0), (2.5, 2.5), ("92.166667", 92.166667), (" 4 ", 4.0)])
def test_seconds_are_numbers_or_text(value: object, seconds: float) -> None:
    assert parse_seconds(value) == seconds


@pytest.mark.parametrize("value", [None, "", "1,5", "soon", True, "nan", float("inf"), [1], 10**400])
def test_anything_else_is_no_time(value: object) -> None:
    assert parse_seconds(value) is None
    assert parse_segment([1.0, value]) is None


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0, 3.0], "12", None])
def test_a_segment_has_two_times(values: object) -> None:
    assert parse_segment(values) is None


def test_segments_are_clipped_to_the_video() -> None:
    assert clip_segment(1.5, 7.5, None) == (1.5, 7.5)
    assert clip_segment(-0.5, 7.5, 7.0) == (0, 7.0)
    assert clip_segment(7.0, 7.5, 7.0) == "lies outside the video of 7 s"
    assert clip_segment(-2.0, -1.0, None) == "lies outside the video"
    assert clip_segment(2.0, 2.0, 7.0) == "is empty"
