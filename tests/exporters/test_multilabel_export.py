"""Exported networks of other tasks: their scores, task, thresholds, and how they are compared with the original."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from exporters.exported_once import exported_once
from exporters.networks import awake, without_branches
from farfield.errors import FarfieldError
from farfield.exporters.export_file import ExportOptions, export_model
from farfield.exporters.parity import difference, normalised
from farfield.exporters.quantization import Accuracy, MultilabelAccuracy, measure_accuracy
from farfield.exporters.reference_clips import decode_reference_clips, find_reference_videos
from farfield.models.network import ActionNet
from farfield.models.operating_point import OperatingPoint
from farfield.runtimes.exported_network import load_exported

LABELS = ["bow", "get_up", "lie_down", "sit_down", "wave"]
HEADS = ["verb:open", "verb:shut", "noun:door", "noun:box", "noun:bag"]
LARGER = {"num_frames": 4, "crop_px": 32, "test_crop_px": 64, "num_clips": 2, "views_aggregation": "max"}
"""Clips on which a head has several windows."""


@pytest.fixture(scope="module", autouse=True)
def _exported_once() -> Iterator[None]:
    with exported_once():
        yield


def multilabel(**arguments: Any) -> ActionNet:
    network = without_branches(awake(task="multilabel", insert=None, **arguments))
    thresholds = [0.3, None, 0.25, 0.5, 0.7][: len(network.labels)]
    network.operating_point = OperatingPoint("f1", dict(zip(network.labels, thresholds, strict=True)), 12)
    of_timelines = [0.2, 0.5, None, 0.125, 0.9][: len(network.labels)]
    network.timeline_operating_point = OperatingPoint("f1", dict(zip(network.labels, of_timelines, strict=True)), 5)
    return network


NETWORKS: dict[str, Callable[[], ActionNet]] = {
    "five_classes": lambda: multilabel(clip={**LARGER, "test_crop_px": 32}),
    "one_class": lambda: multilabel(labels=["wave"]),
    "windows": lambda: multilabel(head="window_softmax_mean", clip=LARGER),
    "certain": lambda: certain(multilabel(head="window_softmax_mean", clip=LARGER)),
    "several_heads": lambda: without_branches(awake(task="multi_head", labels=HEADS, insert=None)),
}


def certain(network: ActionNet) -> ActionNet:
    """Scale the scores so far that some sigmoids are 0 in float32."""
    network.head.fc.weight.data *= 60
    return network


@cache
def made(name: str) -> ActionNet:
    return NETWORKS[name]()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "name"),
    [(".onnx", "certain"), (".onnx", "one_class"), (".xml", "windows"), (".pt2", "certain"), (".pt2", "five_classes")],
)
def test_scores_task_and_thresholds_are_kept(suffix: str, name: str, tmp_path: Path) -> None:
    network = made(name)
    report = export_model(network, tmp_path / f"network{suffix}")
    assert report.worst.decisions == 0
    exported = load_exported(tmp_path / f"network{suffix}")
    assert (exported.task, exported.labels, exported.config) == ("multilabel", network.labels, network.config)
    assert exported.clip == network.clip
    assert exported.clip.views_aggregation == ("mean" if name == "one_class" else "max")
    assert exported.operating_point == network.operating_point
    assert exported.timeline_operating_point == network.timeline_operating_point
    clips = torch.randn(3, 3, 4, network.clip.test_side_px, network.clip.test_side_px)
    with torch.no_grad():
        expected = network(clips)
    assert expected.abs().max() > (88 if name == "certain" else 0.1)
    assert (exported(clips) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_scores_of_several_heads_are_kept(suffix: str, tmp_path: Path) -> None:
    network = made("several_heads")
    export_model(network, tmp_path / f"network{suffix}")
    exported = load_exported(tmp_path / f"network{suffix}")
    clips = torch.randn(3, 3, 4, 32, 32)
    with torch.no_grad():
        expected = network(clips)
    assert exported.task == "multi_head"
    assert (exported(clips) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert exported(clips).exp()[:, :2].sum(1).tolist() == pytest.approx([1, 1, 1], rel=1e-5)


def test_probabilities_and_decisions_are_those_of_sigmoids() -> None:
    network = multilabel()  # thresholds 0.3, 0.5, 0.25, 0.5, 0.7
    ours = torch.tensor([[0.0, 0.0, -1.0, -0.1, 5.0], [1.0, 2.0, 3.0, 4.0, 0.0]])
    theirs = torch.tensor([[0.0, -0.1, -1.0, 0.1, 5.0], [1.0, 2.0, 3.0, 4.0, 0.9]])
    found = difference(network, "two clips", 4, ours, theirs)
    assert found.decisions == 3
    assert found.probabilities == pytest.approx(1 / (1 + np.exp(-0.9)) - 0.5, rel=1e-5)
    assert found.logits == pytest.approx(0.9 / 5)
    single = difference(awake(), "two clips", 4, ours, theirs)
    assert single.decisions is None
    assert single.probabilities == pytest.approx(float((ours.softmax(-1) - theirs.softmax(-1)).abs().max()))


def test_a_rounding_error_of_a_logit_near_0_is_none_of_a_multilabel_network() -> None:
    """A network with one class has such logits wherever it is in doubt."""
    ours, theirs = torch.tensor([[1e-5]]), torch.tensor([[1.2e-5]])
    assert difference(multilabel(labels=["wave"]), "a clip", 4, ours, theirs).within(1e-4)
    assert difference(multilabel(labels=["wave"]), "a clip", 4, 2e5 * ours, 2e5 * theirs).logits == pytest.approx(0.2)
    assert not difference(multilabel(labels=["wave"]), "a clip", 4, ours, torch.tensor([[torch.nan]])).within(1e-4)


@pytest.fixture
def manifest(make_video: Callable[..., Path], tmp_path: Path) -> Path:
    paths = [make_video(count) for count in (30, 60, 40)]
    rows = [f"{path},{label}" for path, label in zip(paths, ("wave|bow", "", "get_up"), strict=True)]
    path = tmp_path / "several.csv"
    path.write_text("\n".join(["path,label", *rows]) + "\n")
    return path


def test_reference_videos_have_several_labels_or_none(manifest: Path, make_video: Callable[..., Path]) -> None:
    videos = find_reference_videos([str(manifest), str(make_video(20))], LABELS, task="multilabel")
    targets = [None if each.target is None else np.asarray(each.target).tolist() for each in videos]
    assert targets == [None, [1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]]
    with pytest.raises(FarfieldError, match=r"60_at_25.mp4 has no label, but a single-label network needs"):
        find_reference_videos([str(manifest)], LABELS)


@pytest.mark.slow
def test_eight_bits_are_measured_by_decisions_and_average_precision(
    manifest: Path, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip("nncf")
    network = made("five_classes")
    videos = find_reference_videos([str(manifest), str(make_video(20))], LABELS, task="multilabel")
    clips = decode_reference_clips(videos, network.clip)
    report = export_model(network, tmp_path / "a.xml", ExportOptions(int8=True), clips=clips)
    int8 = load_exported(tmp_path / "a.xml")
    assert (int8.task, int8.operating_point, int8.description.int8) == ("multilabel", network.operating_point, True)
    x = torch.cat([normalised(clip.frames, network.clip) for clip in clips])
    with torch.no_grad():
        ours, theirs = network(x).sigmoid(), torch.cat([int8(each[None]) for each in x]).sigmoid()
    thresholds = torch.tensor([0.3, 0.5, 0.25, 0.5, 0.7])
    a, b = ours >= thresholds, theirs >= thresholds
    assert 0 < int((a | b).sum()) < a.numel()
    targets = np.array([[1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]])
    with_positives = [0, 1, 4]
    precision = [
        np.mean([average_precision_score(targets[:, c], of[1:, c].numpy()) for c in with_positives])
        for of in (ours, theirs)
    ]
    assert isinstance(report.accuracy, MultilabelAccuracy)
    assert report.accuracy.videos == 4
    assert report.accuracy.found == int((a | b).sum())
    assert report.accuracy.agreement == pytest.approx(int((a & b).sum()) / int((a | b).sum()))
    assert report.accuracy.largest == pytest.approx(float((ours - theirs).abs().max()), rel=1e-3)
    assert report.accuracy.mean == pytest.approx(float((ours - theirs).abs().amax(1).mean()), rel=1e-3)
    assert [report.accuracy.map, report.accuracy.map_int8] == pytest.approx(precision)


@pytest.mark.slow
def test_the_agreement_counts_only_classes_that_a_network_finds(make_video: Callable[..., Path]) -> None:
    """The other network is another float network, whose scores are known."""
    network, other = (without_input(multilabel(), biases) for biases in ([2.0, 2, -2, -2, -2], [2.0, -2, 2, -2, -2]))
    clips = decode_reference_clips(
        find_reference_videos([str(make_video(30))], LABELS, task="multilabel"), network.clip
    )
    with torch.no_grad():
        found: Any = measure_accuracy(network, cast("Any", other), clips)
        nothing: Any = measure_accuracy(without_input(multilabel(), [-2.0] * 5), cast("Any", other), clips)
        none: Any = measure_accuracy(*[cast("Any", without_input(multilabel(), [-2.0] * 5))] * 2, clips)
    assert (found.found, found.agreement) == (3, pytest.approx(1 / 3))
    assert (nothing.found, nothing.agreement) == (2, 0)
    assert (none.found, none.agreement, none.map, none.map_int8) == (0, None, None, None)


def without_input(network: ActionNet, biases: list[float]) -> ActionNet:
    """Make a network's logits constant."""
    network.head.fc.weight.data.zero_()
    network.head.fc.bias.data = torch.tensor(biases)
    return network


@pytest.mark.slow
def test_eight_bits_of_several_heads_agree_only_if_all_heads_do(
    make_video: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip("nncf")
    network = made("several_heads")
    paths = [make_video(count) for count in (30, 60, 40)]
    (tmp_path / "a.csv").write_text("path,label\n" + "".join(f"{path},verb:shut|noun:box\n" for path in paths))
    videos = find_reference_videos([str(tmp_path / "a.csv")], network.labels, task="multi_head")
    clips = decode_reference_clips(videos, network.clip)
    accuracy = export_model(network, tmp_path / "a.xml", ExportOptions(int8=True), clips=clips).accuracy
    int8 = load_exported(tmp_path / "a.xml")
    best = []
    for clip in clips:
        x = normalised(clip.frames, network.clip)
        with torch.no_grad():
            best.append([(int(of[0, :2].argmax()), int(of[0, 2:].argmax())) for of in (network(x), int8(x))])
    assert isinstance(accuracy, Accuracy)
    assert accuracy.agreement == pytest.approx(np.mean([ours == theirs for ours, theirs in best]))
    assert accuracy.top1 == pytest.approx(np.mean([ours == (1, 1) for ours, _ in best]))
    assert accuracy.top1_int8 == pytest.approx(np.mean([theirs == (1, 1) for _, theirs in best]))
