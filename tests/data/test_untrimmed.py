"""Clips of untrimmed videos: which come in an epoch, where they begin, and what share of their time classes cover."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.datamodule import VideoDataModule
from farfield.data.datasets import Batch, TrainingClips
from farfield.data.frame_sampling import shown_seconds, stream_frames
from farfield.data.hard_negatives import HardWindow
from farfield.data.manifest import Manifest, write_manifest
from farfield.data.samplers import EpochBatchSampler, SampleKey
from farfield.data.targets import WholeVideos
from farfield.data.untrimmed import Kind, UntrimmedVideos
from farfield.data.untrimmed_sampling import NEAR_BORDER_SHARE, clip_bounds
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.video.writer import write_video

LABELS = ["clap", "jump", "sit"]
SPEC = ClipSpec(num_frames=4, crop_px=48, frame_stride=3, short_side_px=48)
"""Clips of 10 frames: 1 s at 10 frames per second."""


def videos_of(*rows: VideoRecord, root: Path = Path(), **options: object) -> UntrimmedVideos:
    manifest = Manifest(rows, root=root, source="train.csv")
    return UntrimmedVideos.of(manifest, LABELS, **{"negative_share": 0.5, **options})


def shares_by_milliseconds(
    segments: list[tuple[float, float, tuple[str, ...]]], start: float, end: float
) -> list[float]:
    """Count, for each class, the milliseconds of [start, end) in which a segment with it lasts."""
    counts = [0] * len(LABELS)
    moments = range(round(start * 1000), round(end * 1000))
    for moment in moments:
        for c, label in enumerate(LABELS):
            if any(label in names and low * 1000 <= moment < high * 1000 for low, high, names in segments):
                counts[c] += 1
    return [count / len(moments) for count in counts]


def test_targets_are_the_shares_that_a_count_of_milliseconds_gives() -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        segments = []
        for _ in range(rng.integers(6)):
            low, high = sorted(rng.choice(4001, 2, replace=False).tolist())
            names = rng.choice(LABELS, rng.integers(1, 3), replace=False)
            segments.append((low / 1000, high / 1000, tuple(str(name) for name in names)))
        start = int(rng.integers(3500)) / 1000
        end = start + int(rng.integers(1, 1500)) / 1000
        rows = [VideoRecord("a.mp4", "|".join(names), low, high) for low, high, names in segments]
        whole = WholeVideos.of(Manifest([*rows, VideoRecord("a.mp4", "")], root=Path()))
        for videos in (whole, whole.labelled()):  # a segment without label changes nothing
            found = videos.clip_targets(LABELS).shares(0, start, end)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, shares_by_milliseconds(segments, start, end), atol=1e-6)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (1.0, 2.0, [1, 0, 0]),  # the segment itself
        (0.0, 1.0, [0, 0, 0]),  # touches it
        (2.0, 3.0, [0, 0, 0]),
        (0.5, 1.5, [0.5, 0, 0]),
        (0.0, 4.0, [0.25, 0, 0]),  # around it
        (4.5, 5.5, [0, 0.5, 0.5]),  # the rows of "jump" overlap, and count once
        (8.0, 10.0, [0, 1, 1]),  # no end is given
    ],
)
def test_the_target_of_a_clip_is_the_share_of_its_time(start: float, end: float, expected: list[float]) -> None:
    rows = (
        VideoRecord("a.mp4", "clap", 1.0, 2.0),
        VideoRecord("a.mp4", "jump", 5.0, 6.0),
        VideoRecord("a.mp4", "jump|sit", 5.0, None),
    )
    assert videos_of(*rows).target(0, np.array([start, end])).tolist() == expected


def test_a_clip_lasts_from_its_first_frame_to_the_end_of_its_last() -> None:
    times = np.arange(40) / 10
    places = np.array([[5, 8, 11, 14], [30, 33, 36, 39]])
    np.testing.assert_allclose(shown_seconds(times, places, None), [[0.5, 1.5], [3.0, 4.0]])
    uneven = np.array([0.0, 0.1, 0.5, 0.6])
    np.testing.assert_allclose(shown_seconds(uneven, np.array([[0, 1]]), None), [[0.0, 0.5]])
    stream = stream_frames(times, target_fps=5)
    np.testing.assert_allclose(shown_seconds(times, stream[None, [1, 4]], 5), [[0.2, 1.0]])


ROWS = (
    VideoRecord("a.mp4", "clap", 10.0, 14.0, duration_seconds=60.0),
    VideoRecord("b.mp4", "", duration_seconds=20.0),
    VideoRecord("a.mp4", "jump", 12.0, 12.4, duration_seconds=60.0),
    VideoRecord("a.mp4", "sit", 40.0, 43.0, duration_seconds=60.0),
)


def test_an_epoch_has_each_segment_once_and_a_share_of_negatives() -> None:
    videos = videos_of(*ROWS * 5, negative_share=0.6)
    assert videos.clips_per_epoch() == (15, 22)
    assert len(videos) == 37
    rows, repeats = videos.epoch(np.random.default_rng(0))
    assert Counter(rows[videos.kinds[rows] == Kind.SEGMENT].tolist()) == dict.fromkeys(range(15), 1)
    assert len(set(zip(rows.tolist(), repeats.tolist(), strict=True))) == 37, "the same sample came twice"
    of_video = Counter(videos.sources[row].path for row in rows.tolist() if videos.kinds[row] == Kind.FREE_TIME)
    free = {"a.mp4": 53, "b.mp4": 20}  # seconds
    for path, seconds in free.items():
        assert abs(of_video[path] - 22 * seconds / 73) < 1
    assert [videos.sources[row].label for row in np.flatnonzero(videos.kinds == Kind.FREE_TIME).tolist()] == ["", ""]


def test_videos_of_unknown_length_give_as_many_negatives_as_others() -> None:
    unknown = [VideoRecord(f"{i}.mp4", "clap", 1.0, 2.0) for i in range(4)]
    rows, _ = videos_of(*unknown).epoch(np.random.default_rng(0))
    assert Counter(rows.tolist()) == dict.fromkeys(range(8), 1)
    some = [*unknown[:3], VideoRecord("3.mp4", "clap", 1.0, 5.0, num_frames=100, fps=10.0)]
    assert videos_of(*some).weights[4:].tolist() == [6.0] * 4
    nested = [
        VideoRecord("a.mp4", "clap", start, end, duration_seconds=20.0) for start, end in ((1, 9), (2, 3), (8, 11))
    ]
    assert videos_of(*nested).weights[3:].tolist() == [10.0]


def test_different_videos_give_the_negatives_of_different_epochs() -> None:
    videos = videos_of(*(VideoRecord(f"{i}.mp4", "clap", 1.0, 2.0) for i in range(4)), negative_share=0.2)
    drawn = [row for seed in range(60) for row in videos.epoch(np.random.default_rng(seed))[0] if row >= 4]
    assert len(drawn) == 60
    assert min(Counter(drawn).values()) >= 6
    assert len(Counter(drawn)) == 4


def test_no_negatives_come_from_videos_that_are_labelled_throughout() -> None:
    whole = VideoRecord("whole.mp4", "sit")
    videos = videos_of(whole, VideoRecord("a.mp4", "clap", 1.0, 2.0))
    assert [videos.sources[row].path for row in np.flatnonzero(videos.kinds == Kind.FREE_TIME)] == ["a.mp4"]
    with pytest.raises(FarfieldError, match=r"negative_share is 0.5, but the segments of train.csv cover every video"):
        videos_of(whole)
    assert len(videos_of(whole, negative_share=0.0)) == 1


def drawn(videos: UntrimmedVideos, row: int, times: np.ndarray, spec: ClipSpec = SPEC, count: int = 400) -> np.ndarray:
    """Start and end in seconds of clips of a source."""
    frames = [videos.choose_frames(row, times, np.random.default_rng([7, seed]), spec=spec) for seed in range(count)]
    return shown_seconds(times, np.stack(frames), spec.target_fps)


@pytest.mark.parametrize("target_fps", [None, 5.0])
def test_negatives_lie_outside_of_all_segments_and_often_near_one(target_fps: float | None) -> None:
    times = np.arange(600) / 10
    spec = replace(SPEC, target_fps=target_fps)  # clips of 1 s, or of 2 s
    videos = videos_of(*ROWS)
    bounds = drawn(videos, 3, times, spec)
    assert videos.kinds[3] == Kind.FREE_TIME
    targets = np.stack([videos.target(3, each) for each in bounds])
    assert not targets.any()
    seconds = bounds[0, 1] - bounds[0, 0]
    assert seconds == pytest.approx(1.0 if target_fps is None else 2.0)
    distance = np.minimum.reduce(
        [np.maximum(low - bounds[:, 1], bounds[:, 0] - high) for low, high in ((10.0, 14.0), (40.0, 43.0))]
    )
    assert distance.min() == pytest.approx(0, abs=1e-9)  # they touch segments
    near = (distance < seconds).mean()
    by_chance = 4 * seconds / (60 - 7)
    wanted = NEAR_BORDER_SHARE + (1 - NEAR_BORDER_SHARE) * by_chance
    assert abs(near - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / len(bounds))
    assert {bounds[:, 0].min() < 3, bounds[:, 1].max() > 55} == {True}


@pytest.mark.slow
def test_clips_of_a_segment_lie_inside_it_and_across_both_borders() -> None:
    times = np.arange(600) / 10
    bounds = drawn(videos_of(*ROWS), 0, times)
    shares = np.stack([videos_of(*ROWS).target(0, each) for each in bounds])[:, 0]
    assert shares.min() == pytest.approx(0.5)
    starts = np.round(bounds[:, 0] * 10).astype(int)
    assert set(starts.tolist()) == set(range(95, 136))
    counts = np.bincount(starts)[95:136]
    assert counts.max() < 6 * counts.mean()
    short = drawn(videos_of(*ROWS), 1, times)  # of 0.4 s, shorter than a clip
    assert set(np.round(short[:, 0] * 10).astype(int).tolist()) == set(range(112, 123))  # 0.2 s of it


def test_short_videos_give_the_clip_that_they_have() -> None:
    times = np.arange(6) / 10
    videos = videos_of(VideoRecord("a.mp4", "clap", 0.2, 0.5), VideoRecord("b.mp4", ""))
    assert videos.choose_frames(0, times, np.random.default_rng(0), spec=SPEC).tolist() == [0, 3, 0, 3]
    bounds = clip_bounds(times, np.arange(6), SPEC)
    np.testing.assert_allclose(bounds, [[0.0, 0.6]])
    assert videos.target(0, bounds[0]).tolist() == pytest.approx([0.5, 0, 0])


WINDOWS = (
    HardWindow("a.mp4", 20.0, 21.0, "clap", "false_positive"),
    HardWindow("a.mp4", 30.0, 32.0, "no such class", "false_positive"),
    HardWindow("a.mp4", 9.5, 10.5, "clap", "missed"),
)


def test_hard_windows_come_more_often_in_place_of_others() -> None:
    twice = replace(WINDOWS[0], label="sit")
    videos = videos_of(*ROWS * 6, negative_share=0.5, hard_windows=[*WINDOWS, twice], hard_repeats=3)
    plain = videos_of(*ROWS * 6, negative_share=0.5)
    assert len(videos) == len(plain) == 36
    rows, repeats = videos.epoch(np.random.default_rng(0))
    assert len(set(zip(rows.tolist(), repeats.tolist(), strict=True))) == 36
    counts = Counter(videos.sources[row].start_seconds for row in rows if videos.kinds[row] == Kind.HARD_WINDOW)
    assert counts == {20.0: 3, 30.0: 3, 9.5: 3}
    assert sum(videos.kinds[row] == Kind.SEGMENT for row in rows) == 15
    assert sum(videos.kinds[row] == Kind.FREE_TIME for row in rows) == 12


def test_hard_windows_replace_at_most_half() -> None:
    videos = videos_of(*ROWS * 2, negative_share=0.5, hard_windows=WINDOWS, hard_repeats=50)
    seen: Counter[float] = Counter()
    for seed in range(20):
        rows, _ = videos.epoch(np.random.default_rng(seed))
        kinds = Counter(int(videos.kinds[row]) for row in rows)
        assert kinds == {Kind.SEGMENT: 3, Kind.FREE_TIME: 3, Kind.HARD_WINDOW: 6}
        seen.update(videos.sources[row].start_seconds for row in rows if videos.kinds[row] == Kind.HARD_WINDOW)
    assert (seen[20.0] + seen[30.0], seen[9.5]) == (60, 60)
    assert abs(seen[20.0] - 30) < 10, "the negatives do not come equally often"


@pytest.mark.slow
def test_clips_of_hard_windows_lie_around_their_middles_with_the_true_targets() -> None:
    times = np.arange(600) / 10
    videos = videos_of(*ROWS, hard_windows=WINDOWS)
    first = int(np.flatnonzero(videos.kinds == Kind.HARD_WINDOW)[0])
    assert videos.labelled[first:].tolist() == [False, False, True]
    bounds = drawn(videos, first, times)
    middles = np.round(bounds.mean(axis=1), 6)
    assert (middles.min(), middles.max()) == (20.3, 20.7)
    assert not np.stack([videos.target(first, each) for each in bounds]).any(), "the label of the file was taken"
    beside = videos_of(*ROWS, hard_windows=[HardWindow("a.mp4", 14.0, 15.0, "clap", "false_positive")])
    bounds = drawn(beside, first, times)
    assert np.round(bounds[:, 0].min(), 6) == 14.0, "a window outside of all segments gives clips across a border"
    shares = np.stack([videos.target(first + 2, each) for each in drawn(videos, first + 2, times)])
    assert 0.2 < shares[:, 0].min() < shares[:, 0].max() < 0.8
    assert not shares[:, 1:].any()


def test_a_hard_window_of_a_video_that_is_not_listed_is_refused() -> None:
    window = replace(WINDOWS[0], path="A.mp4")
    with pytest.raises(FarfieldError, match=r"names 'A.mp4', which train.csv does not list. Known: a.mp4, b.mp4. Did"):
        videos_of(*ROWS, hard_windows=[window])


def grey_frames(count: int) -> list[np.ndarray]:
    """Frames whose brightness tells their index, whatever part of them a crop shows."""
    return [np.full((48, 96, 3), 8 + 3 * i, dtype=np.uint8) for i in range(count)]


def index_of(frame: torch.Tensor) -> int:
    """Return the index that `grey_frames` has shown."""
    return round((float(frame.float().mean()) - 8) / 3)


@pytest.fixture(scope="module")
def greys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos at 10 frames per second, busy.mp4 of 80 frames and quiet.mp4 of 60, and of busy's pictures."""
    folder = tmp_path_factory.mktemp("greys")
    write_video(folder / "busy.mp4", grey_frames(80), fps=10)
    write_video(folder / "quiet.mp4", grey_frames(60), fps=10)
    (folder / "busy").mkdir()
    for i, frame in enumerate(grey_frames(80)):
        Image.fromarray(frame).save(folder / "busy" / f"{i:04}.png")
    return folder


@pytest.fixture
def listed(greys: Path, tmp_path: Path) -> Path:
    """A manifest of a video with two segments, and of one in which nothing happens."""
    busy, quiet = greys / "busy.mp4", greys / "quiet.mp4"
    rows = [
        VideoRecord(str(busy), "clap", 2.0, 3.5),
        VideoRecord(str(quiet), ""),
        VideoRecord(str(busy), "sit", 3.0, 5.0),
    ]
    write_manifest(tmp_path / "train.csv", rows)
    return tmp_path / "train.csv"


def data_of(train: Path, val: Path | None = None, **options: object) -> VideoDataModule:
    given = {
        "num_workers": 0,
        "batch_size": 2,
        "negative_share": 0.5,
        "augmentation": Augmentation((1, 1), flip=False),
    } | options
    return VideoDataModule(
        str(train), val and str(val), labels=LABELS, clip=SPEC, task="multilabel", untrimmed=True, **given
    )


def batches_of(data: VideoDataModule, epoch: int, start: int = 0) -> list[Batch]:
    loader = data.train_dataloader()
    loader.sampler.position = lambda: (epoch, start)
    return [batch._replace(clips=batch.clips.clone()) for batch in loader]


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.clips, b.clips) and torch.equal(a.labels, b.labels) and torch.equal(a.indices, b.indices)
        for a, b in zip(first, second, strict=True)
    )


def check_clips(data: VideoDataModule, batches: list[Batch]) -> set[float]:
    """Check that each target is right for the frames of its clip; return all shares that occur."""
    segments = [(2.0, 3.5, ("clap",)), (3.0, 5.0, ("sit",))]
    seen: set[float] = set()
    for batch in batches:
        for clip, target, row in zip(batch.clips, batch.labels, batch.indices.tolist(), strict=True):
            frames = [index_of(frame) for frame in clip[0]]
            assert np.diff(frames).tolist() == [3, 3, 3]
            is_busy = "busy" in data.training_paths([row])[0]
            truth = shares_by_milliseconds(segments if is_busy else [], frames[0] / 10, (frames[-1] + 1) / 10)
            assert target.tolist() == pytest.approx(truth, abs=1e-6)
            seen |= set(np.round(target.numpy(), 3).tolist())
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("memory_gb", [0.0, 0.01])
def test_batches_have_the_targets_of_their_frames(listed: Path, memory_gb: float) -> None:
    data = data_of(listed, memory_gb=memory_gb)
    assert data.class_counts == [1, 0, 1]
    assert data.batches_per_epoch() == 2
    loader = data.train_dataloader()
    batches = []
    for epoch in range(20):
        loader.sampler.position = lambda epoch=epoch: (epoch, 0)
        batches += [batch._replace(clips=batch.clips.clone()) for batch in loader]
    assert len(check_clips(data, batches)) > 6


@pytest.mark.slow
def test_any_number_of_workers_and_a_resumed_epoch_give_the_same_bits(listed: Path, greys: Path) -> None:
    hard = listed.with_name("hard.csv")
    hard.write_text(f"path,start_seconds,end_seconds,label,error\n{greys / 'quiet.mp4'},1,2,clap,false_positive\n")
    options = {"negative_share": 0.75, "batch_size": 1, "hard_negatives": str(hard), "hard_negative_repeats": 3}
    alone = batches_of(data_of(listed, **options), 3)
    assert len(alone) == 8
    assert equal(batches_of(data_of(listed, num_workers=2, **options), 3), alone)
    assert equal(batches_of(data_of(listed, **options), 3, start=5), alone[5:])
    assert not equal(batches_of(data_of(listed, **options), 4), alone)
    assert not equal(batches_of(data_of(listed, seed=1, **options), 3), alone)


def test_clips_of_frame_folders_and_several_clips_a_source(greys: Path, tmp_path: Path) -> None:
    folder = str(greys / "busy")
    rows = [VideoRecord(folder, "clap", 2.0, 3.5, fps=10.0), VideoRecord(folder, "sit", 3.0, 5.0, fps=10.0)]
    write_manifest(tmp_path / "train.csv", rows)
    data = data_of(tmp_path / "train.csv", batch_size=4, clips_per_video=2, memory_gb=0.01)
    batches = batches_of(data, 0)
    assert [len(batch.clips) for batch in batches] == [4, 4]
    check_clips(data, batches)
    for batch in batches:
        assert (batch.indices[0], batch.indices[2]) == (batch.indices[1], batch.indices[3])
        assert len({tuple(index_of(frame) for frame in clip[0]) for clip in batch.clips}) > 2


def test_short_cycles_have_all_clips_at_their_sizes(listed: Path) -> None:
    keys = data_of(listed, negative_share=0.8, batch_size=1, short_cycle=True)._train_sampler()
    assert [(len(each), each[0].scale) for each in keys] == [(4, 0.5), (2, 0.5**0.5), (1, 1.0)]


def test_a_video_without_room_for_a_negative_is_replaced_quietly(make_video: Callable[..., Path]) -> None:
    full, free = make_video(30, fps=10), make_video(60, fps=10)
    rows = [VideoRecord(str(full), "clap", 0.4, 2.5), VideoRecord(str(free), "sit", 0.0, 1.0)]
    manifest = Manifest(rows, root=Path())
    videos = UntrimmedVideos.of(manifest, LABELS)
    assert len(videos.sources) == 4

    def clips_of(videos: UntrimmedVideos) -> TrainingClips:
        return TrainingClips(
            videos.sources, LABELS, SPEC, Augmentation(), seed=0, task="multilabel", untrimmed=videos
        )  # fmt: skip

    batch = clips_of(videos)[[SampleKey(0, 2)]]
    assert (batch.indices.tolist(), batch.labels.tolist(), batch.failures) == ([3], [[0, 0, 0]], [])
    alone = UntrimmedVideos.of(Manifest(rows[:1], root=Path(), source="train.csv"), LABELS)
    with pytest.raises(FarfieldError, match=r"no clip fits outside of the labelled segments in any video of train.csv"):
        clips_of(alone)[[SampleKey(0, 1)]]


def test_an_unreadable_video_is_replaced_by_another_source(make_video: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    good = make_video(60, fps=10)
    rows = [
        VideoRecord(str(tmp_path / "broken.mp4"), "sit", 1.0, 2.0),
        VideoRecord(str(good), "clap", 1.0, 2.0),
        VideoRecord(str(good), "sit", 3.0, 4.0),
    ]
    videos = videos_of(*rows)
    clips = TrainingClips(
        videos.sources, LABELS, SPEC, Augmentation(), seed=0, task="multilabel", untrimmed=videos
    )  # fmt: skip
    batch = clips[[SampleKey(0, 0), SampleKey(0, 3)]]
    assert batch.indices.tolist() == [2, 4]
    assert [Path(each.path).name for each in batch.failures] == ["broken.mp4", "broken.mp4"]
    beyond = videos_of(replace(rows[1], start_seconds=70.0, end_seconds=71.0), rows[2])
    clips = TrainingClips(
        beyond.sources, LABELS, SPEC, Augmentation(), seed=0, task="multilabel", untrimmed=beyond
    )  # fmt: skip
    [failure] = clips[[SampleKey(0, 0)]].failures
    assert "no frame lies in the segment [70, 71) s; the video's last frame is at 5.900 s" in failure.reason


def test_the_sampler_draws_whole_epochs_for_several_processes() -> None:
    videos = videos_of(*ROWS * 7, negative_share=0.5)
    ranks = [
        [
            key
            for batch in EpochBatchSampler(
                len(videos), 3, seed=0, position=lambda: (2, 0), rank=rank, world_size=2, epoch=videos.epoch
            )
            for key in batch
        ]
        for rank in range(2)
    ]
    assert [len(keys) for keys in ranks] == [21, 21]
    assert len(set(ranks[0] + ranks[1])) == 42
