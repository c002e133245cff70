"""Training on untrimmed videos, as a user runs it."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn import functional as F

from farfield.clip_spec import ClipSpec
from farfield.data.datamodule import VideoDataModule
from farfield.data.manifest import write_manifest
from farfield.data.targets import WholeVideos
from farfield.data.untrimmed_options import UntrimmedOptions
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.training.config import make_run
from farfield.training.train import train_run


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path]) -> Path:
    """A manifest of three videos at 10 frames per second: several segments, overlapping ones, and nothing."""
    busy, short, quiet = (str(make_video(frames, fps=10)) for frames in (80, 31, 40))
    rows = [
        VideoRecord(busy, "clap", 1.0, 3.0),
        VideoRecord(busy, "sit", 2.5, 4.0),
        VideoRecord(busy, "clap", 5.5, 6.5),
        VideoRecord(short, "sit|clap", 0.4, 1.9),
        VideoRecord(quiet, ""),
    ]
    path = tmp_path_factory.mktemp("untrimmed") / "all.csv"
    write_manifest(path, rows)
    return path


@pytest.fixture
def arguments(manifest: Path, tmp_path: Path) -> Callable[..., list[str]]:
    def make(*more: str) -> list[str]:
        return [
            f"--run_dir={tmp_path / 'run'}",
            "--model.task=multilabel",
            "--model.backbone=tiny",
            "--model.clip={num_frames: 4, crop_px: 24, frame_stride: 3}",
            f"--data.train={manifest}",
            f"--data.val={manifest}",
            "--data.untrimmed=true",
            "--data.negative_share=0.5",
            "--data.num_workers=0",
            "--data.batch_size=2",
            "--trainer.max_epochs=1",
            "--trainer.accelerator=cpu",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
            "--report.every_n_epochs=0",
            *more,
        ]

    return make


def rows_of(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_is_validated_on_windows_of_whole_videos(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    run = make_run(arguments("--report.every_n_epochs=1", "--data.augmentation={mixup: 0.4}"))
    result = train_run(run)
    assert result.steps == 4  # 4 segments and as many negatives, in batches of 2
    rows, labels, probabilities = (torch.cat(parts) for parts in zip(*run.model.val_scores, strict=True))
    assert rows.tolist() == list(range(16))  # 8 windows of 80 frames, 4 of 31 and 4 of 40
    segments = [(1.0, 3.0, "clap"), (2.5, 4.0, "sit"), (5.5, 6.5, "clap")]
    for label, wanted in zip(("clap", "sit"), labels[:8].T.tolist(), strict=True):
        shares = [
            sum(
                any(low <= (10 * w + f) / 10 < high for low, high, name in segments if name == label) for f in range(10)
            )
            for w in range(8)
        ]
        assert wanted == [share >= 5 for share in shares]
    expected = np.mean([average_precision_score(labels[:, c], probabilities[:, c]) for c in range(2)])
    [row] = rows_of(tmp_path / "run")
    assert float(row["val/map"]) == pytest.approx(expected, abs=1e-5)
    assert float(row["val/loss"]) == pytest.approx(float(F.binary_cross_entropy(probabilities, labels)), rel=1e-5)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "predicted as" in page
    assert re.search(r"<td>mAP</td><td>[\d.]+%</td><td></td>", page)  # three videos are too few for an interval
    assert not (tmp_path / "run" / "skipped_videos.csv").exists()


@pytest.mark.slow
def test_a_resumed_run_has_the_same_curve(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = ["--data.negative_share=0.6", "--model.optimisation={schedule: steps, step_epochs: [9]}"]
    for folder, epochs in ((whole, 3), (parts, 1), (parts, 3)):
        train_run(
            make_run(
                arguments(*settings, f"--run_dir={folder}", "--resume=true", f"--trainer.max_epochs={epochs}")
            )
        )  # fmt: skip
    curves = [[row["train/loss"] for row in rows_of(folder)] for folder in (whole, parts)]
    assert curves[0] == curves[1]
    with pytest.raises(FarfieldError, match=r"data settings differ .*: .*negative_share was 0.6, now 0.5"):
        train_run(make_run(arguments(f"--run_dir={parts}", "--resume=true", "--trainer.max_epochs=4")))


def test_checkpoints_of_earlier_versions_still_load(manifest: Path) -> None:
    def data_of(**options: bool) -> VideoDataModule:
        return VideoDataModule(str(manifest), clip=ClipSpec(4, 24, 3), task="multilabel", **options)

    before = data_of().state_dict()
    assert before["untrimmed"] is False
    for name in UntrimmedOptions().state_dict():
        del before[name]
    data_of().load_state_dict(before)
    with pytest.raises(FarfieldError, match=r"untrimmed was False, now True; negative_share was None, now 0.3"):
        data_of(untrimmed=True).load_state_dict(before)


def test_a_changed_file_of_hard_windows_is_noticed(manifest: Path, make_video: Callable[..., Path]) -> None:
    hard = manifest.with_name("hard.csv")

    def state(end: int) -> dict[str, object]:
        hard.write_text(
            f"path,start_seconds,end_seconds,label,error\n{make_video(40, fps=10)},1,{end},sit,false_positive\n"
        )
        data = VideoDataModule(
            str(manifest), clip=ClipSpec(4, 24, 3), task="multilabel", untrimmed=True, hard_negatives=str(hard)
        )  # fmt: skip
        return data.state_dict()

    first, second = state(2), state(3)
    assert {name for name in first if first[name] != second[name]} == {"hard_negatives"}
    assert first["hard_negative_repeats"] == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model.task=single_label"], r"data.untrimmed trains on clips with no class .* task is 'single_label'"),
        (["--data.whole_videos=true"], r"data.untrimmed and data.whole_videos are two ways to draw clips"),
        (["--data.class_balanced=true"], r"data.class_balanced needs one class per video"),
        (
            ["--model.clip.sampling=segments"],
            r"data.untrimmed needs clips of a fixed length, but clip.sampling is 'seg",
        ),
        (
            ["--model.loss.pos_weight=balanced"],
            r"'balanced', which counts positive videos. With data.untrimmed, a clip",
        ),
        (["--data.negative_share=1.0"], r"data.negative_share is 1.0; it must be at least 0 and below 1"),
        (["--data.negative_share=-0.1"], r"data.negative_share is -0.1"),
        (["--data.hard_negative_repeats=0"], r"data.hard_negative_repeats is 0; it must be at least 1"),
        (["--data.hard_negative_repeats=3"], r"hard_negative_repeats has an effect only with data.hard_negatives. Set"),
        (
            ["--data.untrimmed=false", "--data.negative_share=0.4"],
            r"negative_share has an effect only with data.untrim",
        ),
        (
            ["--data.untrimmed=false", "--data.hard_negatives=h.csv"],
            r"hard_negatives has an effect only with data.untr",
        ),
        (["--data.hard_negatives=h.csv"], r"there is no file of hard windows at h.csv"),
        (["--data.clips_per_video=3"], r"clips_per_video must be at least 1 and divide batch_size"),
        (
            ["--data.short_cycle=true", "--data.batch_size=4"],
            r"the number of videos is 8, but a cycle of data.short_cycle needs",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    arguments: Callable[..., list[str]], more: list[str], message: str
) -> None:
    with pytest.raises(FarfieldError, match=message):
        make_run(arguments(*more)).datamodule.train_dataloader()


def test_whole_videos_and_untrimmed_merge_the_same_rows(manifest: Path) -> None:
    data = VideoDataModule(str(manifest), clip=ClipSpec(4, 24, 3), task="multilabel", untrimmed=True)
    assert (data.class_counts, data.labels) == ([3, 2], ["clap", "sit"])
    assert len(WholeVideos.of(data.train_manifest).manifest) == 3
