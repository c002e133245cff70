from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import number_of
from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError, VideoError
from farfield.timelines.sliding_windows import assemble_windows, sliding_windows, span_and_hop, window_indices
from farfield.video.frame_rate import frame_rate
from farfield.video.packet_reader import PacketReader
from held import Held
from video.encoding import encode

SPEC = ClipSpec(num_frames=4, crop_px=48, frame_stride=3, short_side_px=48)  # spans 10 frames


def numbers_of(path: Path, spec: ClipSpec = SPEC, **options: float) -> tuple[list[list[int]], list[float], list[float]]:
    """What the frames of each window show, three crops side by side; and when windows start and end."""
    shown = []
    with sliding_windows(path, spec, num_crops=3, **options) as windows:
        for window in windows:
            left, _, right = window.frames  # 48 x 96: the outer crops are the halves
            whole = torch.cat([left, right], dim=2)
            shown.append([number_of(frame) for frame in whole])
        assert len(windows) == len(shown)
        return shown, windows.starts.tolist(), windows.ends.tolist()


def test_windows_hold_the_frames_that_their_places_say(make_video: Callable[..., Path]) -> None:
    shown, starts, ends = numbers_of(make_video(47), hop_seconds=6 / 25)
    firsts = [0, 6, 12, 18, 24, 30, 36, 37]  # the last one ends with the video
    assert shown == [[first + 3 * i for i in range(4)] for first in firsts]
    assert starts == pytest.approx([first / 25 for first in firsts], abs=1e-3)
    assert ends == pytest.approx([(first + 10) / 25 for first in firsts], abs=1e-3)


def test_windows_follow_each_other_by_half_their_length(make_video: Callable[..., Path]) -> None:
    shown, _, _ = numbers_of(make_video(30))
    assert [numbers[0] for numbers in shown] == [0, 5, 10, 15, 20]


def test_windows_of_a_rate_of_their_own(make_video: Callable[..., Path]) -> None:
    """At 12.5 frames per second every other frame is taken, and a window spans 20."""
    shown, starts, ends = numbers_of(make_video(60), SPEC.replace(target_fps=12.5), hop_seconds=0.8)
    assert shown[:2] == [[0, 6, 12, 18], [20, 26, 32, 38]]
    assert starts[:2] == pytest.approx([0, 0.8], abs=1e-3)
    assert ends[0] == pytest.approx(20 / 25, abs=1e-3)


def test_windows_of_a_rate_of_their_own_go_on_while_one_frame_is_shown(tmp_path: Path) -> None:
    """Of a recording whose 30th frame is shown for 10 seconds, at twice its rate: none starts with another."""
    times = [i / 25 if i < 30 else 10 + i / 25 for i in range(60)]
    path = encode(tmp_path / "paused.mp4", times=times, num_frames=60, b_frames=None)
    shown, starts, ends = numbers_of(path, SPEC.replace(target_fps=50), hop_seconds=0.3)
    assert starts == pytest.approx([*np.arange(0, 12.2, 0.3), 12.2], abs=1e-6)
    np.testing.assert_allclose(np.subtract(ends, starts), 10 / 50)
    for numbers, start in zip(shown, starts, strict=True):
        moments = start + np.arange(4) * 3 / 50
        assert numbers == (np.searchsorted(times, moments + 1e-6, side="right") - 1).tolist()


def test_windows_of_segments_have_the_length_that_is_given(make_video: Callable[..., Path]) -> None:
    spec = SPEC.replace(sampling="segments")
    shown, starts, ends = numbers_of(make_video(50), spec, window_seconds=16 / 25, hop_seconds=8 / 25)
    assert shown[:2] == [[2, 6, 10, 14], [10, 14, 18, 22]]  # the middle of each of four parts
    assert shown[-1] == [36, 40, 44, 48]
    assert (starts[1], ends[1]) == pytest.approx((8 / 25, 24 / 25), abs=1e-3)
    assert ends[-1] == pytest.approx(50 / 25, abs=1e-3)
    with pytest.raises(FarfieldError, match=r"it has no window length of its own\. Give window_seconds"):
        numbers_of(make_video(50), spec)


def test_a_short_video_is_one_window_or_none(make_video: Callable[..., Path]) -> None:
    shown, starts, ends = numbers_of(make_video(7))
    assert shown == [[0, 3, 6, 2]]  # looped
    assert (starts, ends) == ([0], [pytest.approx(7 / 25, abs=1e-3)])
    with pytest.raises(VideoError, match="it has 7 frames, but a clip of 4 frames at stride 3 needs 10"):
        numbers_of(make_video(7), SPEC.replace(short_clip="refuse"))


@pytest.mark.parametrize("given", [{"hop_seconds": 0}, {"window_seconds": -1}, {"hop_seconds": float("nan")}])
def test_lengths_must_be_positive(given: dict[str, float], make_video: Callable[..., Path]) -> None:
    name, value = next(iter(given.items()))
    with pytest.raises(FarfieldError, match=f"{name} is {value}; it must be positive"):
        numbers_of(make_video(50), **given)


def test_each_frame_is_decoded_once(make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = PacketReader.decode

    def counted(self: PacketReader, packets: object) -> Iterator:
        for frame in decode(self, packets):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(PacketReader, "decode", counted)
    numbers_of(make_video(90), hop_seconds=1 / 25)
    assert len(decoded) == len(set(decoded)) <= 90


def test_no_more_frames_are_held_than_windows_need(
    make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows of 10 frames, 5 apart: of 300 frames never more than 10 are alive."""
    held = Held(monkeypatch)
    spec = SPEC.replace(num_frames=10, frame_stride=1)
    with sliding_windows(make_video(300), spec, hop_seconds=5 / 25) as windows:
        assert sum(1 for _ in windows) == 59
    assert 10 <= held.most <= 11


def test_windows_need_no_end(make_video: Callable[..., Path]) -> None:
    """As with a camera: places and frames are made for ever, and windows come as soon as they are whole."""

    def frames() -> Iterator[tuple[int, torch.Tensor]]:
        place = 0
        while True:
            yield place, torch.full((1, 2, 2, 3), place, dtype=torch.uint8)
            place += 1

    def places() -> Iterator[np.ndarray]:
        start = 0
        while True:
            yield start + np.arange(0, 6, 2)
            start += 5

    windows = assemble_windows(frames(), places())
    found = [next(windows)[0, :, 0, 0, 0].tolist() for _ in range(3)]
    assert found == [[0, 2, 4], [5, 7, 9], [10, 12, 14]]


def test_places_span_what_they_say() -> None:
    span, hop = span_and_hop(10.0, SPEC, hop_seconds=2.0, window_seconds=None)
    views, bounds = window_indices(100, SPEC, span, hop, spread=False)
    assert bounds.tolist()[:2] == [[0, 10], [20, 30]]
    assert bounds.tolist()[-1] == [90, 100]
    assert (views[:, 0] == bounds[:, 0]).all()
    assert (views[:, -1] == bounds[:, 1] - 1).all()


def test_noise_of_a_rate_decides_nothing() -> None:
    """0.3 s are 7.5 frames at 25 frames per second, which is rounded to an even number."""
    for fps in (25 - 1e-9, 25.0, 25 + 1e-9):
        assert span_and_hop(fps, SPEC, hop_seconds=0.3, window_seconds=0.5) == (12, 8)


def test_gaps_between_windows_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        span_and_hop(10.0, SPEC, hop_seconds=2.5, window_seconds=2.0)
    span_and_hop(10.0, SPEC, hop_seconds=2.0, window_seconds=2.0)
    assert caplog.messages == [
        "hop_seconds is 2.5, but a window covers only 2 s. The time between windows is not looked at, and takes the "
        "classes of a neighbouring window. Lower hop_seconds, or raise window_seconds."
    ]


def test_frames_of_one_time_have_a_rate() -> None:
    assert frame_rate(np.array([1.0, 1.5, 2.0])) == 2.0
    assert frame_rate(np.array([2.0, 2.0, 2.0])) == frame_rate(np.array([2.0])) == 1.0
