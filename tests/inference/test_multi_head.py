"""Predictions of a network with a verb and a noun."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from farfield import Prediction, build_model, load_model, predict, save_model
from farfield.data.clips import video_views
from farfield.data.transforms import network_input
from farfield.data.video_record import VideoRecord
from farfield.timelines.joint_labels import joint_cells, rank_labels_jointly

LABELS = ["noun:cup", "noun:door", "noun:tap", "verb:close", "verb:open"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = build_model(
        "tiny", labels=LABELS, task="multi_head", clip={"num_frames": 4, "crop_px": 24, "num_clips": 2}
    )
    torch.nn.init.normal_(network.head.fc.weight, std=1.0)
    path = tmp_path_factory.mktemp("multi_head") / "a.ckpt"
    save_model(network, path)
    return path


def test_actions_are_ranked_by_the_product_of_their_probabilities(
    checkpoint: Path, make_video: Callable[..., Path]
) -> None:
    model, video = load_model(checkpoint), make_video(60)
    views = video_views(video, VideoRecord(str(video), ""), model.clip, num_clips=2, num_crops=3)
    with torch.no_grad():
        probabilities = model(network_input(views.frames[None], model.clip)).exp().mean(0).double()
    nouns, verbs = probabilities[:3], probabilities[3:]
    assert float(nouns.sum()) == pytest.approx(1, abs=1e-5)
    actions = {
        f"{n}|{v}": float(nouns[i] * verbs[j]) for i, n in enumerate(LABELS[:3]) for j, v in enumerate(LABELS[3:])
    }
    expected = sorted(actions.items(), key=lambda each: -each[1])

    found = predict(video, checkpoint, top_k=4, num_crops=3, progress=False)
    assert found.task == "multi_head"
    assert [each.label for each in found.ranking] == [label for label, _ in expected[:4]]
    assert [each.probability for each in found.ranking] == pytest.approx([p for _, p in expected[:4]], rel=1e-4)
    assert found.heads is not None
    assert {each.label: pytest.approx(each.probability, rel=1e-4) for each in found.heads["verb"]} == {
        "close": float(verbs[0]),
        "open": float(verbs[1]),
    }
    assert [len(own) for own in found.heads.values()] == [3, 2]
    again = Prediction.from_dict(json.loads(json.dumps(found.to_dict())))
    assert (again.ranking, again.heads) == (found.ranking, found.heads)


def test_segments_of_a_timeline_are_actions(checkpoint: Path, make_video: Callable[..., Path]) -> None:
    found = predict(make_video(100), checkpoint, timeline=True, progress=False)
    assert found.segments
    assert {each.label for each in found.segments} <= {f"{n}|{v}" for n in LABELS[:3] for v in LABELS[3:]}
    assert found.segments[0].start_seconds == 0


def test_cells_of_actions_are_products() -> None:
    cells = np.array([[0.7, 0.2, 0.1, 0.4, 0.6], [0.1, 0.8, 0.1, 0.9, 0.1], [0.5, 0.3, 0.2, 0.3, 0.7]])
    joint, labels = joint_cells(cells, LABELS)
    assert labels == ["noun:cup|verb:open", "noun:door|verb:close"]
    np.testing.assert_allclose(joint, [[0.42, 0.08], [0.01, 0.72], [0.35, 0.09]])
    best = rank_labels_jointly(cells[0], LABELS, 2)
    assert [label for label, _ in best] == ["noun:cup|verb:open", "noun:cup|verb:close"]
    assert [p for _, p in best] == pytest.approx([0.42, 0.28])
