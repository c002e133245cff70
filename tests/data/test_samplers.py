"""Which sample comes when: equal shares, every class equally often, every remaining clip exactly once after a stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import number_of
from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.batch_loader import batch_loader
from farfield.data.datamodule import VideoDataModule
from farfield.data.datasets import Batch, TrainingClips
from farfield.data.manifest import Manifest
from farfield.data.samplers import EpochBatchSampler, EvaluationBatches, SampleKey, class_balanced_order
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

SPEC = ClipSpec(num_frames=2, crop_px=48, frame_stride=3)


def test_every_class_comes_equally_often() -> None:
    classes = np.array([0] * 50 + [1] * 5 + [2] * 2)
    for seed in range(5):
        rows, repeats = class_balanced_order(classes, np.random.default_rng(seed))
        assert Counter(classes[rows].tolist()) == {0: 19, 1: 19, 2: 19}
        assert len(set(zip(rows.tolist(), repeats.tolist(), strict=True))) == 57, "the same sample came twice"
        of_small = Counter(rows[classes[rows] == 2].tolist())
        assert max(of_small.values()) - min(of_small.values()) <= 1
    first, second = (set(class_balanced_order(classes, np.random.default_rng(s))[0].tolist()) for s in (0, 1))
    assert {row for row in first if row < 50} != {row for row in second if row < 50}


@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_resumed_epoch_yields_the_remaining_batches(balance: bool, world_size: int) -> None:
    classes = np.arange(101) % 7 % 3
    for rank in range(world_size):

        def order(start: int, rank: int = rank) -> list[list[SampleKey]]:
            return list(
                EpochBatchSampler(
                    101,
                    4,
                    seed=3,
                    position=lambda: (2, start),
                    rank=rank,
                    world_size=world_size,
                    classes=classes if balance else None,
                )
            )

        whole = order(0)
        assert len(whole) == 101 // (4 * world_size)
        for start in (1, 5, len(whole) - 1):
            assert order(start) == whole[start:]


@pytest.mark.parametrize("balance", [False, True])
def test_ranks_share_nothing(balance: bool) -> None:
    classes = np.arange(100) % 3 if balance else None
    shares = []
    for rank in range(4):
        order = EpochBatchSampler(100, 3, seed=0, position=lambda: (4, 0), rank=rank, world_size=4, classes=classes)
        shares.append([key for keys in order for key in keys])
    assert {len(share) for share in shares} == {24}
    assert len({key for share in shares for key in share}) == 96


@pytest.mark.parametrize(("count", "world_size"), [(1, 1), (10, 1), (10, 3), (11, 4), (3, 8)])
def test_evaluation_sees_every_video_once_in_as_many_batches_on_every_rank(count: int, world_size: int) -> None:
    shares = [list(EvaluationBatches(count, 2, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert sorted(row for share in shares for batch in share for row in batch) == list(range(count))
    assert len({len(share) for share in shares}) == 1
    assert len(EvaluationBatches(count, 2, world_size=world_size)) == len(shares[0])


@pytest.fixture
def numbered(make_video: Callable[..., Path]) -> Manifest:
    return Manifest([VideoRecord(str(make_video(n)), "ab"[n % 3 == 0]) for n in range(60, 72)], root="/")


def batches(numbered: Manifest, *, start: int = 0, workers: int = 0, balance: bool = False) -> list[Batch]:
    augmentation = Augmentation(crop_scale=(1, 1), colour=0.3)
    dataset = TrainingClips(numbered, numbered.labels, SPEC, augmentation, seed=5, clips_per_video=3)
    classes = dataset.targets if balance else None
    order = EpochBatchSampler(len(numbered), 2, seed=5, position=lambda: (1, start), classes=classes)
    return list(batch_loader(dataset, order, workers))


@pytest.mark.slow
@pytest.mark.parametrize("balance", [False, True])
def test_several_clips_of_a_video_resume_in_mid_epoch(numbered: Manifest, balance: bool) -> None:
    whole = batches(numbered, balance=balance)
    rest = batches(numbered, start=2, workers=2, balance=balance)
    assert len(whole) == 6
    assert len(rest) == 4
    for a, b in zip(whole[2:], rest, strict=True):
        assert torch.equal(a.clips, b.clips)
        assert torch.equal(a.indices, b.indices)
        assert torch.equal(a.draw.colour, b.draw.colour)


def test_several_clips_of_a_video_differ_and_come_from_one_opening(
    numbered: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from farfield.data import clips

    opened = []
    original = clips.open_video
    monkeypatch.setattr(
        clips, "open_video", lambda path, *more, **options: opened.append(path) or original(path, *more, **options)
    )
    made = batches(numbered)
    assert len(opened) == 12
    for batch in made:
        assert batch.clips.shape == (6, 1, 2, 48, 48, 3)
        assert batch.indices.tolist() == [batch.indices[0]] * 3 + [batch.indices[3]] * 3
        assert len({tuple(row.tolist()) for row in batch.draw.colour}) == 6
    starts = [number_of(clip[0, 0].repeat_interleave(2, 1)) for batch in made for clip in batch.clips]
    assert sum(len(set(starts[i : i + 3])) > 1 for i in range(0, 36, 3)) >= 10


def test_a_repeated_video_gives_another_clip(numbered: Manifest) -> None:
    dataset = TrainingClips(numbered, numbered.labels, SPEC, Augmentation(), seed=0)
    first, again = dataset[[SampleKey(0, 4, 0)]], dataset[[SampleKey(0, 4, 1)]]
    assert not torch.equal(first.clips, again.clips)


def test_incompatible_settings_are_refused(figures: Path) -> None:
    train = str(figures / "train.csv")
    with pytest.raises(FarfieldError, match=r"clips_per_video is 3 and data\.batch_size is 8"):
        VideoDataModule(train, clip=SPEC, clips_per_video=3)
    with pytest.raises(FarfieldError, match=r"short_side_px is \(32, 40\), but a square of 48 x 48 pixels"):
        VideoDataModule(train, clip=SPEC, augmentation=Augmentation(short_side_px=(32, 40)))
    with pytest.raises(FarfieldError, match=r"keep_direction names 'bowl', which is not a class.*Did you mean 'bow'"):
        VideoDataModule(train, clip=SPEC, augmentation=Augmentation(keep_direction=("bowl",)))


@pytest.mark.parametrize("world_size", [1, 2])
def test_the_short_cycle_takes_more_smaller_clips_and_each_video_once(world_size: int) -> None:
    seen: list[int] = []
    for rank in range(world_size):

        def order(start: int, rank: int = rank) -> list[list[SampleKey]]:
            cycle = EpochBatchSampler(
                163, 3, seed=5, position=lambda: (1, start), rank=rank, world_size=world_size, short_cycle=True
            )
            batches = list(cycle)
            assert len(batches) == len(cycle) - start
            return batches

        whole = order(0)
        pattern = [(12, 0.5), (6, 0.5**0.5), (3, 1.0)]
        assert [(len(batch), batch[0].scale) for batch in whole] == [pattern[i % 3] for i in range(len(whole))]
        assert order(4) == whole[4:]
        rows = [key.row for batch in whole for key in batch]
        # What is left over would not fill the batch whose turn it is.
        assert 0 <= 163 // world_size - len(rows) < pattern[len(whole) % 3][0]
        seen += rows
    assert len(set(seen)) == len(seen)


def test_clips_of_the_short_cycle_show_the_same_part_of_the_frame(make_video: Callable[..., Path]) -> None:
    """The picture of a half clip is that of the whole one, resized: same time, same place."""
    path = make_video(40)
    manifest = Manifest([VideoRecord(str(path), "x")], root="/")
    for augmentation in (Augmentation(), Augmentation(short_side_px=(50, 60))):
        clips = TrainingClips(manifest, ["x"], SPEC, augmentation, seed=1)
        whole, half = (clips[[SampleKey(0, 0, 0, scale)]].clips[0, 0].float() for scale in (1.0, 0.5))
        assert whole.shape == (2, 48, 48, 3)
        assert half.shape == (2, 24, 24, 3)
        averaged = whole.unflatten(1, (24, 2)).unflatten(3, (24, 2)).mean((2, 4))
        assert (averaged - half).abs().mean() < 8  # of 255
