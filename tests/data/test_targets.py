"""Targets of rows and of clips, for one label a video and for several or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.datamodule import VideoDataModule
from farfield.data.datasets import EvaluationViews, TrainingClips
from farfield.data.manifest import Manifest, write_manifest
from farfield.data.mirrored_labels import check_heads, flipped_labels
from farfield.data.samplers import SampleKey
from farfield.data.targets import WholeVideos, count_videos, row_targets, whole_videos_of
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

LABELS = ["sit", "stand", "turn left", "turn right"]
SPEC = ClipSpec(num_frames=4, crop_px=16, frame_stride=2)


def manifest_of(*rows: VideoRecord, root: Path = Path()) -> Manifest:
    return Manifest(rows, root=root)


SEGMENTS = (
    VideoRecord("a.mp4", "sit", 0.0, 1.0, group="p1"),
    VideoRecord("b.mp4", ""),
    VideoRecord("a.mp4", "turn left|stand", 0.5, 2.0),
    VideoRecord("a.mp4", "sit", 3.0, None),
    VideoRecord("c.mp4", "stand"),
)


def test_rows_have_one_class_or_any_number() -> None:
    several = manifest_of(VideoRecord("a.mp4", "sit|stand"), VideoRecord("b.mp4", ""), VideoRecord("c.mp4", "stand"))
    targets = row_targets(several, LABELS, "multilabel")
    assert (targets.dtype, targets.tolist()) == (np.float32, [[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    assert count_videos(targets, 4) == [1, 2, 0, 0]
    with pytest.raises(FarfieldError, match=r"but a single-label network needs exactly one class"):
        row_targets(several, LABELS, "single_label")
    single = row_targets(manifest_of(VideoRecord("c.mp4", "stand")), LABELS, "single_label")
    assert (single.tolist(), count_videos(single, 4)) == ([1], [0, 1, 0, 0])


def test_whole_videos_have_the_labels_of_all_their_rows() -> None:
    whole = WholeVideos.of(manifest_of(*SEGMENTS))
    assert list(whole.manifest) == [
        VideoRecord("a.mp4", "sit|turn left|stand", group="p1"),
        VideoRecord("b.mp4", ""),
        VideoRecord("c.mp4", "stand"),
    ]


@pytest.mark.parametrize(
    ("row", "times", "expected"),
    [
        (0, [0.0, 0.3], ["sit"]),
        (0, [0.0, 0.5], ["sit", "stand", "turn left"]),  # a segment holds its start
        (0, [1.0, 1.9], ["stand", "turn left"]),  # but not its end
        (0, [0.2, 3.1], ["sit", "stand", "turn left"]),  # also segments between two frames of the clip
        (0, [2.0, 2.9], []),
        (0, [9.0, 9.5], ["sit"]),  # a segment without an end lasts to that of the video
        (1, [0.0, 9.0], []),
        (2, [0.0, 9.0], ["stand"]),  # a row without a segment labels the whole video
    ],
)
def test_a_clip_has_the_labels_of_the_segments_that_it_overlaps(
    row: int, times: list[float], expected: list[str]
) -> None:
    targets = WholeVideos.of(manifest_of(*SEGMENTS)).clip_targets(LABELS)
    found = targets.of_clip(row, np.array(times)[None])
    assert found.dtype == np.float32
    assert [label for label, has in zip(LABELS, found, strict=True) if has] == expected


def test_whole_videos_need_a_multilabel_task() -> None:
    with pytest.raises(FarfieldError, match=r"data.whole_videos gives a video the labels .* task is 'single_label'"):
        whole_videos_of(manifest_of(*SEGMENTS), "single_label", option="data.whole_videos")


@pytest.fixture
def segments(make_video: Callable[..., Path], tmp_path: Path) -> Path:
    """A manifest of one video of 40 frames at 10 frames per second, with two labelled segments, and one without."""
    video = make_video(40, fps=10)
    rows = [
        VideoRecord(str(video), "sit", 0.0, 2.0),
        VideoRecord(str(video), "turn left", 1.5, 4.0),
    ]
    path = tmp_path / "train.csv"
    write_manifest(path, rows)
    return path


def test_training_clips_of_whole_videos_have_the_labels_of_their_time(segments: Path) -> None:
    data = VideoDataModule(
        str(segments), str(segments), labels=LABELS, clip=SPEC, task="multilabel", whole_videos=True,
        augmentation=Augmentation(flip=False), num_workers=0, batch_size=1,
    )  # fmt: skip
    assert (data.class_counts, data.num_training_videos) == ([1, 0, 1, 0], 1)
    found = set()
    dataset = data.train_dataloader().dataset
    for epoch in range(40):
        batch = dataset[[SampleKey(epoch=epoch, row=0, repeat=0, scale=1.0)]]
        assert batch.labels.dtype == torch.float32
        found.add(tuple(batch.labels[0].tolist()))
    assert found == {(1, 0, 0, 0), (1, 0, 1, 0), (0, 0, 1, 0)}
    validation = data.validation_batch([0])
    assert validation.labels.tolist() == [[1, 0, 1, 0]]
    assert [video.label for video in data.validation_videos([0])] == [data.val_manifest[0].label]


def test_mirrored_clips_swap_left_and_right_among_their_labels(make_video: Callable[..., Path]) -> None:
    video = make_video(20)
    listed = manifest_of(VideoRecord(str(video), "turn left|sit"))
    swaps = {"turn left": "turn right", "turn right": "turn left"}
    dataset = TrainingClips(
        listed, LABELS, SPEC, Augmentation(), seed=0, flip_labels=swaps, task="multilabel", clips_per_video=16
    )
    batch = dataset[[SampleKey(epoch=0, row=0, repeat=0, scale=1.0)]]
    assert batch.draw is not None
    assert batch.draw.flip is not None
    assert 0 < batch.draw.flip.sum() < 16
    plain, mirrored = torch.tensor([1.0, 0, 1, 0]), torch.tensor([1.0, 0, 0, 1])
    for labels, flip in zip(batch.labels, batch.draw.flip.tolist(), strict=True):
        torch.testing.assert_close(labels, mirrored if flip else plain)


def test_one_way_swaps_of_labels_keep_both_labels(make_video: Callable[..., Path]) -> None:
    """With "turn right" in keep_direction, only clips of "turn left" are mirrored, and become "turn right"."""
    video = make_video(20)
    augmentation = Augmentation(keep_direction=["turn right"])
    swaps = flipped_labels(LABELS, augmentation, None)
    dataset = TrainingClips(
        manifest_of(VideoRecord(str(video), "turn left|sit")),
        LABELS,
        SPEC,
        augmentation,
        seed=0,
        flip_labels=swaps,
        task="multilabel",
        clips_per_video=16,
    )
    batch = dataset[[SampleKey(epoch=0, row=0)]]
    assert batch.draw is not None
    assert batch.draw.flip is not None
    for labels, flip in zip(batch.labels.tolist(), batch.draw.flip.tolist(), strict=True):
        assert labels == ([1, 0, 0, 1] if flip else [1, 0, 1, 0])


HANDS = ["left:hold", "left:idle", "right:hold", "right:idle"]


@pytest.mark.parametrize(
    ("labels", "swaps"),
    [
        (HANDS, {"left:hold": "right:hold", "left:idle": "right:idle"}),
        (HANDS, {}),
        (["hand:left", "hand:right", "verb:open", "verb:shut"], {"hand:left": "hand:right"}),
    ],
)
def test_mirrored_clips_may_swap_whole_heads_or_classes_of_a_head(labels: list[str], swaps: dict[str, str]) -> None:
    check_heads(labels, flipped_labels(labels, Augmentation(), swaps))


@pytest.mark.parametrize("swaps", [{"left:hold": "right:hold"}, {"left:hold": "right:idle"}])
def test_mirrored_clips_must_keep_one_class_of_each_head(swaps: dict[str, str]) -> None:
    with pytest.raises(FarfieldError, match=r"only some classes of head 'left' .* two classes of one head"):
        check_heads(HANDS, flipped_labels(HANDS, Augmentation(), swaps))


def test_validation_videos_without_any_label_are_refused(segments: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "none.csv", [VideoRecord("a.mp4", "")])
    message = r"none.csv has no label in any row, so mean average precision \(val/map\) cannot be measured"
    with pytest.raises(FarfieldError, match=message):
        VideoDataModule(str(segments), str(tmp_path / "none.csv"), labels=LABELS, clip=SPEC, task="multilabel")


def test_clips_with_a_label_that_keeps_its_direction_are_not_mirrored(make_video: Callable[..., Path]) -> None:
    video = make_video(20)
    listed = manifest_of(VideoRecord(str(video), "turn left|sit"))
    augmentation = Augmentation(keep_direction=["sit"])
    dataset = TrainingClips(listed, LABELS, SPEC, augmentation, seed=0, task="multilabel", clips_per_video=16)
    batch = dataset[[SampleKey(epoch=0, row=0, repeat=0, scale=1.0)]]
    assert batch.draw is not None
    assert batch.draw.flip is not None
    assert not batch.draw.flip.any()


def test_an_unreadable_video_is_replaced_by_one_with_the_same_labels(
    make_video: Callable[..., Path], tmp_path: Path
) -> None:
    good, other = make_video(20), make_video(21)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    listed = manifest_of(
        VideoRecord(str(broken), "sit|stand"), VideoRecord(str(other), "sit"), VideoRecord(str(good), "stand|sit")
    )
    dataset = TrainingClips(listed, LABELS, SPEC, Augmentation(), seed=0, task="multilabel")
    batch = dataset[[SampleKey(epoch=0, row=0, repeat=0, scale=1.0)]]
    assert batch.indices.tolist() == [2]
    assert [each.empty_class for each in batch.failures] == [None]


def test_views_of_unreadable_videos_have_targets_of_the_right_shape(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    listed = manifest_of(VideoRecord("broken.mp4", "sit"), root=tmp_path)
    views = EvaluationViews(listed, LABELS, SPEC, num_clips=1, num_crops=1, task="multilabel")
    assert views[[0]].labels.shape == (0, 4)


def test_classes_cannot_be_drawn_equally_often_in_a_multilabel_task(segments: Path) -> None:
    with pytest.raises(FarfieldError, match=r"data.class_balanced needs one class per video"):
        VideoDataModule(str(segments), labels=LABELS, clip=SPEC, task="multilabel", class_balanced=True)


def test_a_manifest_without_labels_has_no_classes_to_train(tmp_path: Path) -> None:
    write_manifest(tmp_path / "none.csv", [VideoRecord("a.mp4", "")])
    with pytest.raises(FarfieldError, match=r"none.csv has no label in any row"):
        VideoDataModule(str(tmp_path / "none.csv"), clip=SPEC, task="multilabel")


def test_a_video_that_is_spelled_in_two_ways_is_refused() -> None:
    with pytest.raises(FarfieldError, match=r"spells the path of a video in two ways, 'v/a\.mp4' and '\./v//a\.mp4'"):
        WholeVideos.of(Manifest([VideoRecord("v/a.mp4", "run"), VideoRecord("./v//a.mp4", "")], root=Path("/videos")))
