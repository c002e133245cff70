from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import f1_score, precision_score, recall_score
from torchmetrics.functional.classification import binary_precision_at_fixed_recall, binary_recall_at_fixed_precision

from evaluation.test_resampling import scored
from farfield import build_model, save_model
from farfield.checkpoints.checkpoint import checkpoint_metadata, load_network, save_operating_point
from farfield.commands.test_summary import thresholds_line
from farfield.data.manifest import Manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.evaluation.threshold_choice import (
    ThresholdRule,
    choose_thresholds,
    decide,
    hours_of_video,
    warn_of_few_detections,
)
from farfield.models.operating_point import OperatingPoint

LABELS = list("abcde")


@pytest.mark.parametrize("kind", ["random", "ties", "all equal", "one positive"])
@pytest.mark.parametrize("value", [0.3, 0.5, 0.75, 0.95, 1.0])
def test_thresholds_are_torchmetrics(kind: str, value: float) -> None:
    scores, targets = scored(kind)
    by_precision = choose_thresholds(scores, targets, LABELS, ThresholdRule("precision", value)).thresholds
    by_recall = choose_thresholds(scores, targets, LABELS, ThresholdRule("recall", value)).thresholds
    for c, label in enumerate(LABELS):
        given = scores[:, c].double(), targets[:, c].long()
        theirs = binary_recall_at_fixed_precision(*given, min_precision=value)[1].item()
        none = theirs != theirs or theirs == 1e6  # NaN; before torchmetrics 1.9 it was 10^6
        assert by_precision[label] == (None if none else pytest.approx(theirs, abs=2e-6))
        theirs = binary_precision_at_fixed_recall(*given, min_recall=value)[1].item()
        assert by_recall[label] == pytest.approx(theirs, abs=2e-6)


@pytest.mark.parametrize("kind", ["random", "ties", "all equal", "one positive"])
def test_no_threshold_has_a_higher_f1(kind: str) -> None:
    """scikit-learn measures every candidate."""
    scores, targets = scored(kind)
    chosen = choose_thresholds(scores, targets, LABELS, ThresholdRule("f1"))
    decisions, has_threshold = decide(scores, LABELS, chosen)
    assert has_threshold.all()
    for c in range(5):
        wanted = targets[:, c].numpy()
        best = max(f1_score(wanted, (scores[:, c] >= limit).numpy()) for limit in scores[:, c].unique())
        assert f1_score(wanted, decisions[:, c].numpy()) == pytest.approx(best)


@pytest.mark.parametrize("kind", ["random", "ties"])
@pytest.mark.parametrize("per_hour", [0, 1, 2.5, 1000])
def test_false_alarms_are_as_many_as_allowed_and_recall_is_the_highest(kind: str, per_hour: float) -> None:
    scores, targets = scored(kind)
    rule = ThresholdRule("false_alarms_per_hour", per_hour)
    chosen = choose_thresholds(scores, targets, LABELS, rule, hours=2.0)
    decisions, has_threshold = decide(scores, LABELS, chosen)
    for c in range(5):
        wanted = targets[:, c].numpy()
        allowed = {
            recall_score(wanted, (scores[:, c] >= limit).numpy())
            for limit in scores[:, c].unique()
            if ((scores[:, c] >= limit) & ~targets[:, c]).sum() <= 2 * per_hour
        }
        if not has_threshold[c]:
            assert not allowed - {0}
            continue
        assert (decisions[:, c] & ~targets[:, c]).sum() <= 2 * per_hour
        assert recall_score(wanted, decisions[:, c].numpy()) == pytest.approx(max(allowed))


def test_of_equally_good_thresholds_the_one_with_the_fewest_false_alarms() -> None:
    scores = torch.tensor([[0.9], [0.7], [0.5], [0.3]])
    targets = torch.tensor([[True], [True], [False], [False]])
    for rule in ("f1", "precision=0.5", "recall=0.9", "false_alarms_per_hour=2"):
        chosen = choose_thresholds(scores, targets, ["a"], ThresholdRule.parse(rule), hours=1.0)
        assert chosen.thresholds["a"] == pytest.approx(0.7)
        assert (chosen.rule, chosen.validation_videos) == (rule, 4)


def test_a_class_has_no_threshold_if_none_follows_the_rule_or_it_has_no_video() -> None:
    scores = torch.tensor([[0.2, 0.9], [0.8, 0.5]])
    targets = torch.tensor([[True, False], [False, False]])
    chosen = choose_thresholds(scores, targets, ["a", "b"], ThresholdRule("precision", 0.9))
    assert chosen.thresholds == {"a": None, "b": None}
    decisions, has_threshold = decide(scores, ["a", "b"], chosen)
    assert not decisions.any()
    assert not has_threshold.any()


def test_a_threshold_that_finds_no_positive_is_none() -> None:
    """At 0.9 there is the one false alarm that is allowed, and nothing found."""
    scores, targets = torch.tensor([[0.9], [0.8], [0.5]]), torch.tensor([[False], [False], [True]])
    rule = ThresholdRule("false_alarms_per_hour", 1)
    assert choose_thresholds(scores, targets, ["a"], rule, hours=1.0).thresholds == {"a": None}
    assert choose_thresholds(scores, targets, ["a"], rule, hours=2.0).thresholds == {"a": 0.5}


def test_no_threshold_is_1_since_only_rounding_reaches_it() -> None:
    """The softmax of logits 0 and 17 is 1 - 4e-8, which float32 rounds to 1; that of 0 and 15 is 1 - 3e-7."""
    logits = torch.tensor([[17.0, 0], [15, 0], [9, 0], [0, 0]])
    scores, targets = logits.softmax(1)[:, :1], torch.tensor([[True], [True], [False], [False]])
    assert scores[0] == 1 > scores[1]
    for rule in ("precision=0.95", "f1"):
        chosen = choose_thresholds(scores, targets, ["a"], ThresholdRule.parse(rule))
        assert chosen.thresholds["a"] == pytest.approx(1 - 1e-6, abs=1e-9)
        assert decide(scores, ["a"], chosen)[0].flatten().tolist() == [True, True, False, False]
    scores[1] = 0.999  # a lower one, so that the rounded one alone is above the threshold of a rule
    chosen = choose_thresholds(scores, torch.tensor([[True], [False], [False], [False]]), ["a"], ThresholdRule("f1"))
    assert chosen.thresholds["a"] < 1


def test_few_detections_behind_a_threshold_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    scores = torch.full((60, 3), 0.1)
    targets = torch.zeros(60, 3, dtype=torch.bool)
    for c, count in enumerate((20, 3)):
        scores[:count, c] = 0.9
        targets[:count, c] = True
    rule = ThresholdRule("precision", 0.95)
    chosen = choose_thresholds(scores, targets, ["a", "b", "c"], rule)
    assert chosen.detections == {"a": 20, "b": 3, "c": None}
    warn_of_few_detections(chosen, rule)
    [message] = [record.getMessage() for record in caplog.records]
    assert message == (
        "1 of 2 thresholds were chosen on fewer than 20 detections each (b 3), so precision=0.95 may not hold on other "
        "videos. For a precision of 0.95 with 95% confidence, 59 detections without a false one are needed. Give more "
        "validation videos."
    )
    # Clopper and Pearson's exact lower bound.
    assert [binomtest(n, n).proportion_ci(0.9, "exact").low >= 0.95 for n in (58, 59)] == [False, True]
    caplog.clear()
    warn_of_few_detections(replace(chosen, detections={"a": 20, "b": 20, "c": None}), rule)
    warn_of_few_detections(replace(chosen, detections=None), rule)
    assert not caplog.records
    line = thresholds_line(chosen.to_dict(), "best.ckpt")
    assert "detections on the validation videos at the thresholds, fewest first: b 3, a 20\n" in line


def test_float32_scores_reach_their_own_threshold() -> None:
    scores = torch.rand(53, 1)
    targets = scores > 0.5
    chosen = choose_thresholds(scores, targets, ["a"], ThresholdRule("f1"))
    assert torch.equal(decide(scores, ["a"], chosen)[0], targets)
    assert precision_score(targets, decide(scores, ["a"], chosen)[0]) == 1


@pytest.mark.parametrize("rule", ["f1", "precision=0.95", "recall=0.9", "false_alarms_per_hour=1"])
def test_a_rule_is_read_as_it_is_written(rule: str) -> None:
    assert str(ThresholdRule.parse(rule)) == rule


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("f2", "choose_threshold is 'f2'. Give one of f1, precision=0.95"),
        ("f1=0.5", "choose_threshold is 'f1=0.5'. Give one of f1, precision=0.95"),
        ("precision", "choose_threshold is 'precision'. Give one of f1, precision=0.95"),
        ("precision=high", "choose_threshold is 'precision=high', whose value is not a number"),
        ("precision=95", "choose_threshold is 'precision=95'; the value must be above 0 and at most 1"),
        ("recall=0", "choose_threshold is 'recall=0'; the value must be above 0 and at most 1"),
        ("recall=nan", "choose_threshold is 'recall=nan'; the value must be above 0 and at most 1"),
        ("false_alarms_per_hour=-1", "choose_threshold is 'false_alarms_per_hour=-1'; the value must be at least 0"),
    ],
)
def test_other_rules_are_refused(rule: str, message: str) -> None:
    with pytest.raises(FarfieldError, match=re.escape(message)):
        ThresholdRule.parse(rule)


def test_hours_are_of_segments_or_whole_videos() -> None:
    records = [
        VideoRecord("a.mp4", "a", duration_seconds=3600),
        VideoRecord("b.mp4", "a", start_seconds=1800, end_seconds=3600, duration_seconds=9999),
        VideoRecord("c.mp4", "a", start_seconds=600, duration_seconds=2400),
        VideoRecord("d.mp4", "a"),
    ]
    manifest = Manifest(records, root=Path(), source="val.csv")
    assert hours_of_video(manifest, [0, 1, 2]) == 2
    with pytest.raises(FarfieldError, match=r"val\.csv has no duration_seconds for d\.mp4.*Run `farfield data index`"):
        hours_of_video(manifest, [0, 3])


@pytest.mark.parametrize(
    "content",
    [
        [],
        "f1",
        {"rule": "f1"},
        {"rule": "f1", "thresholds": {"a": 0.5}, "validation_videos": 3},
        {"rule": "f1", "thresholds": {"a": 0.5, "b": "0.5"}, "validation_videos": 3},
        {"rule": "f1", "thresholds": {"a": 0.5, "b": float("nan")}, "validation_videos": 3},
        {"rule": "f1", "thresholds": [0.5, 0.5], "validation_videos": 3},
        {"rule": "f1", "thresholds": {"a": 0.5, "b": 0.5}, "validation_videos": 3, "detections": {"a": 3}},
        {"rule": "f1", "thresholds": {"a": 0.5, "b": 0.5}, "validation_videos": 3, "detections": {"a": 3, "b": 0.5}},
        {"rule": 1, "thresholds": {"a": 0.5, "b": 0.5}, "validation_videos": 3},
        {"rule": "f1", "thresholds": {"a": 0.5, "b": 0.5}, "validation_videos": "3"},
    ],
)
def test_thresholds_that_do_not_fit_are_refused(content: object) -> None:
    with pytest.raises(FarfieldError, match=r"x\.ckpt has thresholds that do not fit its classes\. Choose them again"):
        OperatingPoint.from_dict(content, ["a", "b"], "x.ckpt")


def test_thresholds_are_read_as_they_were_written() -> None:
    point = OperatingPoint("recall=0.9", {"a": 0.25, "b": None}, 7)
    assert OperatingPoint.from_dict(point.to_dict(), ["a", "b"], "x.ckpt") == point
    counted = replace(point, detections={"a": 12, "b": None})
    assert OperatingPoint.from_dict(counted.to_dict(), ["a", "b"], "x.ckpt") == counted
    assert OperatingPoint.from_dict(None, ["a", "b"], "x.ckpt") is None


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(FarfieldError, match="scores are NaN or infinite"):
        choose_thresholds(
            torch.tensor([[math.nan], [0.5]]), torch.tensor([[True], [False]]), ["a"], ThresholdRule("f1")
        )


def test_thresholds_of_renamed_classes_are_not_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = build_model("tiny", labels=["a", "b"])
    network.operating_point = OperatingPoint("f1", {"a": 0.5, "b": None}, 3)
    assert checkpoint_metadata(network).keys() == {"format", "model", "operating_point"}
    save_model(network, tmp_path / "own.ckpt")
    assert load_network(tmp_path / "own.ckpt").operating_point == network.operating_point
    assert load_network(tmp_path / "own.ckpt").timeline_operating_point is None
    of_timelines = OperatingPoint("recall=0.9", {"a": None, "b": 0.25}, 4)
    save_operating_point(of_timelines, tmp_path / "own.ckpt", timeline=True)
    own = load_network(tmp_path / "own.ckpt")
    assert (own.operating_point, own.timeline_operating_point) == (network.operating_point, of_timelines)
    network.labels = ["c", "d"]
    save_model(network, tmp_path / "renamed.ckpt")
    assert load_network(tmp_path / "renamed.ckpt").operating_point is None
    assert "thresholds of the classes are not saved" in caplog.text


def test_videos_without_any_class_choose_no_thresholds() -> None:
    with pytest.raises(FarfieldError, match="no validation video has any class"):
        choose_thresholds(torch.rand(4, 2), torch.zeros(4, 2, dtype=torch.bool), ["a", "b"], ThresholdRule("f1"))


def test_whole_numbers_are_thresholds_too() -> None:
    point = OperatingPoint("mine", {"a": 1, "b": 0, "c": None}, 3)
    assert OperatingPoint.from_dict(point.to_dict(), ["a", "b", "c"], "a file") == point
