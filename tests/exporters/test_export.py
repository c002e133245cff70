"""Exported files, in their own runtimes, against the network; and what happens when they do not agree."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exporters.exported_once import exported_once
from exporters.networks import awake, without_branches, without_repeats
from farfield.data.transforms import network_input
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.exporters import export_file
from farfield.exporters.export_file import ExportOptions, ExportReport, export_model
from farfield.exporters.parity import ParityDifference, normalised, other_lengths
from farfield.exporters.reference_clips import ReferenceClip, ReferenceVideo, decode_reference_clips, spread
from farfield.models.network import ActionNet
from farfield.runtimes.exported_network import ExportedNet, load_exported
from forks import run_forked, start_fork_server

SUFFIXES = (".onnx", ".xml", ".pt2")
Exports = dict[str, tuple[Path, ExportReport]]


@pytest.fixture(scope="module", autouse=True)
def _exported_once() -> Iterator[None]:
    with exported_once():
        yield


@pytest.fixture(scope="module")
def network() -> ActionNet:
    return awake()


@pytest.fixture(scope="module")
def clip(network: ActionNet, make_video: Callable[..., Path]) -> ReferenceClip:
    path = make_video(30)
    return decode_reference_clips([ReferenceVideo(path, VideoRecord(str(path), ""))], network.clip)[0]


@pytest.fixture(scope="module")
def exports(network: ActionNet, clip: ReferenceClip, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """One file of each format; the ONNX file takes normalised clips, the others frames and clips."""
    folder = tmp_path_factory.mktemp("exports")
    made = {}
    for suffix, takes_frames in ((".onnx", False), (".xml", True), (".pt2", False)):
        path = folder / f"network{suffix}"
        made[suffix] = (
            path,
            export_model(network, path, ExportOptions(include_preprocessing=takes_frames), clips=[clip]),
        )
    return made


def clips_of(network: ActionNet, count: int, t: int) -> torch.Tensor:
    side = network.clip.test_side_px
    return network_input(torch.randint(256, (count, 1, t, side, side, 3), dtype=torch.uint8), network.clip)


@pytest.mark.slow
def test_signals_are_handled_after_networks_have_come_and_gone(exports: Exports, tmp_path: Path) -> None:
    """OpenVINO by itself leaves a process without a stack for signals. In a fork of a process without OpenVINO."""
    start_fork_server()
    code = """
import signal, sys
from pathlib import Path
from farfield.runtimes.exported_network import load_exported

signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
first, second = load_exported(Path(sys.argv[1])), load_exported(Path(sys.argv[1]))
del first, second  # in the order in which they came
signal.raise_signal(signal.SIGUSR1)
"""
    script = tmp_path / "signals.py"
    script.write_text(code)
    done = run_forked([sys.executable, str(script), str(exports[".xml"][0])])
    assert (done.returncode, done.stdout) == (0, "handled\n")


@pytest.mark.slow
@pytest.mark.dependency
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_scores_as_the_network_at_every_size(suffix: str, exports: Exports, network: ActionNet) -> None:
    exported = load_exported(exports[suffix][0], num_threads=1)
    assert (exported.labels, exported.clip, exported.config) == (network.labels, network.clip, network.config)
    assert exported.eval() is exported
    assert exported.device == torch.device("cpu")
    for count, t in ((1, 4), (7, 4), (2, 3), (1, 11)):
        clips = clips_of(network, count, t)
        with torch.no_grad():
            expected = network(clips)
        assert torch.allclose(exported(clips), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_report_says_what_was_compared(suffix: str, exports: Exports, clip: ReferenceClip) -> None:
    path, report = exports[suffix]
    compared = [(each.clips, each.frames) for each in report.differences]
    assert compared == [
        ("1 random clip of 4 frames", 4),
        ("3 random clips of 4 frames", 4),
        ("2 random clips of 2 frames", 2),
        ("2 random clips of 5 frames", 5),
        ("2 random clips of 8 frames", 8),
        (clip.name, 4),
    ]
    assert 0 < report.worst.logits < 1e-4
    assert report.worst.probabilities < 1e-4
    files = [path, path.with_suffix(".bin")] if suffix == ".xml" else [path]
    assert report.bytes == sum(each.stat().st_size for each in files)
    assert report.description.input == ("uint8 b t 32 32 3" if suffix == ".xml" else "float32 b 3 t 32 32")


@pytest.mark.slow
def test_at_most_a_stated_number_of_videos_is_compared_on(
    network: ActionNet, clip: ReferenceClip, tmp_path: Path
) -> None:
    report = export_model(network, tmp_path / "a.pt2", ExportOptions(num_compare_clips=2), clips=[clip] * 5)
    assert sum(each.clips == clip.name for each in report.differences) == 2
    assert (report.compared_videos, report.given_videos) == (2, 5)


@pytest.mark.slow
def test_onnx_files_are_whole_by_themselves(exports: Exports, network: ActionNet) -> None:
    """As a program without farfield reads them."""
    import onnx
    import onnxruntime

    path = exports[".onnx"][0]
    model = onnx.load(path, load_external_data=False)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert str(Path(__file__).parents[2]) not in path.read_bytes().decode("latin-1")  # nothing of this machine
    about = json.loads(onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map["farfield"])
    assert about["labels"] == network.labels
    assert about["clip"]["mean"] == [0.45, 0.45, 0.45]
    [given] = onnxruntime.InferenceSession(path).get_inputs()
    assert given.name == "clips"
    assert given.shape[1::2] == [3, 32]
    assert not isinstance(given.shape[0], int)
    assert not isinstance(given.shape[2], int)


@pytest.mark.slow
def test_a_graph_with_the_normalisation_takes_frames_themselves(exports: Exports, network: ActionNet) -> None:
    import openvino

    frames = torch.randint(256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    compiled = openvino.Core().compile_model(exports[".xml"][0], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.no_grad():
        expected = network(network_input(frames[:, None], network.clip))
    assert np.allclose(compiled([frames.numpy()])[0], expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    exported = load_exported(exports[".xml"][0])
    assert torch.equal(exported.frames_of(network_input(frames[:, None], network.clip)), frames)


@pytest.mark.slow
def test_openvino_computes_in_bfloat16_and_the_others_refuse(exports: Exports, network: ActionNet) -> None:
    clips = torch.randn(2, 3, 4, 32, 32)
    exact = load_exported(exports[".xml"][0])(clips)
    rounded = load_exported(exports[".xml"][0], precision="bfloat16")(clips)
    assert (rounded - exact).norm() < 0.03 * exact.norm()
    for suffix in (".onnx", ".pt2"):
        with pytest.raises(FarfieldError, match=r"supports precision float32; given 'bfloat16'"):
            load_exported(exports[suffix][0], precision="bfloat16")
    with pytest.raises(FarfieldError, match=r"float32 or bfloat16; given 'float16'"):
        load_exported(exports[".xml"][0], precision="float16")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_clips_of_a_size_that_it_does_not_take_are_refused(suffix: str, exports: Exports) -> None:
    exported = load_exported(exports[suffix][0])
    with pytest.raises(FarfieldError, match=r"takes clips of 32 x 32 pixels; given 32 x 48"):
        exported(torch.zeros(1, 3, 4, 32, 48))
    with pytest.raises(ValueError, match=r"needs clips \(b 3 t h w\).*given \(1, 4, 32, 32, 3\) of torch.uint8"):
        exported(torch.zeros(1, 4, 32, 32, 3, dtype=torch.uint8))


@pytest.mark.slow
def test_what_the_network_fixes_is_fixed_and_said(tmp_path: Path) -> None:
    network = without_branches(awake(head="window_mean", insert=None))
    report = export_model(network, tmp_path / "a.pt2")
    assert report.description.input == "float32 b 3 4 32 32"
    assert report.notes == [
        "the file takes only clips of 4 frames: a layer of the network was built for this number of frames."
    ]
    with pytest.raises(FarfieldError, match=r"a\.pt2 takes clips of exactly 4 frames; given 5"):
        load_exported(tmp_path / "a.pt2")(clips_of(network, 1, 5))


@pytest.mark.slow
@pytest.mark.parametrize("block", ["self_attention", "dual_attention", "object_context"])
def test_blocks_without_heads_are_written_as_onnx(block: str, tmp_path: Path) -> None:
    """torch.onnx converts no attention without an axis of heads. The export compares the scores."""
    report = export_model(without_branches(awake(block=block, block_options={})), tmp_path / "network.onnx")
    assert report.worst.within(1e-4)
    assert report.notes == []


@pytest.mark.slow
def test_a_network_of_two_pathways_has_one_length(tmp_path: Path) -> None:
    """OpenVINO runs its graph at other lengths, too, and gives scores of other clips than it was given."""
    clip = {"num_frames": 8, "crop_px": 32}
    network = awake(backbone="slowfast_r50", insert=None, backbone_options={"width": 8}, clip=clip)
    without_repeats(network, keep=1)
    report = export_model(without_branches(network), tmp_path / "a.xml")
    assert report.description.input == "float32 b 3 8 32 32"
    assert report.notes == ["the file takes only clips of 8 frames: the graph fails at other lengths."]


@pytest.mark.slow
def test_a_graph_that_is_wrong_at_other_lengths_is_made_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As happens where a window of attention is as long as the clip: the graph keeps one of two ways."""
    from farfield.exporters import operator_forms

    right = operator_forms.softmax_attention

    def only_for_four_frames(theta: Any, phi: Any, g: Any, *, scale: float = 1.0) -> Any:
        return right(theta, phi, g, scale=scale) * (4 * 4 * 4 / theta.shape[-2])  # 4 x 4 positions in each of 4 frames

    monkeypatch.setattr(operator_forms, "softmax_attention", only_for_four_frames)
    report = export_model(without_branches(awake()), tmp_path / "a.pt2")
    assert report.notes == ["the file takes only clips of 4 frames: the graph's scores are wrong at other lengths."]
    assert not report.description.any_length
    assert [each.name for each in tmp_path.iterdir()] == ["a.pt2"]


@pytest.mark.slow
def test_a_graph_for_any_length_that_fails_at_the_own_one_is_not_said_to_fail_at_others(
    network: ActionNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path) -> Any:
        exported = load_exported(path)

        def call(clips: torch.Tensor) -> torch.Tensor:
            if exported.description.any_length and len(clips) == 3:
                raise FarfieldError("no batch of three")
            return exported(clips)

        return call

    monkeypatch.setattr(export_file, "load_exported", load)
    report = export_model(network, tmp_path / "a.pt2")
    assert report.notes == [
        "the file takes only clips of 4 frames: the graph that takes any number of frames cannot be run."
    ]
    assert not report.description.any_length


@pytest.mark.slow
def test_above_the_tolerance_nothing_is_written(network: ActionNet, tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.xml"  # of two files
    with pytest.raises(FarfieldError, match=r"was not written: on .* random clip.* the tolerance is 1e-12"):
        export_model(network, out, ExportOptions(tolerance=1e-12))
    assert not list(tmp_path.iterdir())


def test_no_number_is_within_no_tolerance() -> None:
    assert ParityDifference("", 4, 1e-5, 1e-5).within(1e-4)
    for wrong in (
        ParityDifference("", 4, float("nan"), 0),
        ParityDifference("", 4, 0, float("nan")),
        ParityDifference("", 4, 0, 1e-3),
    ):
        assert not wrong.within(1e-4)


@pytest.mark.slow
def test_an_interrupted_export_leaves_nothing(
    network: ActionNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> ExportedNet:
        assert path.is_file()  # it has been written, in a folder beside its place
        assert path.parent.parent == tmp_path
        raise KeyboardInterrupt

    monkeypatch.setattr(export_file, "load_exported", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_model(network, tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "a.onxx",
            {},
            "has no suffix of an export format: .onnx, .xml, .pt2. Give one of these. To write a folder",
        ),
        ("a", {}, "has no suffix of an export format"),
        ("kept.onnx", {}, "kept.onnx exists already. Choose another name"),
        ("kept.xml", {}, "kept.bin exists already"),
        ("a.onnx", {"int8": True}, "int8 is for OpenVINO"),
        ("a.xml", {"int8": True}, "Give clips"),
        ("a.xml", {"num_calibration_clips": 0}, "num_calibration_clips is 0; it must be at least 1"),
        ("a.pt2", {"tolerance": -1.0}, "tolerance is -1.0; it must be at least 0"),
        ("a.pt2", {"tolerance": float("nan")}, "tolerance is nan"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    name: str, options: dict[str, Any], message: str, network: ActionNet, tmp_path: Path
) -> None:
    for kept in ("kept.onnx", "kept.bin"):
        (tmp_path / kept).write_text("somebody's")
    with pytest.raises(FarfieldError, match=message):
        export_model(network, tmp_path / name, ExportOptions(**options))
    assert {each.read_text() for each in tmp_path.iterdir()} == {"somebody's"}


@pytest.mark.slow
@pytest.mark.dependency
def test_eight_bits_are_measured(
    network: ActionNet,
    make_video: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("nncf")
    somebodys = logging.NullHandler()
    monkeypatch.setattr(logging.getLogger("nncf"), "handlers", [*logging.getLogger("nncf").handlers, somebodys])
    paths = [make_video(30), make_video(60), make_video(40)]
    videos = [
        ReferenceVideo(path, VideoRecord(str(path), ""), target)
        for path, target in zip(paths, (0, 1, None), strict=True)
    ]
    clips = decode_reference_clips(videos, network.clip)
    report = export_model(network, tmp_path / "a.xml", ExportOptions(int8=True), clips=clips)
    assert somebodys.level == logging.NOTSET
    assert "nncf" not in "".join(capfd.readouterr())
    accuracy = report.accuracy
    assert accuracy is not None
    assert report.description.int8
    assert report.worst.logits < 1e-4  # of the float graph
    int8 = load_exported(tmp_path / "a.xml")
    assert int8.description.int8
    apart, same, right = [], [], []
    for clip in clips:
        x = normalised(clip.frames, network.clip)
        with torch.no_grad():
            ours, theirs = network(x)[0].softmax(-1), int8(x)[0].softmax(-1)
        apart.append(float((ours - theirs).abs().max()))
        same.append(bool(ours.argmax() == theirs.argmax()))
        right.append((int(ours.argmax()) == clip.target, int(theirs.argmax()) == clip.target))
    assert max(apart) > 1e-4  # 8 bits are no float
    assert accuracy.videos == 3
    assert accuracy.largest == pytest.approx(max(apart), rel=1e-3)
    assert accuracy.mean == pytest.approx(sum(apart) / 3, rel=1e-3)
    assert accuracy.agreement == pytest.approx(sum(same) / 3)
    assert accuracy.top1 == pytest.approx(sum(ours for ours, _ in right[:2]) / 2)
    assert accuracy.top1_int8 == pytest.approx(sum(theirs for _, theirs in right[:2]) / 2)
    assert {each.name for each in tmp_path.iterdir()} == {"a.xml", "a.bin"}
    assert report.bytes == sum(each.stat().st_size for each in tmp_path.iterdir())


def test_videos_are_spread_over_the_calibration() -> None:
    assert spread(3, 128) == [0, 1, 2]
    assert spread(100, 3) == [0, 49, 99]
    assert other_lengths(8) == [4, 9, 16]
    assert other_lengths(1) == [2]
