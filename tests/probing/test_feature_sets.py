"""Feature sets: the classes of mirrored training videos, and views that are scored in pieces."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from farfield.build import build_model
from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.datamodule import VideoDataModule
from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.models.network import ActionNet
from farfield.probing import scoring
from farfield.probing.extraction import VECTORS, Extractor, weights_hash
from farfield.probing.feature_cache import FeatureCache
from farfield.probing.feature_sets import FeatureMaker
from farfield.probing.grid import Grid
from farfield.probing.heads import make_head, pooled_network
from farfield.probing.options import Configuration
from farfield.probing.training_set import FeatureSet

CLIP: dict[str, Any] = {"num_frames": 2, "crop_px": 24, "frame_stride": 2, "num_clips": 1, "num_crops": 1}


def tiny(labels: list[str]) -> ActionNet:
    torch.manual_seed(4)
    return build_model("tiny", labels=labels, clip=CLIP, backbone_options={"depth": 1, "width": 0.25}).eval()


def feature_maker(network: ActionNet, data: VideoDataModule, folder: Path, num_views: int) -> FeatureMaker:
    base = pooled_network(network)
    extractor = Extractor(base, device=torch.device("cpu"), forward_context=contextlib.nullcontext, with_maps=False)
    return FeatureMaker(
        data, extractor, folder=folder, num_views=num_views, precision="32-true", weights=weights_hash(base)
    )


@pytest.mark.slow
def test_a_video_keeps_its_class_though_its_views_are_mirrored(make_video, tmp_path: Path) -> None:
    labels = ["turn_left", "turn_right"]
    path = make_video(20)
    rows = [VideoRecord(path.name, labels[row % 2], row / 10, row / 10 + 0.3) for row in range(4)]
    write_manifest(path.parent / "train.csv", rows)
    data = VideoDataModule(str(path.parent / "train.csv"), clip=ClipSpec(**CLIP), num_workers=0)
    maker = feature_maker(tiny(labels), data, tmp_path, 5)
    made = maker.make_training(maker.plan_training())
    assert made.video_targets.tolist() == [0, 1, 0, 1]
    of_views = made.targets.view(4, 5)
    assert of_views[:, 0].tolist() != made.video_targets.tolist()  # some views are mirrored


@pytest.mark.slow
def test_features_of_other_weights_files_and_clips_are_not_used(figures: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(figures, tmp_path / "data")
    rows = list(read_manifest(folder / "train.csv"))[:4]
    write_manifest(folder / "train.csv", rows)
    write_manifest(folder / "val.csv", list(read_manifest(folder / "val.csv"))[:3])
    network = tiny(read_manifest(folder / "train.csv").labels)

    def maker(num_views: int = 2, **options: Any) -> FeatureMaker:
        given: dict[str, Any] = {"clip": ClipSpec(**CLIP), "num_workers": 0, **options}
        data = VideoDataModule(str(folder / "train.csv"), str(folder / "val.csv"), **given)
        return feature_maker(network, data, tmp_path / "features", num_views)

    def missing(num_views: int = 2, **options: Any) -> tuple[int, int]:
        """Return the numbers of training and validation samples whose features would be computed."""
        made = maker(num_views, **options)
        assert made.data.val_manifest is not None
        validation = made.plan_test("validation", made.data.val_manifest, num_clips=1, num_crops=1)
        return made.plan_training().num_missing, validation.num_missing

    assert missing() == (8, 3)
    first = maker()
    assert first.data.val_manifest is not None
    first.make_training(first.plan_training())
    one = {"num_clips": 1, "num_crops": 1}
    first.make_test(first.plan_test("validation", first.data.val_manifest, **one), **one)
    assert missing() == (0, 0)
    assert missing(3) == (4, 0)
    assert missing(seed=1) == (8, 0)
    assert missing(augmentation=Augmentation(colour=0.2)) == (8, 0)
    assert missing(clip=ClipSpec(**CLIP | {"frame_stride": 1})) == (8, 3)
    with torch.no_grad():
        network.head.fc.weight += 1
        assert missing() == (0, 0)
        weight = next(network.backbone.parameters())
        before = weight.clone()
        weight[0] += 1e-3
        assert missing() == (8, 3)
        weight.copy_(before)
    manifest = read_manifest(folder / "train.csv")
    shutil.copy(manifest.path(1), manifest.path(0))
    assert missing() == (2, 0)
    write_manifest(folder / "train.csv", rows[::-1])
    assert missing() == (2, 0)


def test_coarse_maps_are_means_of_eight_positions(tmp_path: Path) -> None:
    """Lengths of 1 and 2 stay, since keys of a non-local block are pooled by 2."""
    maps = [torch.randn(2, 1, 3, 4, 6, 2), torch.randn(2, 1, 5, 1, 2, 8)]
    cache = FeatureCache(tmp_path, "maps", {})
    for row in range(2):
        cache.add(str(row), {VECTORS: torch.zeros(1, 8), "map0": maps[0][row], "map1": maps[1][row]})
    cache.flush()
    whole = FeatureSet(cache.read(["0", "1"]), torch.zeros(2), torch.zeros(2), 1, [0, 1], 2, torch.device("cpu"))
    first, second = whole.coarse().inputs(np.array([1, 0]), maps=True)
    assert first.shape == (2, 1, 3, 2, 3, 2)
    torch.testing.assert_close(first[0, 0, 2, 1, 2, 1], maps[0][1, 0, 2, 2:, 4:, 1].mean())
    assert second.shape == (2, 1, 5, 1, 2, 4)
    torch.testing.assert_close(second[1, 0, 4, 0, 1, 3], maps[1][0, 0, 4, 0, 1, 6:].mean())
    assert torch.equal(whole.inputs(np.array([1]), maps=True)[0], maps[0][[1]])


@pytest.mark.parametrize("num_views", [3, 70])
def test_views_are_scored_in_pieces(tmp_path: Path, num_views: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if a video has more views than are scored at once."""
    videos, views, classes = 7, num_views, 5
    torch.manual_seed(2)
    vectors = torch.randn(videos, views, 256)
    cache = FeatureCache(tmp_path, "views", {})
    for row, each in enumerate(vectors):
        cache.add(str(row), {VECTORS: each})
    cache.flush()
    nothing = torch.zeros(videos, dtype=torch.int64)
    stored = cache.read([str(row) for row in range(videos)])
    test = FeatureSet(stored, nothing, nothing, 1, list(range(videos)), 0, torch.device("cpu"))
    head = make_head(
        pooled_network(build_model("tiny", num_classes=classes, clip=CLIP).eval()),
        "linear", vectors=vectors.flatten(0, 1), map_shapes=[], head_options=None, seed=0,
    )  # fmt: skip
    pieces: list[int] = []
    right = scoring.view_probabilities

    def count(logits: torch.Tensor, *more: Any) -> torch.Tensor:
        pieces.append(len(logits))
        return right(logits, *more)

    monkeypatch.setattr(scoring, "view_probabilities", count)
    monkeypatch.setattr(scoring, "VIEWS_AT_ONCE", 8)
    found = scoring.score_head(head, test)
    assert max(pieces) <= max(8, views)
    wanted = torch.stack([head(each).softmax(1) for each in vectors]).detach()
    torch.testing.assert_close(found, wanted)
    of_grid = scoring.score_videos(Grid(head, [Configuration(0.1, 0.0)] * 2, F.cross_entropy), test)
    assert np.shape(of_grid) == (2, videos, views, classes)
    torch.testing.assert_close(of_grid[1], wanted)
