"""Class weights against scikit-learn's formula and the code of the authors of the effective number of samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from farfield.errors import FarfieldError
from farfield.training.class_weights import compute_class_weights
from farfield.training.loss import LossSettings

LABELS = ["clap", "fall", "sit", "wave"]
COUNTS = [190, 7, 61, 23]


@pytest.mark.parametrize(
    "settings",
    [LossSettings("inverse"), LossSettings("effective", effective_beta=0.97), LossSettings({"fall": 5.0, "sit": 0.1})],
)
def test_mean_weight_of_the_training_videos_is_1(settings: LossSettings) -> None:
    weights = compute_class_weights(settings, LABELS, COUNTS)
    assert weights is not None
    assert weights.dtype == torch.float32
    videos = torch.repeat_interleave(weights.double(), torch.tensor(COUNTS))
    assert float(videos.mean()) == pytest.approx(1, rel=1e-6)


def test_inverse_weights_are_those_that_scikit_learn_calls_balanced() -> None:
    weights = compute_class_weights(LossSettings("inverse"), LABELS, COUNTS)
    expected = sum(COUNTS) / (len(COUNTS) * np.array(COUNTS))  # the formula in its documentation
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    y = np.repeat(np.arange(4), COUNTS)
    np.testing.assert_allclose(weights, compute("balanced", classes=np.arange(4), y=y), rtol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.99, 0.9999])
def test_ratios_of_effective_weights_are_those_of_the_authors_code(beta: float) -> None:
    """The code is src/cifar_main.py of richardaecn/class-balanced-loss, commit 0ab6eb7."""
    weights = compute_class_weights(LossSettings("effective", effective_beta=beta), LABELS, COUNTS)
    effective_num = 1.0 - np.power(beta, COUNTS)
    theirs = (1.0 - beta) / np.array(effective_num)
    theirs = theirs / np.sum(theirs) * len(COUNTS)
    np.testing.assert_allclose(weights / weights.mean(), theirs, rtol=1e-6)


def test_effective_weights_approach_inverse_ones() -> None:
    inverse = compute_class_weights(LossSettings("inverse"), LABELS, COUNTS)
    effective = compute_class_weights(LossSettings("effective", effective_beta=1 - 1e-7), LABELS, COUNTS)
    torch.testing.assert_close(effective, inverse, rtol=1e-4, atol=0)


def test_classes_that_are_not_named_have_weight_1_before_scaling() -> None:
    weights = compute_class_weights(LossSettings({"fall": 5.0, "sit": 0.5}), LABELS, COUNTS)
    assert weights is not None
    np.testing.assert_allclose(weights / weights[0], [1, 5, 0.5, 1], rtol=1e-6)


@pytest.mark.parametrize("kind", ["inverse", "effective", {"fall": 5.0}])
def test_class_without_videos_has_weight_1(kind) -> None:
    weights = compute_class_weights(LossSettings(kind), LABELS, [3, 0, 5, 2])
    assert weights is not None
    assert float(weights[1]) == 1
    assert float((weights * torch.tensor([3, 0, 5, 2])).sum() / 10) == pytest.approx(1)


def test_log_states_videos_and_weights_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "farfield")
    compute_class_weights(LossSettings("inverse"), ["fall", "others"], [10, 190])
    assert caplog.messages == [
        "class weights of the loss: others 0.526 (190 of 200 videos), fall 10 (10 of 200 videos)"
    ]


def test_log_lists_20_classes_at_most(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "farfield")
    compute_class_weights(LossSettings("inverse"), [f"c{i}" for i in range(23)], list(range(1, 24)))
    (message,) = caplog.messages
    assert message.count(" of 276 videos") == 20
    assert "c13 0.857 (14 of 276 videos), ... 3 more classes ..., c9 1.2 (10 of 276 videos)" in message
    caplog.clear()
    compute_class_weights(LossSettings("inverse"), [f"c{i}" for i in range(20)], list(range(1, 21)))
    assert "more classes" not in caplog.messages[0]


def test_unknown_name_and_missing_counts_are_refused() -> None:
    with pytest.raises(FarfieldError, match=r"has a weight for 'fell', which is not a class.*mean 'fall'"):
        compute_class_weights(LossSettings({"fell": 5.0}), LABELS, COUNTS)
    with pytest.raises(FarfieldError, match=r"loss.class_weights is set, but class_counts is not"):
        compute_class_weights(LossSettings("inverse"), LABELS, None)
    assert compute_class_weights(LossSettings(), LABELS, None) is None
