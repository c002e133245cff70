"""Videos without label in the epochs and batches of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.datamodule import VideoDataModule
from farfield.data.datasets import TrainingClips
from farfield.data.manifest import Manifest, read_manifest
from farfield.data.samplers import EpochBatchSampler, SampleKey
from farfield.data.unlabelled import MixedEpoch, TrainingVideos, read_unlabelled
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.task import Task

SPEC = ClipSpec(num_frames=2, crop_px=16, frame_stride=4)


def epoch_of(mixed: MixedEpoch, epoch: int) -> list[SampleKey]:
    order = EpochBatchSampler(len(mixed), 1, seed=3, position=lambda: (epoch, 0), epoch=mixed.draw)
    return [key for keys in order for key in keys]


def test_an_epoch_has_each_video_once() -> None:
    mixed = MixedEpoch(5, 7)
    first, second = epoch_of(mixed, 0), epoch_of(mixed, 1)
    assert sorted(key.row for key in first) == list(range(12))
    assert [key.row for key in first] != [key.row for key in second]
    assert first == epoch_of(mixed, 0)


@pytest.mark.parametrize(("share", "count"), [(0.5, 6), (0.8, 24), (0.1, 1)])
def test_share_of_the_unlabelled_videos(share: float, count: int) -> None:
    mixed = MixedEpoch(6, 10, share)
    keys = epoch_of(mixed, 0)
    assert sorted(key.row for key in keys if key.row < 6) == list(range(6))
    others = [key for key in keys if key.row >= 6]
    assert len(others) == count
    assert len(set(keys)) == len(keys)  # a repeated video has another clip
    of_row = [sum(key.row == row for key in others) for row in range(6, 16)]
    assert max(of_row) - min(of_row) <= 1
    assert {key.row for key in epoch_of(mixed, 1)} != {key.row for key in keys} or count > 10


def test_classes_stay_balanced() -> None:
    keys = epoch_of(MixedEpoch(6, 4, classes=np.array([0, 0, 0, 0, 0, 1])), 0)
    assert sum(key.row == 5 for key in keys) == 3
    assert len(keys) == 10


@pytest.mark.parametrize("task", ["single_label", "multilabel"])
def test_labels_of_the_list_are_ignored(
    task: Task, figures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A label that is no class does no harm, and the log says once that labels are ignored."""
    paths = [str(figures / record.path) for record in read_manifest(figures / "val.csv")][:4]
    with_labels, without = tmp_path / "labels.csv", tmp_path / "paths.csv"
    with_labels.write_text("".join(["path,label\n", *(f"{path},no class\n" for path in paths)]))
    without.write_text("".join(["path\n", *(f"{path}\n" for path in paths)]))
    caplog.set_level("INFO")
    batches = []
    for listed, said in ((with_labels, 1), (without, 0)):
        caplog.clear()
        data = VideoDataModule(
            str(figures / "train.csv"),
            clip=SPEC,
            unlabelled=str(listed),
            task=task,
            num_workers=0,
            teacher_clip=SPEC,
            batch_size=12,
        )
        assert [r.getMessage() for r in caplog.records if "ignored" in r.getMessage()] == [
            f"data.unlabelled: the labels in {listed} are ignored."
        ] * said
        batches.append(next(iter(data.train_dataloader())))
        assert len(data.labels) == 10
        assert sum(data.class_counts) == 20
    for batch in batches:
        assert batch.is_labelled is not None
        assert 0 < batch.is_labelled.sum() < 12
        assert torch.equal(batch.is_labelled, batch.indices < 20)
        assert not batch.labels[~batch.is_labelled].any()
        rows = batch.indices[batch.is_labelled]
        targets = data.train_manifest.target_matrix(data.labels)[rows.numpy()]
        found = torch.eye(10)[batch.labels] if task == "single_label" else batch.labels
        flip = batch.draw.flip  # no pair of classes swaps its labels
        assert flip is not None
        assert torch.equal(found[batch.is_labelled], torch.from_numpy(targets))
    assert torch.equal(batches[0].clips, batches[1].clips)


def test_an_empty_label_of_a_manifest_is_none_of_the_classes(make_manifest: Manifest) -> None:
    clips = TrainingClips(make_manifest, ["a", "b"], SPEC, Augmentation(), seed=0, task="multilabel")
    batch = clips[[SampleKey(0, 0), SampleKey(0, 1)]]
    assert batch.is_labelled is None  # all count
    assert batch.labels.tolist() == [[1, 0], [0, 0]]


@pytest.fixture
def make_manifest(make_video) -> Manifest:
    path = make_video(20)
    return Manifest([VideoRecord(path.name, "a"), VideoRecord(path.name, "")], root=path.parent)


def test_replacements_come_from_the_same_kind(make_manifest: Manifest) -> None:
    """An unreadable video without label is replaced by another without label."""
    root = make_manifest.root
    good = make_manifest[0].path
    labelled = Manifest([VideoRecord(good, "a"), VideoRecord(good, "b")], root=root)
    others = Manifest([VideoRecord("gone.mp4", ""), VideoRecord(good, "")], root=root)
    clips = TrainingClips(labelled, ["a", "b"], SPEC, Augmentation(), seed=0, unlabelled=others)
    batch = clips[[SampleKey(0, 2), SampleKey(0, 1)]]
    assert batch.indices.tolist() == [3, 1]
    assert batch.is_labelled is not None
    assert batch.is_labelled.tolist() == [False, True]
    assert [(Path(each.path).name, each.empty_class) for each in batch.failures] == [("gone.mp4", None)]
    lost = Manifest([VideoRecord("gone.mp4", "a"), VideoRecord(good, "b")], root=root)
    clips = TrainingClips(lost, ["a", "b"], SPEC, Augmentation(), seed=0, unlabelled=others)
    failures = clips[[SampleKey(0, 0)]].failures
    assert failures[0].empty_class == "a"


def test_videos_without_label_keep_their_direction_if_a_class_does(make_manifest: Manifest) -> None:
    labelled = Manifest([VideoRecord(make_manifest[0].path, "a")], root=make_manifest.root)
    keys = [SampleKey(epoch, 1) for epoch in range(12)]
    for keep, some in (((), True), (("b",), False)):
        clips = TrainingClips(
            labelled, ["a", "b"], SPEC, Augmentation(keep_direction=keep), seed=0, unlabelled=make_manifest
        )
        flips = [clips[[key]].draw for key in keys]
        assert any(draw is not None and draw.flip is not None and draw.flip.any() for draw in flips) == some


def test_rows_of_labelled_and_unlabelled_videos(make_manifest: Manifest, tmp_path: Path) -> None:
    other = Manifest([VideoRecord("c.mp4", "")], root=tmp_path)
    videos = TrainingVideos(make_manifest, other)
    assert len(videos) == 3
    assert videos.path(1) == make_manifest.path(1)
    assert (videos.path(2), videos[2].path) == (tmp_path / "c.mp4", "c.mp4")


def test_mistakes(figures: Path, tmp_path: Path) -> None:
    def data(**options: object) -> VideoDataModule:
        return VideoDataModule(str(figures / "train.csv"), clip=SPEC, task="multilabel", **options)

    listed = str(figures / "val.csv")
    with pytest.raises(FarfieldError, match=r"data\.unlabelled_share is 0\.5, but data\.unlabelled is not set"):
        data(unlabelled_share=0.5)
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(FarfieldError, match="it must be above 0 and below 1"):
            data(unlabelled=listed, unlabelled_share=share)
    with pytest.raises(FarfieldError, match=r"data\.unlabelled and data\.untrimmed cannot be combined"):
        data(unlabelled=listed, untrimmed=True)
    (tmp_path / "bad.csv").write_text("file\na.mp4\n")
    with pytest.raises(FarfieldError, match="unknown column 'file'"):
        read_unlabelled(str(tmp_path / "bad.csv"), root=None)
    (tmp_path / "plain.csv").write_text("path\na.mp4\n")
    with pytest.raises(FarfieldError, match="has no column 'label'"):
        read_manifest(tmp_path / "plain.csv")
