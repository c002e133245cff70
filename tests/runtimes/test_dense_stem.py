from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13 as op

from exporters.networks import awake
from farfield.exporters.export_file import export_model
from farfield.runtimes import exported_network
from farfield.runtimes.dense_stem import make_stem_dense
from farfield.runtimes.exported_network import load_exported
from farfield.runtimes.signal_stack import keep_signal_stack


def convolution(kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]) -> tuple[Any, np.ndarray]:
    """A graph of one convolution, of any batch and length, and its weight."""
    weight = np.random.default_rng(0).standard_normal((5, 3, *kernel)).astype(np.float32)
    clips = op.parameter(openvino.PartialShape([-1, 3, -1, 23, 36]), np.float32)
    node = op.convolution(clips, op.constant(weight), list(stride), list(padding), list(padding), [1, 1, 1])
    return openvino.Model([node], [clips]), weight


def run(model: Any, clips: np.ndarray) -> torch.Tensor:
    with keep_signal_stack():
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return torch.from_numpy(compiled([clips])[0].copy())


def widths(model: Any) -> list[int]:
    """The input channels of its convolutions."""
    return [
        n.input(1).get_partial_shape()[1].get_length() for n in model.get_ops() if n.get_type_name() == "Convolution"
    ]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((5, 7, 7), (1, 2, 2), (2, 3, 3)), ((1, 7, 4), (1, 2, 3), (0, 3, 1)), ((3, 5, 5), (2, 4, 2), (1, 2, 2))],
)
def test_is_pytorchs_convolution(kernel: Any, stride: Any, padding: Any) -> None:
    model, weight = convolution(kernel, stride, padding)
    make_stem_dense(model)
    assert widths(model) == [3 * kernel[0] * stride[1] * stride[2]]
    for shape in ((1, 3, 7, 23, 36), (2, 3, 8, 23, 36)):
        clips = torch.randn(shape)
        expected = torch.conv3d(clips.double(), torch.from_numpy(weight).double(), stride=stride, padding=padding)
        torch.testing.assert_close(run(model, clips.numpy()).double(), expected, rtol=1e-4, atol=1e-4)


def test_leaves_other_convolutions_as_they_are() -> None:
    model, _ = convolution((3, 3, 3), (2, 1, 1), (1, 1, 1))
    make_stem_dense(model)
    assert widths(model) == [3]


@pytest.mark.slow
def test_bfloat16_file_has_a_dense_stem_on_matrix_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = awake()
    export_model(network, tmp_path / "a.xml")
    seen: list[list[int]] = []
    compile_model = openvino.Core.compile_model

    def noting(core: Any, model: Any, *given: Any) -> Any:
        seen.append(widths(model))
        return compile_model(core, model, *given)

    monkeypatch.setattr(openvino.Core, "compile_model", noting)
    clips = torch.randn(2, 3, network.clip.num_frames, network.clip.test_side_px, network.clip.test_side_px)
    expected = load_exported(tmp_path / "a.xml")(clips)
    for units in (False, True):
        monkeypatch.setattr(exported_network, "has_matrix_units", lambda units=units: units)
        logits = load_exported(tmp_path / "a.xml", precision="bfloat16")(clips)
        assert float((logits - expected).abs().max() / expected.abs().max()) < 0.05
    assert [3 in channels for channels in seen] == [True, True, False]
