"""The teacher's clips show the same seconds and the same part of the picture as the student's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation, Draw, Mix
from farfield.data.batch_loader import batch_loader
from farfield.data.datasets import Batch, TrainingClips
from farfield.data.evaluation_datamodule import to_network_input
from farfield.data.frame_sampling import resampled_frames
from farfield.data.manifest import Manifest
from farfield.data.samplers import EpochBatchSampler, SampleKey
from farfield.data.transforms import scaled_draw
from farfield.data.video_record import VideoRecord
from farfield.video.writer import write_video

FRAMES = 61
STUDENT = ClipSpec(num_frames=5, crop_px=24, frame_stride=4)
TEACHER = ClipSpec(num_frames=17, crop_px=48, frame_stride=1, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def shade(index: int) -> int:
    return 20 + 3 * index


@pytest.fixture(scope="module")
def shaded(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Two videos whose brightness tells the time at the left, and is darker at the right."""
    folder = tmp_path_factory.mktemp("shaded")
    ramp = np.linspace(1, 0.5, 96)[None, :, None]

    def frames():
        for index in range(FRAMES):
            yield np.repeat(np.repeat(ramp, 64, 0), 3, 2).__mul__(shade(index)).round().astype(np.uint8)

    for name in ("a", "b"):
        write_video(folder / f"{name}.mp4", frames(), fps=25)
    return Manifest([VideoRecord("a.mp4", "x"), VideoRecord("b.mp4", "y")], root=folder)


def dataset(manifest: Manifest, student: ClipSpec, augmentation: Augmentation, teacher: ClipSpec = TEACHER, **more):
    return TrainingClips(manifest, ["x", "y"], student, augmentation, seed=0, teacher=teacher, **more)


def smaller(clips: UInt8[Tensor, "b v t h w c"]) -> Float[Tensor, "b v t h2 w2 c"]:
    """Halve height and width."""
    x = clips.float().unflatten(3, (-1, 2)).unflatten(5, (-1, 2))
    return x.mean((4, 6))


@pytest.mark.parametrize("sampling", ["clip", "segments"])
@pytest.mark.parametrize("target_fps", [None, 12.5])
def test_teacher_sees_the_same_seconds_and_region(shaded: Manifest, sampling: str, target_fps: float | None) -> None:
    """Every fourth frame of the teacher is a frame of the student, and the others lie between."""
    student = STUDENT.replace(sampling=sampling, target_fps=target_fps, frame_stride=4 if target_fps is None else 2)
    clips = dataset(shaded, student, Augmentation(crop_scale=(0.4, 0.8), flip=False), clips_per_video=2)
    for epoch in range(3):
        batch = clips[[SampleKey(epoch, 0), SampleKey(epoch, 1)]]
        assert batch.teacher_clips is not None
        assert batch.teacher_clips.shape == (4, 1, 17, 48, 48, 3)
        small = smaller(batch.teacher_clips)
        assert (small[:, :, ::4] - batch.clips.float()).abs().mean() < 2  # of 255; a frame later differs by 3
        times = batch.teacher_clips.float().mean((1, 3, 4, 5))
        if sampling == "clip":
            assert (times.diff(dim=1) > 0.5).all()  # every frame is later than the one before


def test_a_clip_that_loops_a_short_video_is_followed(shaded: Manifest) -> None:
    student = ClipSpec(num_frames=9, crop_px=24, frame_stride=10)  # 81 frames of 61
    batch = dataset(shaded, student, Augmentation(crop_scale=(1, 1)))[[SampleKey(0, 0)]]
    assert batch.teacher_clips is not None
    assert (smaller(batch.teacher_clips)[:, :, ::2] - batch.clips.float()).abs().mean() < 2


def test_resampled_frames() -> None:
    times = np.arange(40) / 10
    places = np.array([3, 9, 15])
    assert resampled_frames(times, places, 3).tolist() == [3, 9, 15]
    assert resampled_frames(times, places, 5).tolist() == [3, 6, 9, 12, 15]
    assert resampled_frames(times, places, 2).tolist() == [3, 15]
    assert resampled_frames(times, places, 1).tolist() == [3]
    assert resampled_frames(times, np.array([7]), 4).tolist() == [7] * 4
    assert resampled_frames(times, np.array([30, 36, 2]), 5).tolist() == [30, 33, 36, 2, 2]  # loops
    uneven = np.array([0, 0.1, 0.2, 1.0, 1.1, 2.0])
    assert resampled_frames(uneven, np.array([0, 5]), 3).tolist() == [0, 3, 5]  # by time, not by number
    for count in range(1, 70):  # no rounding moves a shared frame
        assert resampled_frames(times, np.arange(0, 40, 3), count)[-1] == (39 if count > 1 else 0)


def test_the_same_clip_has_the_same_frames(shaded: Manifest) -> None:
    batch = dataset(shaded, STUDENT, Augmentation(), STUDENT.replace(test_crop_px=24))[[SampleKey(0, 0)]]
    assert batch.teacher_clips is not None
    assert torch.equal(batch.clips, batch.teacher_clips)


def test_teacher_gets_the_same_augmentation_in_its_own_normalisation(shaded: Manifest) -> None:
    augmentation = Augmentation(crop_scale=(0.8, 1.0), colour=0.3, erase=1.0, cutmix=1.0)
    found = dataset(shaded, STUDENT, augmentation, clips_per_video=4)[[SampleKey(0, 0), SampleKey(0, 1)]]
    assert found.draw is not None
    assert found.draw.flip is not None
    assert 0 < int(found.draw.flip.sum()) < 8
    batch = to_network_input(found, STUDENT, augmentation, teacher=TEACHER)

    def pixels(x: Tensor, spec: ClipSpec) -> Tensor:
        mean, std = (torch.tensor(each).view(3, 1, 1, 1) for each in (spec.mean, spec.std))
        return (x * std + mean).clamp(0, 1)

    assert batch.teacher_clips is not None
    small = torch.nn.functional.avg_pool3d(pixels(batch.teacher_clips, TEACHER)[:, :, ::4], (1, 2, 2))
    student = pixels(batch.clips, STUDENT)
    # An erased box has the mean colour, which is each network's own: [0.5, 0.4, 0.3] and 0.45.
    assert (small - student).abs().mean() < 0.03
    assert (small.flip(4) - student).abs().mean() > 0.06


def test_boxes_are_scaled() -> None:
    boxes = torch.tensor([[2, 4, 6, 8], [0, 0, 0, 0]])
    draw = Draw(erase=boxes, mix=Mix(torch.tensor([1, 0]), torch.tensor([0.7, 0.7]), boxes))
    found = scaled_draw(draw, 2.5)
    assert found.erase is not None
    assert found.mix is not None
    assert found.erase.tolist() == found.mix.box.tolist() == [[5, 10, 15, 20], [0, 0, 0, 0]]
    assert found.mix.share is draw.mix.share
    assert scaled_draw(Draw(), 2) == Draw()


@pytest.mark.slow
def test_any_number_of_workers_loads_the_same_clips(figures: Path) -> None:
    """Both kinds of clips travel through shared buffers."""
    from farfield.data.manifest import read_manifest

    manifest = read_manifest(figures / "train.csv")

    def epoch(workers: int) -> list[Batch]:
        clips = TrainingClips(manifest, manifest.labels, STUDENT, Augmentation(), seed=0, teacher=TEACHER)
        order = EpochBatchSampler(len(manifest), 3, seed=0, position=lambda: (0, 0))
        return list(batch_loader(clips, order, workers))

    for a, b in zip(epoch(0), epoch(2), strict=True):
        assert a.teacher_clips is not None
        assert torch.equal(a.clips, b.clips)
        assert torch.equal(a.teacher_clips, b.teacher_clips)


def test_student_has_the_clips_that_it_has_without_a_teacher(shaded: Manifest) -> None:
    keys = [SampleKey(1, 0), SampleKey(1, 1)]
    alone = TrainingClips(shaded, ["x", "y"], STUDENT, Augmentation(), seed=0)[keys]
    taught = dataset(shaded, STUDENT, Augmentation())[keys]
    assert alone.teacher_clips is None
    assert torch.equal(alone.clips, taught.clips)
    assert torch.equal(alone.labels, taught.labels)
