from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from farfield import build_model
from farfield.errors import FarfieldError
from farfield.models.head import Head


def windows_by_hand(features: torch.Tensor, window: tuple[int, int, int], fc: torch.nn.Linear) -> torch.Tensor:
    """Logits of every window, as loops: (b classes windows)."""
    t, h, w = window
    _, _, frames, height, width = features.shape
    logits = [
        fc(features[:, :, k : k + t, i : i + h, j : j + w].mean((2, 3, 4)))
        for k in range(frames - t + 1)
        for i in range(height - h + 1)
        for j in range(width - w + 1)
    ]
    return torch.stack(logits, -1)


@pytest.mark.parametrize("kind", ["gap_fc", "window_mean", "window_softmax_mean"])
def test_the_three_heads_against_loops(kind: str) -> None:
    window = (2, 3, 2)
    head = Head(5, 7, dropout=0.5, kind=kind, windows=None if kind == "gap_fc" else [window]).double().eval()
    head.fc.weight.data.normal_()
    features = torch.randn(2, 5, 3, 4, 6, dtype=torch.float64)
    scores = head(features)
    if kind == "gap_fc":
        torch.testing.assert_close(scores, head.fc(features.mean((2, 3, 4))))
    elif kind == "window_mean":
        torch.testing.assert_close(scores, windows_by_hand(features, window, head.fc).mean(-1))
    else:
        expected = windows_by_hand(features, window, head.fc).softmax(1).mean(-1)
        torch.testing.assert_close(scores.softmax(-1), expected)
        assert (scores.softmax(-1) - head.fc(features.mean((2, 3, 4))).softmax(-1)).abs().max() > 1e-3


@pytest.mark.parametrize("classes", [7, 1])
def test_the_sigmoid_of_a_multilabel_score_is_the_mean_of_the_windows_sigmoids(classes: int) -> None:
    window = (2, 3, 2)
    head = Head(5, classes, dropout=0.5, kind="window_softmax_mean", windows=[window], task="multilabel")
    head = head.double().eval()
    head.fc.weight.data.normal_(std=3)
    features = torch.randn(2, 5, 3, 4, 6, dtype=torch.float64)
    scores = head(features)
    expected = windows_by_hand(features, window, head.fc).sigmoid().mean(-1)
    torch.testing.assert_close(scores.sigmoid(), expected, rtol=1e-8, atol=1e-12)
    assert (scores.sigmoid() - windows_by_hand(features, window, head.fc).mean(-1).sigmoid()).abs().max() > 1e-3


def test_multilabel_scores_are_finite_and_right_where_a_sigmoid_is_0_in_float32() -> None:
    head = Head(5, 3, dropout=0.0, kind="window_softmax_mean", windows=[(2, 3, 2)], task="multilabel").eval()
    vectors = torch.zeros(1, 4, 5)
    vectors[0, :, 0] = torch.tensor([-300.0, -260, -240, -310])
    head.fc.weight.data = torch.eye(5)[[0, 0, 1]] * torch.tensor([1.0, -1.0, 1.0])[:, None]
    scores = head.classify(vectors)[0].tolist()
    assert scores[0] == pytest.approx(-240 - math.log(4), rel=1e-6)  # the mean is a quarter of the largest
    assert scores[1] == pytest.approx(240 + math.log(4), rel=1e-6)
    assert scores[2] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["gap_fc", "window_mean", "window_softmax_mean"])
def test_heads_agree_on_clips_of_the_training_size(kind: str) -> None:
    torch.manual_seed(0)
    network = build_model("tiny", num_classes=3, head=kind, clip={"num_frames": 5, "crop_px": 70}).eval()
    network.head.fc.weight.data.normal_()
    x = torch.randn(2, 3, 5, 70, 70)
    features = network.backbone(x)
    assert network.config["head_windows"] == (None if kind == "gap_fc" else [list(features.shape[2:])])
    torch.testing.assert_close(network(x), network.head.fc(features.mean((2, 3, 4))))


def test_each_pathway_has_its_own_window() -> None:
    network = build_model("slowfast_r50", num_classes=3, head="window_mean", backbone_options={"width": 8}).eval()
    assert network.config["head_windows"] == [[8, 7, 7], [32, 7, 7]]
    slow, fast = torch.randn(1, 256, 8, 8, 7), torch.randn(1, 32, 32, 8, 7)
    pooled = [F.avg_pool3d(x, (x.shape[2], 7, 7), stride=1).flatten(2) for x in (slow, fast)]
    expected = network.head.fc(torch.cat(pooled, 1).transpose(1, 2)).mean(1)
    torch.testing.assert_close(network.head([slow, fast]), expected)


@pytest.mark.slow
def test_invalid_heads_are_refused() -> None:
    with pytest.raises(FarfieldError, match=r"head is 'gap'. Known: gap_fc, window_mean, window_softmax_mean"):
        build_model("tiny", num_classes=3, head="gap")
    with pytest.raises(FarfieldError, match=r"\[\[1, 1, 1\]\]\. Set head_windows for 'window_mean'"):
        build_model("tiny", num_classes=3, head_windows=[[1, 1, 1]])
    with pytest.raises(FarfieldError, match="each pathway needs three lengths"):
        Head(5, 3, dropout=0.0, kind="window_mean", windows=[[2, 2]])
    with pytest.raises(
        FarfieldError, match=r"number of head_windows is 1, and the number of pathways of slowfast_r50 .* is 2"
    ):
        build_model("slowfast_r50", num_classes=3, head="window_mean", head_windows=[[8, 7, 7]])
    with pytest.raises(FarfieldError, match=r"window \[8, 3, 3\] is larger than the feature map \[8, 2, 2\]"):
        build_model("tiny", num_classes=3, head="window_mean", head_windows=[[8, 3, 3]])
    network = build_model("tiny", num_classes=3, head="window_mean")
    with pytest.raises(ValueError, match=r"the clip is smaller than in training. Give larger clips"):
        network(torch.randn(1, 3, 4, 56, 56))
