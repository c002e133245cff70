from __future__ import annotations

import torch

from exporters.networks import awake
from farfield.models.class_subset import restrict_labels
from farfield.models.operating_point import OperatingPoint


def test_a_multilabel_network_restricted_to_one_class_keeps_its_probability_and_threshold() -> None:
    whole = awake(task="multilabel", labels=["bow", "get_up", "wave"])
    detections = {"bow": 31, "get_up": 7, "wave": None}
    whole.operating_point = OperatingPoint("f1", {"bow": 0.2, "get_up": 0.4, "wave": None}, 9, detections)
    part = restrict_labels(whole, ["Get up"])
    assert (part.task, part.labels) == ("multilabel", ["Get up"])
    x = torch.randn(2, 3, 4, 32, 32)
    torch.testing.assert_close(part(x), whole(x)[:, 1:2])
    assert part.operating_point == OperatingPoint("f1", {"Get up": 0.4}, 9, {"Get up": 7})
    two = restrict_labels(whole, ["wave", "bow"])
    assert two.operating_point == OperatingPoint("f1", {"wave": None, "bow": 0.2}, 9, {"wave": None, "bow": 31})
    assert two.timeline_operating_point is None
    whole.timeline_operating_point = OperatingPoint("recall=0.9", {"bow": 0.1, "get_up": 0.3, "wave": 0.5}, 4)
    two = restrict_labels(whole, ["wave", "bow"])
    assert two.operating_point == OperatingPoint("f1", {"wave": None, "bow": 0.2}, 9, {"wave": None, "bow": 31})
    assert two.timeline_operating_point == OperatingPoint("recall=0.9", {"wave": 0.5, "bow": 0.1}, 4)


def test_thresholds_of_a_softmax_do_not_hold_for_fewer_classes() -> None:
    whole = awake(labels=["bow", "get_up", "wave"])
    whole.operating_point = OperatingPoint("f1", {"bow": 0.2, "get_up": 0.4, "wave": 0.1}, 9)
    assert restrict_labels(whole, ["wave", "bow"]).operating_point is None
