from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.batch_loader import batch_loader
from farfield.data.datamodule import VideoDataModule
from farfield.data.datasets import Batch, EvaluationViews, TrainingClips
from farfield.data.manifest import Manifest, read_manifest
from farfield.data.samplers import EpochBatchSampler, SampleKey
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

SPEC = ClipSpec(num_frames=4, crop_px=24, frame_stride=5)
AUGMENTATION = Augmentation(crop_scale=(0.3, 1), colour=0.4)


def one_epoch(figures: Path, *, workers: int, epoch: int = 0, start: int = 0, seed: int = 0) -> list[Batch]:
    manifest = read_manifest(figures / "train.csv")
    dataset = TrainingClips(manifest, manifest.labels, SPEC, AUGMENTATION, seed=seed)
    order = EpochBatchSampler(len(manifest), 6, seed=seed, position=lambda: (epoch, start))
    return list(batch_loader(dataset, order, workers))


def same_values(a: object, b: object) -> bool:
    """Tensors in nested tuples."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(same_values(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b


def same(a: Batch, b: Batch) -> bool:
    return same_values(a[:4], b[:4])


@pytest.mark.slow
def test_clips_are_the_same_with_any_number_of_workers(figures: Path) -> None:
    torch.rand(3)  # global random state has no part in it
    alone = one_epoch(figures, workers=0)
    torch.rand(5)
    for workers in (1, 2):
        assert all(same(a, b) for a, b in zip(alone, one_epoch(figures, workers=workers), strict=True))


@pytest.mark.slow
def test_clips_are_the_same_with_a_frame_cache(figures: Path) -> None:
    manifest = read_manifest(figures / "train.csv")
    plain, kept = (
        TrainingClips(manifest, manifest.labels, SPEC, AUGMENTATION, seed=0, clips_per_video=2, cache_bytes=room)
        for room in (0, 10**9)
    )
    for epoch in range(3):
        for keys in EpochBatchSampler(len(manifest), 6, seed=0, position=lambda epoch=epoch: (epoch, 0)):
            assert same(plain[keys], kept[keys])


def test_a_resumed_epoch_yields_the_remaining_clips(figures: Path) -> None:
    whole = one_epoch(figures, workers=0, epoch=2)
    rest = one_epoch(figures, workers=2, epoch=2, start=1)
    assert len(whole) == 3
    assert all(same(a, b) for a, b in zip(whole[1:], rest, strict=True))


def test_epochs_and_seeds_differ(figures: Path) -> None:
    first = one_epoch(figures, workers=0)[0]
    for other in (one_epoch(figures, workers=0, epoch=1)[0], one_epoch(figures, workers=0, seed=1)[0]):
        assert not torch.equal(first.indices, other.indices)
        assert not torch.equal(first.draw.colour, other.draw.colour)


def test_ranks_see_disjoint_and_equal_shares() -> None:
    shares = [
        [
            key.row
            for keys in EpochBatchSampler(23, 3, seed=0, position=lambda: (4, 0), rank=r, world_size=2)
            for key in keys
        ]
        for r in range(2)
    ]
    assert len(shares[0]) == len(shares[1]) == 9
    assert not set(shares[0]) & set(shares[1])


def test_a_manifest_smaller_than_a_batch_still_trains() -> None:
    order = EpochBatchSampler(3, 8, seed=0, position=lambda: (0, 0))
    assert len(order) == 1
    assert sorted(key.row for key in next(iter(order))) == [0, 1, 2]


@pytest.fixture
def mixed(bad_files: dict[str, Path], make_video: Callable[..., Path]) -> Manifest:
    """Two good videos and every bad file of class "a", one good video of class "b", and a class with no good one."""
    good = [VideoRecord(str(make_video(60)), "a"), VideoRecord(str(make_video(61)), "a")]
    bad = [VideoRecord(str(path), "a") for path in bad_files.values()]
    others = [VideoRecord(str(make_video(62)), "b"), VideoRecord(str(bad_files["empty"]), "c")]
    return Manifest([*good, *bad, *others], root="/")


def test_a_video_that_cannot_be_read_is_replaced_by_another_of_its_class(
    mixed: Manifest, bad_files: dict[str, Path]
) -> None:
    dataset = TrainingClips(mixed, mixed.labels, SPEC, AUGMENTATION, seed=0)
    order = EpochBatchSampler(len(mixed), 2, seed=0, position=lambda: (0, 0))
    batches = list(batch_loader(dataset, order, 2))
    assert sum(len(batch.labels) for batch in batches) == len(mixed) - len(mixed) % 2
    for keys, batch in zip(order, batches, strict=True):
        for key, row, label in zip(keys, batch.indices.tolist(), batch.labels.tolist(), strict=True):
            assert dataset.targets[row] == label
            if mixed.labels[dataset.targets[key.row]] != "c":  # c has no good video: any other stands in
                assert label == dataset.targets[key.row]
            assert row in (0, 1, len(mixed) - 2)
    named = {failure.path for batch in batches for failure in batch.failures}
    assert named == {str(path) for path in bad_files.values()}


def test_a_class_without_readable_videos_is_named(mixed: Manifest, bad_files: dict[str, Path]) -> None:
    dataset = TrainingClips(mixed, mixed.labels, SPEC, AUGMENTATION, seed=0)
    last, bad = len(mixed) - 1, 2
    for _ in range(2):  # also of a video that is known to be bad
        batch = dataset[[SampleKey(0, 0), SampleKey(0, bad), SampleKey(0, last)]]
        assert mixed.labels[int(batch.labels[2])] != "c"
        empty = {failure.path: failure.empty_class for failure in batch.failures if failure.empty_class is not None}
        assert empty == {str(bad_files["empty"]): "c"}
        # A class that has a good one is not empty. (The same file is a row of class "a".)
        assert all(failure.empty_class is None for failure in dataset[[SampleKey(0, bad)]].failures)


def test_replacements_do_not_depend_on_known_failures(mixed: Manifest) -> None:
    fresh = TrainingClips(mixed, mixed.labels, SPEC, AUGMENTATION, seed=0)
    used = TrainingClips(mixed, mixed.labels, SPEC, AUGMENTATION, seed=0)
    for row in range(len(mixed)):
        used[[SampleKey(0, row)]]
    for row in range(len(mixed)):
        a = TrainingClips(mixed, mixed.labels, SPEC, AUGMENTATION, seed=0)[[SampleKey(1, row)]]
        assert same(a, used[[SampleKey(1, row)]])
    assert not fresh._known_failures


def test_no_readable_video_is_an_error(bad_files: dict[str, Path]) -> None:
    manifest = Manifest([VideoRecord(str(bad_files["empty"]), "a")], root="/")
    dataset = TrainingClips(manifest, ["a"], SPEC, AUGMENTATION, seed=0)
    with pytest.raises(
        FarfieldError, match=r"none of the videos of .*\(1 in all\).*the file is empty.*Check the manifest's paths"
    ):
        dataset[[SampleKey(0, 0)]]


def test_evaluation_leaves_out_and_reports_unreadable_videos(mixed: Manifest, bad_files: dict[str, Path]) -> None:
    dataset = EvaluationViews(mixed, mixed.labels, SPEC, num_clips=2, num_crops=3)
    batch = dataset[list(range(len(mixed)))]
    assert batch.clips.shape == (3, 6, 4, 24, 24, 3)
    assert batch.indices.tolist() == [0, 1, len(mixed) - 2]
    assert len(batch.failures) == len(mixed) - 3
    nothing = dataset[[len(mixed) - 1]]
    assert nothing.clips.shape == (0, 6, 4, 24, 24, 3)


def test_a_label_of_the_validation_that_training_lacks_is_refused(figures: Path, tmp_path: Path) -> None:
    rows = (figures / "val.csv").read_text().replace(",bow,", ",bowl,")
    (tmp_path / "val.csv").write_text(rows)
    with pytest.raises(FarfieldError, match=r"has the label 'bowl', which is not one of the 10.*Did you mean 'bow'"):
        VideoDataModule(str(figures / "train.csv"), str(tmp_path / "val.csv"), root=str(figures), clip=SPEC)


@pytest.mark.slow
def test_unreadable_videos_do_not_leak_memory(mixed: Manifest) -> None:
    """What is known of a bad video holds no frames of the batches that met it."""
    dataset = TrainingClips(mixed, mixed.labels, SPEC, AUGMENTATION, seed=0)
    held = []
    for epoch in range(4):
        dataset[[SampleKey(epoch, 0), SampleKey(epoch, 3), SampleKey(epoch, 4)]]
        gc.collect()
        held.append(sum(isinstance(each, torch.Tensor) for each in gc.get_objects()))
    assert held[0] == held[-1]
