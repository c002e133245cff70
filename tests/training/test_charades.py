"""Charades from its CSV to a trained network: whole videos with several actions, or none, and their times."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farfield.checkpoints.checkpoint import load_network
from farfield.data.manifest import read_manifest

HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
VIDEOS = {
    "AAAAA": (60, "c003 0.00 1.10;c001 0.50 2.50;c003 1.90 2.40"),
    "BBBBB": (9, "c001 0.00 0.30"),  # shorter than a clip
    "CCCCC": (48, ""),
    "DDDDD": (50, "c002 0.20 1.40;c003 1.00 9.00"),  # ends after its video, as many actions do
}
"""Number of frames, at 25 per second, and actions of each video."""


@pytest.fixture(scope="module")
def manifest(
    tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path], run_farfield: Callable[..., int]
) -> Path:
    folder = tmp_path_factory.mktemp("charades")
    (folder / "videos").mkdir()
    rows = []
    for name, (frames, actions) in VIDEOS.items():
        (folder / "videos" / f"{name}.mp4").write_bytes(make_video(frames).read_bytes())
        rows.append(f'{name},P{name[0]}1,Kitchen,6,7,Yes,"Cooks, leaves.",stove,Cooks.,{actions},{frames / 25:.2f}\n')
    (folder / "Charades_v1_train.csv").write_text(HEADER + "".join(rows))
    options = ("--format", "charades", "--annotations", folder / "Charades_v1_train.csv")
    assert run_farfield("data", "index", folder / "videos", folder / "train.csv", *options) == 0
    return folder / "train.csv"


def test_the_manifest_has_a_row_for_each_action(manifest: Path) -> None:
    rows = [(Path(row.path).stem, row.label, row.start_seconds, row.end_seconds) for row in read_manifest(manifest)]
    assert sorted(rows, key=str) == [
        ("AAAAA", "c001", 0.5, 2.4),
        ("AAAAA", "c003", 0, 1.1),
        ("AAAAA", "c003", 1.9, 2.4),
        ("BBBBB", "c001", 0, 0.3),
        ("CCCCC", "", None, None),
        ("DDDDD", "c002", 0.2, 1.4),
        ("DDDDD", "c003", 1, 2),
    ]


@pytest.mark.slow
def test_charades_trains_by_its_protocol(manifest: Path, tmp_path: Path, run_farfield: Callable[..., int]) -> None:
    """With the recipe's protocol, for a tiny network and a clip of 19 frames from first to last."""
    status = run_farfield(
        "fit",
        "--config=charades",
        f"--run_dir={tmp_path}",
        f"--data.train={manifest}",
        f"--data.val={manifest}",
        "--model.backbone=tiny",
        "--model.weights=null",
        "--model.clip.num_frames=4",
        "--model.clip.frame_stride=6",
        "--model.clip.crop_px=24",
        "--model.clip.test_crop_px=24",
        "--model.optimisation={lr: 0.05, warmup_epochs: 0}",
        "--data.augmentation={short_side_px: null}",
        "--data.batch_size=2",
        "--data.num_workers=0",
        "--trainer={max_epochs: 1, check_val_every_n_epoch: 1, precision: 32-true, enable_progress_bar: false, "
        "enable_model_summary: false}",
        "--report.every_n_epochs=0",
    )
    assert status == 0
    network = load_network(tmp_path / "checkpoints" / "last.ckpt")
    clip = network.clip
    assert (network.task, network.labels) == ("multilabel", ["c001", "c002", "c003"])
    assert (clip.num_frames, clip.frame_stride, clip.target_fps, clip.short_clip) == (4, 6, 24, "clamp")
    assert (clip.views_aggregation, clip.num_clips, clip.num_crops) == ("max", 10, 3)
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    data = next(value for value in content.values() if isinstance(value, dict) and "whole_videos" in value)
    assert data["whole_videos"] is True
    with (tmp_path / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["val/map"]) <= 1
    assert not (tmp_path / "skipped_videos.csv").exists()
