"""Explanations of networks whose classes are independent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exporters.networks import awake
from farfield.checkpoints.checkpoint import save_model
from farfield.interpretability.explanation import explain_video
from farfield.interpretability.explanation_json import to_json
from farfield.models.network import ActionNet
from farfield.models.operating_point import OperatingPoint

NOTE = "a video may have several of the classes or none: each class has a probability of its own."
CLIP = {"num_frames": 4, "crop_px": 32, "frame_stride": 3, "num_clips": 3, "num_crops": 2}


def network(biases: list[float], *, views_aggregation: str = "mean", **arguments: Any) -> ActionNet:
    """A network whose classes have given logits, plus what it sees."""
    made = awake(task="multilabel", clip={**CLIP, "views_aggregation": views_aggregation}, **arguments)
    made.head.fc.bias.data = torch.tensor(biases)
    made.head.fc.weight.data *= 0.3
    return made


@pytest.mark.parametrize("aggregation", ["mean", "max"])
def test_probabilities_are_sigmoids_aggregated_as_in_a_test(aggregation: str, make_video: Callable[..., Path]) -> None:
    made = network([3.0, -3, 2.5, -2, 2], views_aggregation=aggregation)
    made.operating_point = OperatingPoint("f1", dict(zip(made.labels, (0.6, 0.01, None, 0.99, 0.5), strict=True)), 9)
    found = explain_video(make_video(60), made)
    frames = found.views.frames
    with torch.no_grad():
        clips = ((frames.float() / 255 - 0.45) / 0.225).permute(0, 4, 1, 2, 3)
        of_views = made(clips).sigmoid().view(3, 2, 5)
    expected = (of_views.amax((0, 1)) if aggregation == "max" else of_views.mean((0, 1))).numpy()
    assert expected.sum() > 2
    assert found.views.video == pytest.approx(expected, abs=1e-5)
    assert found.label == found.predicted == made.labels[int(expected.argmax())]
    content = to_json(found, top_k=2)
    order = np.argsort(-expected).tolist()
    limits = [0.6, 0.01, 0.5, 0.99, 0.5]
    kept = [i for place, i in enumerate(order) if place < 2 or expected[i] >= limits[i]]
    assert kept[2:] == [order[2], 1]  # "get_up" is improbable, but over its threshold
    assert [each["label"] for each in content["ranking"]] == [made.labels[i] for i in kept]
    assert [each["threshold"] for each in content["ranking"]] == [limits[i] for i in kept]
    assert [each["above_threshold"] for each in content["ranking"]] == [bool(expected[i] >= limits[i]) for i in kept]
    assert NOTE in content["notes"]
    windows = [each["probability"] for each in content["windows"]]
    contributions = [each["contribution"] for each in content["windows"]]
    if aggregation == "max":
        assert sorted(contributions) == pytest.approx([0, 0, sorted(windows)[2] - sorted(windows)[1]])
        assert max(contributions) > 0
    else:
        assert sum(contributions) == pytest.approx(0, abs=1e-6)
    of_video = max(windows) if aggregation == "max" else np.mean(windows)
    assert of_video == pytest.approx(content["ranking"][0]["probability"])


def test_contributions_are_to_the_explained_class(make_video: Callable[..., Path]) -> None:
    made = network([3.0, -3, 2.5, -2, 2])
    found = explain_video(make_video(60), made, label="sit_down", num_crops=1)
    assert (found.predicted != "sit_down", found.windows_label) == (True, "sit_down")
    content = to_json(found, top_k=1)
    of_class = found.views.windows[:, 3]
    assert [each["probability"] for each in content["windows"]] == pytest.approx(of_class.tolist())
    expected = ((of_class - of_class.mean()) / 2).tolist()
    assert [each["contribution"] for each in content["windows"]] == pytest.approx(expected)
    single = explain_video(make_video(60), awake(clip=CLIP), label="sit_down", num_crops=1)
    assert (single.windows_label, single.thresholds) == (single.predicted, None)
    assert NOTE not in single.notes
    assert set(to_json(single)["ranking"][0]) == {"label", "probability"}


@pytest.mark.slow
def test_a_network_of_one_class_is_explained_where_the_video_lacks_it(
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_model(network([-2.0], labels=["wave"]), tmp_path / "one.ckpt")
    words = ("--checkpoint", tmp_path / "one.ckpt", "--out", tmp_path / "out")
    assert run_farfield("explain", make_video(60), *words) == 0
    printed = capsys.readouterr().out
    assert "no class reaches its threshold in this video." in printed
    assert "above threshold" not in printed
    content = json.loads((tmp_path / "out" / "explanation.json").read_text())
    [ranked] = content["ranking"]
    assert (ranked["label"], ranked["threshold"], ranked["above_threshold"]) == ("wave", 0.5, False)
    assert 0 < ranked["probability"] < 0.5
    assert content["label"] == "wave"
    assert {"attention.png", "grad_cam.png", "evidence.png", "windows.png"} <= set(content["files"])
    page = (tmp_path / "out" / "explanation.html").read_text()
    assert NOTE[1:] in page
    assert "<th>threshold</th>" in page
    assert "reached" not in page
    assert "<td>50.00%</td>" in page


@pytest.mark.slow
def test_classes_over_their_thresholds_are_marked(
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_model(network([6.0, -6, 6, -6, -6]), tmp_path / "a.ckpt")
    words = ("--checkpoint", tmp_path / "a.ckpt", "--out", tmp_path / "out", "--num_clips", 1)
    assert run_farfield("explain", make_video(60), *words) == 0
    marked = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("  above threshold")]
    assert sorted(marked) == ["bow", "lie_down"]
    assert (tmp_path / "out" / "explanation.html").read_text().count("<td>reached</td>") == 2
