from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from farfield import build_model
from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError, VideoError
from farfield.inference.predict import PredictOptions, predict_file
from farfield.models.network import ActionNet
from farfield.models.operating_point import OperatingPoint
from farfield.scoring.load import InferenceModel
from farfield.task import Task
from farfield.timelines.cells import smooth, to_cells
from farfield.timelines.options import TimelineOptions
from farfield.timelines.segments import find_segments
from farfield.timelines.sliding_windows import Window, sliding_windows
from farfield.timelines.timeline import Timeline
from farfield.timelines.window_scores import score_windows
from farfield.video.writer import write_video
from video.encoding import encode

LABELS = ["dark", "grey", "bright"]


class Brightness:
    """A network that knows three degrees of brightness, and is sure of them."""

    labels = LABELS
    clip = ClipSpec(num_frames=4, crop_px=16, frame_stride=2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    config: ClassVar[dict[str, Any]] = {}
    task: Task = "single_label"
    operating_point: OperatingPoint | None = None
    timeline_operating_point: OperatingPoint | None = None
    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self) -> None:
        self.batches: list[int] = []

    def eval(self) -> Brightness:
        return self

    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(clips))
        levels = torch.tensor([0.1, 0.5, 0.9])
        return -30 * (clips.mean((1, 2, 3, 4))[:, None] - levels).abs()


def timeline(path: Path, model: InferenceModel, *, on_progress: Any = None, **options: Any) -> Timeline:
    """Return the timeline of a video file; options are those of `PredictOptions` and `TimelineOptions`."""
    names = ("num_crops", "view_batch_size", "features")
    of_predict = {name: options.pop(name) for name in names if name in options}
    chosen = PredictOptions(timeline=TimelineOptions(**options), **of_predict)
    found = predict_file(path, model, chosen, on_progress=on_progress).timeline
    assert found is not None
    return found


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds dark, three bright, one grey, two dark; 20 frames a second."""
    path = tmp_path_factory.mktemp("stripes") / "stripes.mp4"
    levels = [25] * 40 + [230] * 60 + [128] * 20 + [25] * 40
    write_video(path, (np.full((32, 48, 3), level, np.uint8) for level in levels), fps=20)
    return path


def test_finds_what_happens_when(stripes: Path) -> None:
    model = Brightness()
    told: list[tuple[int, int]] = []
    found = timeline(  # a window that is half dark and half bright is grey, for a moment
        stripes, model, hop_seconds=0.1, min_seconds=0.5, view_batch_size=4, on_progress=lambda *at: told.append(at)
    )
    assert [segment.label for segment in found.segments] == ["dark", "bright", "grey", "dark"]
    bounds = [segment.start_seconds for segment in found.segments] + [found.segments[-1].end_seconds]
    np.testing.assert_allclose(bounds, [0, 2, 5, 6, 8], atol=0.2)  # a window is 0.35 s long
    assert all(segment.probability > 0.8 for segment in found.segments)
    assert found.error is None
    assert max(model.batches) == 4
    windows = len(found.windows)
    assert told == [(i + 1, windows) for i in range(windows)]
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(found.mean, [4 / 8, 1 / 8, 3 / 8], atol=0.05)


def test_is_what_the_network_says_of_each_window(make_video: Callable[..., Path]) -> None:
    """Windows one by one, with weights of a real network; crops averaged as probabilities."""
    torch.manual_seed(3)
    model = build_model("tiny", num_classes=5, clip={"num_frames": 4, "crop_px": 24}).eval()
    path = make_video(61)
    found = timeline(path, model, hop_seconds=0.4, num_crops=2, view_batch_size=3, features=True)
    sums, rows = [], []
    with sliding_windows(path, model.clip, hop_seconds=0.4, num_crops=2) as windows, torch.no_grad():
        for window in windows:
            x = (window.frames.float() / 255 - 0.45) / 0.225
            x = x.permute(0, 4, 1, 2, 3)
            sums.append(model(x).softmax(-1).mean(0))
            rows.append(model.head.pool(model.backbone(x)).flatten(1).mean(0))
    expected = to_cells(found.windows[:, 0], found.windows[:, 1], torch.stack(sums).numpy())[1]
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    assert found.features is not None
    np.testing.assert_allclose(found.features, torch.stack(rows).numpy(), atol=1e-5)


def test_windows_are_scored_as_soon_as_a_batch_is_full() -> None:
    taken: list[int] = []

    def windows() -> Iterator[Window]:
        for i in range(9):
            taken.append(i)
            yield Window(torch.full((2, 4, 16, 16, 3), 25 * i, dtype=torch.uint8), i, i + 1)

    scores = score_windows(windows(), Brightness(), view_batch_size=6)
    next(scores)
    assert taken == [0, 1, 2]  # two crops of each
    assert len(list(scores)) == 8


def test_a_video_that_breaks_off_keeps_what_came_before(stripes: Path, tmp_path: Path) -> None:
    whole = stripes.read_bytes()
    frames = whole.index(b"mdat")
    (tmp_path / "cut.mp4").write_bytes(whole[: frames + (len(whole) - frames) // 2])
    found = timeline(tmp_path / "cut.mp4", Brightness(), hop_seconds=0.1)
    assert found.error is not None
    assert found.segments[0].label == "dark"
    assert found.times[-1] < 8
    (tmp_path / "none.mp4").write_bytes(whole[: frames + 20])
    with pytest.raises(VideoError, match=r"none\.mp4"):
        timeline(tmp_path / "none.mp4", Brightness())


def test_what_happens_when_in_a_video_that_pauses(tmp_path: Path) -> None:
    """A recording whose 20th frame is shown for six seconds."""
    times = [i / 20 if i < 20 else 6 + i / 20 for i in range(40)]
    path = encode(tmp_path / "paused.mp4", num_frames=40, times=times)
    model = Brightness()
    model.clip = model.clip.replace(target_fps=20)
    found = timeline(path, model)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-6)
    assert [(each.label, each.start_seconds, each.end_seconds) for each in found.segments] == [("grey", 0.0, 8.0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smooth_seconds": -1.0}, "smooth_seconds is -1.0; it must be 0 or more"),
        ({"threshold": 1.0}, "threshold is 1.0; it must be a probability"),
        ({"num_crops": 0}, "num_crops is 0; it must be at least 1"),
    ],
)
def test_options_that_make_no_sense(options: dict, message: str, stripes: Path) -> None:
    with pytest.raises(FarfieldError, match=message):
        timeline(stripes, Brightness(), **options)


def test_cells_are_averages_over_the_windows_that_reach_into_them() -> None:
    """Against an average over 10,000 moments, each over the windows that it lies in."""
    rng = np.random.default_rng(7)
    starts = np.array([0.0, 1.0, 2.0, 3.0, 3.4])
    ends = starts + 2.5
    found = rng.random((5, 3))
    times, cells = to_cells(starts, ends, found)
    np.testing.assert_allclose(times, [0, 1, 2, 3, 3.4, 4.4, 5.4, 5.9])
    for cell, (start, end) in enumerate(pairwise(times)):
        moments = start + (np.arange(10_000) + 0.5) / 10_000 * (end - start)
        inside = (moments[:, None] >= starts) & (moments[:, None] < ends)
        expected = inside.sum(0) @ found / inside.sum()
        np.testing.assert_allclose(cells[cell], expected, atol=1e-3)


@given(
    st.lists(st.tuples(st.floats(0.1, 3.0), st.floats(0.2, 6.0)), min_size=1, max_size=9),
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20),
)
def test_nearest_cells_have_the_probabilities_of_the_window_in_whose_middle_they_are(
    steps: list[tuple[float, float]], moments: list[float]
) -> None:
    starts = np.cumsum([hop for hop, _ in steps])
    length = steps[0][1]
    ends = starts + length
    times, cells = to_cells(starts, ends, np.arange(len(steps))[:, None], "nearest")
    assert times[0] == starts[0]
    assert times[-1] == ends[-1]
    assert np.all(np.diff(times) > 0)
    for moment in starts[0] + np.array(moments) * (ends[-1] - starts[0]):
        distances = np.abs(starts + length / 2 - moment)
        cell = min(int(np.searchsorted(times, moment, side="right")) - 1, len(cells) - 1)
        assert distances[cells[cell, 0]] <= distances.min() + 1e-9


def test_nearest_cells_keep_the_bounds_of_an_action_whose_share_is_known() -> None:
    """The share of a window that an action covers is one half where the window's middle is the action's bound."""
    starts = np.arange(0, 20, 0.1)
    ends = starts + 3.0
    share = np.clip(np.minimum(ends, 12.0) - np.maximum(starts, 9.0), 0, None)[:, None] / 3
    for aggregation, most in (("nearest", 0.051), ("mean", 0.5)):
        times, cells = to_cells(starts, ends, share, aggregation)
        inside = np.flatnonzero(cells[:, 0] >= 0.5)
        assert abs(times[inside[0]] - 9) <= most
        assert abs(times[inside[-1] + 1] - 12) <= most


def test_windows_of_one_moment_make_no_cells() -> None:
    with pytest.raises(ValueError, match="each window must start later than the previous one"):
        to_cells(np.array([0.0, 1.0, 1.0]), np.array([2.0, 2.0, 3.0]), np.ones((3, 1)))


def test_smoothing_is_an_average_over_time() -> None:
    rng = np.random.default_rng(8)
    times = np.array([0.0, 0.5, 2.0, 3.0, 3.1, 5.0])
    cells = rng.random((5, 2))
    smoothed = smooth(times, cells, 1.2)
    for cell in range(5):
        middle = (times[cell] + times[cell + 1]) / 2
        moments = np.linspace(max(middle - 0.6, 0), min(middle + 0.6, 5.0), 20_001)
        moments = (moments[1:] + moments[:-1]) / 2
        expected = cells[np.searchsorted(times, moments, side="right") - 1].mean(0)
        np.testing.assert_allclose(smoothed[cell], expected, atol=1e-3)
    assert smooth(times, cells, 0) is cells


def one_hot(classes: list[int], sure: float = 0.9) -> np.ndarray:
    cells = np.full((len(classes), 3), (1 - sure) / 2)
    cells[np.arange(len(classes)), classes] = sure
    return cells


def test_neighbours_of_one_class_are_merged() -> None:
    times = np.array([0.0, 1.0, 3.0, 4.0, 5.0])
    cells = one_hot([0, 0, 2, 2])
    cells[0] = [0.6, 0.3, 0.1]
    first, second = find_segments(times, cells, LABELS)
    assert (first.label, first.start_seconds, first.end_seconds) == ("dark", 0, 3)
    assert first.probability == pytest.approx((0.6 * 1 + 0.9 * 2) / 3)  # by time, not by cells
    assert (second.label, second.start_seconds, second.end_seconds) == ("bright", 3, 5)


def test_improbable_cells_are_gaps() -> None:
    cells = one_hot([0, 1, 0])
    cells[1] = [0.3, 0.4, 0.3]
    found = find_segments(np.arange(4.0), cells, LABELS, threshold=0.5)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found] == [("dark", 0, 1), ("dark", 2, 3)]
    assert find_segments(np.arange(4.0), cells, LABELS, threshold=0.95) == []


def test_thresholds_that_were_chosen_on_timelines_are_used(stripes: Path) -> None:
    model = Brightness()
    whole = timeline(stripes, model, hop_seconds=0.1).segments
    assert whole[-1].end_seconds == 8.0
    model.operating_point = OperatingPoint("f1", dict.fromkeys(LABELS, 0.99999), 3)
    assert timeline(stripes, model, hop_seconds=0.1).segments == whole  # it holds for a test's views
    model.timeline_operating_point = OperatingPoint("f1", {"dark": 0.9, "grey": 0.99999, "bright": None}, 3)
    found = timeline(stripes, model, hop_seconds=0.1)
    assert {each.label for each in found.segments} == {"dark", "bright"}
    own = np.array([0.9, 0.99999, 0.5])
    assert found.segments == find_segments(found.times, found.probabilities, LABELS, threshold=own)
    given = timeline(stripes, model, hop_seconds=0.1, threshold=0.8)
    assert given.segments == find_segments(found.times, found.probabilities, LABELS, threshold=0.8)
    assert "grey" in {each.label for each in given.segments}


def test_short_segments_join_the_neighbour_that_they_are_more_like() -> None:
    cells = one_hot([0, 0, 1, 2, 2])
    cells[2] = [0.1, 0.6, 0.3]  # next to dark and bright, and brighter than dark
    found = find_segments(np.arange(6.0), cells, LABELS, min_seconds=1.5)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found] == [("dark", 0, 2), ("bright", 2, 5)]
    # Between gaps there is nobody to join.
    alone = one_hot([0, 1, 0])
    alone[[0, 2]] = [0.4, 0.3, 0.3]
    assert find_segments(np.arange(4.0), alone, LABELS, min_seconds=1.5, threshold=0.5) == []
    # A video of one segment keeps it, unless it is too short itself.
    assert len(find_segments(np.arange(2.0), one_hot([1]), LABELS, min_seconds=0.5)) == 1
    assert find_segments(np.arange(2.0), one_hot([1]), LABELS, min_seconds=1.5) == []


def test_a_segment_of_the_least_length_is_long_enough() -> None:
    """1.0 s in tenths, of which floating point makes less."""
    times = np.arange(40) / 10
    assert times[23] - times[13] < 1
    found = find_segments(times, one_hot([0] * 13 + [1] * 10 + [2] * 16), LABELS, min_seconds=1.0)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found] == [
        *(("dark", 0, 1.3), ("grey", 1.3, 2.3), ("bright", 2.3, 3.9))
    ]


def test_segments_of_an_hour_of_noise_are_found_soon() -> None:
    cells = np.random.default_rng(9).dirichlet([1, 1, 1], 8000)
    begin = time.perf_counter()
    found = find_segments(np.arange(8001) / 2, cells, LABELS, min_seconds=2.0)
    assert time.perf_counter() - begin < 5  # it takes 0.3 s; where all cells are looked at for each short one, 14 s
    assert [each.end_seconds for each in found[:-1]] == [each.start_seconds for each in found[1:]]
    assert all(one.label != other.label for one, other in pairwise(found))
    assert min(each.end_seconds - each.start_seconds for each in found) >= 2


def test_features_come_of_networks_only(stripes: Path) -> None:
    with pytest.raises(FarfieldError, match="an exported network returns scores, but no features"):
        timeline(stripes, Brightness(), features=True)
    assert not hasattr(Brightness(), "embed")
    assert hasattr(ActionNet, "embed")
