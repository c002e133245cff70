from __future__ import annotations

import random

import numpy as np
import pytest
from pytorchvideo.data.ssv2 import SSv2

from farfield.clip_spec import ClipSpec
from farfield.data.frame_sampling import random_clip, uniform_views
from farfield.errors import FarfieldError

LENGTHS = (1, 2, 5, 12, 16, 17, 31, 45, 47, 117, 118, 300)


def spec(offsets: str = "even", num_frames: int = 16) -> ClipSpec:
    return ClipSpec(num_frames=num_frames, crop_px=8, sampling="segments", segment_offsets=offsets, num_clips=1)


def draws(length: int, offsets: str, num_frames: int, number: int = 400) -> np.ndarray:
    rng, settings = np.random.default_rng(0), spec(offsets, num_frames)
    return np.stack([random_clip(length, settings, rng) for _ in range(number)])


def test_even_segments_take_one_frame_from_each_equal_part() -> None:
    assert uniform_views(20, spec(num_frames=5), 1).tolist() == [[2, 6, 10, 14, 18]]
    assert (draws(100, "even", 5) // 20 == np.arange(5)).all()
    assert uniform_views(100, spec(num_frames=5), 2).tolist() == [[5, 25, 45, 65, 85], [15, 35, 55, 75, 95]]


def test_the_draws_of_networks_that_are_already_trained_stay_as_they_are() -> None:
    """Of an earlier version: a resumed run goes on with the same clips."""
    assert random_clip(100, spec(num_frames=5), np.random.default_rng(1)).tolist() == [10, 39, 42, 78, 86]


@pytest.mark.parametrize("num_frames", [5, 7, 16, 64])
@pytest.mark.parametrize("length", LENGTHS)
def test_pyslowfasts_frames_are_those_of_its_port_in_pytorchvideo(
    length: int, num_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SSv2._sample_clip_frames` is PySlowFast's get_seq_frames; its ends come from a `randint` that takes them."""
    theirs = SSv2._sample_clip_frames(list(range(length)), num_frames, False)
    assert uniform_views(length, spec("pyslowfast", num_frames), 1).tolist() == [theirs]
    drawn = draws(length, "pyslowfast", num_frames)
    for end, ours in ((0, drawn.min(0)), (1, drawn.max(0))):
        monkeypatch.setattr(random, "randint", lambda *ends, end=end: ends[end])
        assert ours.tolist() == SSv2._sample_clip_frames(list(range(length)), num_frames, True)


def test_pyslowfast_rounds_halves_to_even() -> None:
    """L = 25 and T = 16: s is 1.5, so that round(1.5) = round(2.5) = 2; the second frame is (2 + 3) // 2."""
    assert uniform_views(25, spec("pyslowfast"), 1)[0, :4].tolist() == [1, 2, 3, 5]
    assert uniform_views(26, spec("pyslowfast", 10), 1)[0].tolist() == [1, 3, 6, 9, 11, 13, 16, 19, 21, 23]


@pytest.mark.parametrize("num_frames", [5, 7, 16])
@pytest.mark.parametrize("length", LENGTHS)
def test_videomaes_views_are_the_starts_and_the_middles_of_the_parts(length: int, num_frames: int) -> None:
    part = length / num_frames
    starts = [int(part * x) for x in range(num_frames)]
    middles = [int(part / 2.0 + part * x) for x in range(num_frames)]
    # Their loader sorts all the frames and gives every second one to each view.
    both = sorted(starts + middles)
    assert uniform_views(length, spec("videomae", num_frames), 2).tolist() == [both[::2], both[1::2]]
    assert uniform_views(length, spec("videomae", num_frames), 1).tolist() == [starts]


def test_videomae_trains_on_parts_of_whole_frames() -> None:
    drawn = draws(45, "videomae", 16)
    assert drawn.min(0).tolist() == list(range(0, 32, 2))
    assert drawn.max(0).tolist() == list(range(1, 33, 2))
    assert not draws(15, "videomae", 16).any()  # fewer frames than parts


def test_the_choices_differ_where_the_published_accuracies_depend_on_them() -> None:
    even = uniform_views(45, spec(), 1)[0]
    assert (even != uniform_views(45, spec("pyslowfast"), 1)[0]).sum() == 6
    ours, theirs = uniform_views(45, spec(), 2), uniform_views(45, spec("videomae"), 2)
    assert [(a != b).sum() for a, b in zip(ours, theirs, strict=True)] == [11, 11]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": "clip"}, "segment_offsets is 'pyslowfast', but clip.sampling is 'clip', which has no segments"),
        ({"num_clips": 10}, r"num_clips is 10; it must be 1 with segment_offsets 'pyslowfast'"),
        (
            {"segment_offsets": "videomae", "num_clips": 3},
            r"num_clips is 3; it must be 1 or 2 with segment_offsets 'videomae'",
        ),
        ({"segment_offsets": "videomea"}, "clip.segment_offsets is 'videomea'.*Did you mean 'videomae'"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        spec("pyslowfast").replace(**changes)


def test_more_views_than_there_are_different_ones_are_refused() -> None:
    with pytest.raises(FarfieldError, match="num_clips is 3; it must be 1 or 2 with segment_offsets 'videomae'"):
        uniform_views(45, spec("videomae"), 3)


def test_specs_of_earlier_checkpoints_keep_their_frames() -> None:
    values = spec().to_dict()
    del values["segment_offsets"]
    assert ClipSpec.from_dict(values) == spec("even")
