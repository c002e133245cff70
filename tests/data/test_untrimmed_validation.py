"""Validation windows of untrimmed videos: end to end over whole videos, each with the labels of its time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from farfield.clip_spec import ClipSpec
from farfield.data import clips
from farfield.data.augmentation import Augmentation
from farfield.data.datamodule import VideoDataModule
from farfield.data.manifest import Manifest, write_manifest
from farfield.data.untrimmed_validation import ValidationWindows
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.timelines.sliding_windows import sliding_windows

LABELS = ["clap", "jump", "sit"]
SPEC = ClipSpec(num_frames=4, crop_px=48, frame_stride=3, short_side_px=48)
"""Clips of 10 frames: 1 s at 10 frames per second."""


def test_windows_lie_end_to_end_and_have_the_labels_that_cover_half(make_video: Callable[..., Path]) -> None:
    rows = [
        VideoRecord(str(make_video(44, fps=10)), "clap", 0.0, 1.5),  # exactly half of the second window
        VideoRecord(str(make_video(21, fps=10)), ""),
        VideoRecord(str(make_video(44, fps=10)), "sit", 1.51, 2.6),  # 0.49 of the second window
        VideoRecord(str(make_video(44, fps=10)), "jump", 3.4, 3.9),
    ]
    windows = ValidationWindows(Manifest(rows, root=Path()), LABELS, SPEC)
    assert windows.first.tolist() == [0, 5, 8]
    batch = windows[range(8)]
    assert batch.clips.shape == (8, 1, 4, 48, 48, 3)
    assert batch.indices.tolist() == list(range(8))
    starts = [0, 10, 20, 30, 34, 0, 10, 11]
    found = [["clap"], ["clap"], ["sit"], ["jump"], ["jump"], [], [], []]
    shown = [[label for label, has in zip(LABELS, row, strict=True) if has] for row in batch.labels.tolist()]
    assert shown == found
    with sliding_windows(make_video(44, fps=10), SPEC, hop_frames=10) as expected:
        assert np.round(expected.starts * 10).astype(int).tolist() == starts[:5]
        for clip, window in zip(batch.clips, expected, strict=False):
            assert torch.equal(clip, window.frames), "not the frames that a timeline scores"


def test_a_batch_opens_each_video_once(make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [VideoRecord(str(make_video(n, fps=10)), "clap", 0.0, 1.5) for n in (44, 21)]
    windows = ValidationWindows(Manifest(rows, root=Path()), LABELS, SPEC)
    opened: list[Path] = []
    real = clips.open_video
    monkeypatch.setattr(clips, "open_video", lambda path, *a, **k: opened.append(path) or real(path, *a, **k))
    assert windows[range(2, 8)].indices.tolist() == [2, 3, 4, 5, 6, 7]
    assert len(opened) == 2


def test_unreadable_videos_are_left_out_and_listed(make_video: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    rows = [
        VideoRecord(str(tmp_path / "broken.mp4"), "sit"),
        VideoRecord(str(make_video(21, fps=10)), "clap", 0.0, 1.0),
    ]
    windows = ValidationWindows(Manifest(rows, root=Path()), LABELS, SPEC)
    assert len(windows) == 4
    batch = windows[[0, 1, 3]]
    assert batch.indices.tolist() == [1, 3]
    assert [Path(each.path).name for each in batch.failures] == ["broken.mp4"]
    nothing = windows[[0]]
    assert (nothing.clips.shape, nothing.labels.shape) == ((0, 1, 4, 48, 48, 3), (0, 3))
    assert len(windows[[]].indices) == 0


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_data_module_validates_all_windows(
    make_video: Callable[..., Path], tmp_path: Path, num_workers: int
) -> None:
    rows = [VideoRecord(str(make_video(n, fps=10)), "clap", 0.0, 1.5) for n in (44, 21)]
    write_manifest(tmp_path / "all.csv", rows)
    data = VideoDataModule(
        str(tmp_path / "all.csv"), str(tmp_path / "all.csv"), labels=LABELS, clip=SPEC, task="multilabel",
        untrimmed=True, batch_size=3, num_workers=num_workers, augmentation=Augmentation((1, 1)),
    )  # fmt: skip
    loader = data.val_dataloader()
    batches = [(batch.indices.tolist(), batch.labels.tolist()) for batch in loader]
    assert [indices for indices, _ in batches] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [row[0] for _, labels in batches for row in labels] == [1, 1, 0, 0, 0, 1, 1, 0]
    shown = data.validation_batch([5, 0])
    assert (shown.labels.tolist(), shown.clips.shape) == ([[1, 0, 0], [1, 0, 0]], (2, 3, 4, 48, 48))
    assert [video.path for video in data.validation_videos([5, 0, 4])] == [rows[1].path, rows[0].path, rows[0].path]


def test_a_label_that_training_lacks_is_refused_at_once(tmp_path: Path) -> None:
    write_manifest(tmp_path / "train.csv", [VideoRecord("a.mp4", "clap", 0.0, 1.0)])
    write_manifest(tmp_path / "val.csv", [VideoRecord("b.mp4", "clapping", 0.0, 1.0)])
    with pytest.raises(FarfieldError, match=r"b.mp4 has the label 'clapping', which is not one of the 1 classes"):
        VideoDataModule(
            str(tmp_path / "train.csv"), str(tmp_path / "val.csv"), clip=SPEC, task="multilabel", untrimmed=True
        )  # fmt: skip
