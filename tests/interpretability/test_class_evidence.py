from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from farfield import build_model
from farfield.interpretability.class_evidence import Evidence, class_evidence, draw_evidence
from interpretability.test_attention_maps import network, two_pathways

CLIP = (1, 3, 5, 40, 56)


def test_the_mean_over_time_is_the_networks_score() -> None:
    made, clip = network(), torch.randn(CLIP)
    torch.nn.init.normal_(made.head.fc.weight)
    torch.nn.init.normal_(made.head.fc.bias)
    found = class_evidence(made, clip)
    assert isinstance(found, Evidence)
    assert found.scores.shape == (5, 3)
    torch.testing.assert_close(found.scores.mean(0), made(clip)[0].detach())
    assert found.middles == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    features: Any = made.backbone(clip)[0].detach()
    for t in range(5):  # each moment pooled and classified by itself
        expected = made.head.fc.weight @ features[:, t].mean((1, 2)) + made.head.fc.bias
        torch.testing.assert_close(found.scores[t], expected.detach())
    assert float(found.scores.std(0).min()) > 1e-3


def test_a_slow_step_is_repeated_for_alpha_fast_steps() -> None:
    made, clip = two_pathways(), torch.randn(1, 3, 16, 48, 48)
    torch.nn.init.normal_(made.head.fc.weight)
    found = class_evidence(made, clip)
    assert isinstance(found, Evidence)
    assert found.scores.shape == (16, 3)
    torch.testing.assert_close(found.scores.mean(0), made(clip)[0].detach(), rtol=1e-4, atol=1e-4)
    assert found.middles * 16 == pytest.approx(np.arange(16) + 0.5)
    with torch.no_grad():
        slow, fast = made.backbone(clip)
    vector = torch.cat([slow[0, :, 6 // 4].mean((1, 2)), fast[0, :, 6].mean((1, 2))])
    torch.testing.assert_close(found.scores[6], made.head.fc(vector).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", ["window_mean", "window_softmax_mean"])
def test_windows_that_weight_steps_unequally_have_no_evidence(head: Any) -> None:
    made = build_model("tiny", num_classes=3, head=head, clip={"num_frames": 5, "crop_px": 40}).eval()
    torch.nn.init.normal_(made.head.fc.weight)
    same = torch.randn(1, 3, 5, 40, 40)  # one window, which is all there is
    found = class_evidence(made, same)
    assert isinstance(found, Evidence)
    torch.testing.assert_close(found.scores.mean(0), made(same)[0].detach())
    larger = class_evidence(made, torch.randn(1, 3, 7, 56, 56))
    assert larger == f"no evidence over time: the {head} head's pooling windows weight time steps unequally."


@pytest.mark.slow
def test_networks_that_do_not_pool_over_time_last_have_no_evidence() -> None:
    x3d = build_model("x3d_xs", num_classes=3).eval()
    assert str(class_evidence(x3d, torch.randn(1, 3, 4, 64, 64))).startswith(
        "no evidence over time: there is a nonlinear"
    )
    swin = build_model("swin3d_t", num_classes=3)
    assert str(class_evidence(swin, torch.randn(1, 3, 4, 64, 64))).startswith(
        "no evidence over time: the network outputs one"
    )


def test_the_best_classes_are_drawn_over_seconds() -> None:
    scores = torch.tensor([[1.0, 5, 0, 1], [3, 5, 0, 1], [2, 8, 0, 1]])
    figure = draw_evidence(
        Evidence(scores, np.array([0.2, 0.5, 0.8])), [1.5, 2.5, 3.5], ["a", "$b$", "c", "d"], top_k=2
    )
    figure.canvas.draw()
    curves = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 3]  # type: ignore[arg-type]
    assert [line.get_ydata().tolist() for line in curves] == [[5, 5, 8], [1, 3, 2]]  # type: ignore[union-attr]
    assert list(curves[0].get_xdata()) == [1.5, 2.5, 3.5]  # type: ignore[arg-type]
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["$b$  +6.00", "a  +2.00"]
