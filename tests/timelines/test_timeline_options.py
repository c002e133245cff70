"""Options of timelines that depend on the network, from `predict` and from the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farfield import TimelineOptions, build_model, predict, save_model
from farfield.errors import FarfieldError
from farfield.inference.predict import PredictOptions
from farfield.models.network import ActionNet
from farfield.models.operating_point import OperatingPoint
from farfield.timelines.candidates import find_candidates, merge_candidates, suppress_overlaps
from farfield.timelines.segments import find_segments_of_each_class
from farfield.timelines.timeline_segments import check_timeline_options, per_class, timeline_segments
from multilabel import LABELS, brightness_network, write_stripes

CLIP = {"num_frames": 4, "crop_px": 24}
HEADS = ["noun:cup", "noun:door", "verb:close", "verb:open"]


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stripes(tmp_path_factory.mktemp("stripes") / "stripes.mp4")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("multilabel") / "a.ckpt"
    save_model(brightness_network(), path)
    return path


@pytest.fixture(scope="module")
def networks() -> dict[str, ActionNet]:
    single = build_model("tiny", labels=LABELS, clip=CLIP)  # type: ignore[arg-type]
    heads = build_model("tiny", labels=HEADS, task="multi_head", clip=CLIP)  # type: ignore[arg-type]
    return {"multilabel": brightness_network(), "single_label": single, "multi_head": heads}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({name: value}, f"{name} is {value}; it must be 0 or more, and finite.") for name, value in (
            *(("smooth_seconds", math.inf), ("min_seconds", math.nan)),
            *(("max_gap_seconds", -1.0), ("max_gap_seconds", math.inf)),
        )),
        *(({name: value}, f"{name} is {value}; it must be positive and finite.") for name, value in (
            *(("hop_seconds", math.inf), ("window_seconds", math.nan), ("window_seconds", math.inf)),
        )),
        ({"min_seconds": {"run": 1.0, "sit": math.inf}}, "min_seconds of 'sit' is inf; it must be 0 or more"),
        ({"threshold": math.nan}, "threshold is nan; it must be a probability"),
        ({"hysteresis": 0.0}, "hysteresis is 0.0; it must be above 0 and at most 1"),
        ({"hysteresis": math.nan}, "hysteresis is nan; it must be above 0 and at most 1"),
        ({"windows_aggregation": "max"}, "windows_aggregation is 'max'. Known: mean, nearest."),
        ({"overlaps": "softnms"}, "overlaps is 'softnms'. Known: none, soft_nms, merge. Did you mean 'soft_nms'?"),
        ({"overlaps": "merge", "num_levels": 0}, "num_levels is 0; it must be from 1 to 100."),
        ({"overlaps": "soft_nms", "soft_nms_sigma": math.inf}, "soft_nms_sigma is inf; it must be a positive number."),
        ({"min_score": math.nan}, "min_score is nan; it must be from 0 to 1."),
        ({"num_levels": 5}, "num_levels is 5, but overlaps is 'none', which does not use num_levels. Leave out "
         "num_levels, or set overlaps to soft_nms or merge."),
        ({"overlaps": "merge", "soft_nms_sigma": 0.3}, "set overlaps to soft_nms."),
    ],
)  # fmt: skip
def test_values_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FarfieldError) as error:
        TimelineOptions(**options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("multilabel", {"min_seconds": {"brite": 1.0}}, "min_seconds is set for the label 'brite', which is not a "
         "class of the network. Known: bright, dark, picture, fire. Did you mean 'bright'?"),
        ("single_label", {"max_gap_seconds": {"drak": 1.0}, "threshold": 0.5}, "is set for the label 'drak'"),
        ("single_label", {"overlaps": "merge"}, "overlaps is 'merge', but this network's task is 'single_label': "
         "segments cannot overlap, since each moment has one class. Leave out overlaps"),
        ("multi_head", {"overlaps": "soft_nms"}, "task is 'multi_head'"),
        ("single_label", {"hysteresis": 0.5}, "hysteresis is 0.5, which has no effect without a threshold"),
        ("multi_head", {"max_gap_seconds": 2.0}, "max_gap_seconds is 2.0, which has no effect without a threshold"),
        ("multi_head", {"min_seconds": {"noun:cup|verb:opne": 1.0}}, "the network has no class 'verb:opne'. Known: "
         "noun:cup, noun:door, verb:close, verb:open. Did you mean 'verb:open'?"),
        ("multi_head", {"min_seconds": {"verb:open": 1.0}}, "min_seconds is set for the label 'verb:open', which does "
         "not have one class of each head, in the order of the heads. Write a label such as noun:cup|verb:close."),
        ("multi_head", {"min_seconds": {"verb:open|noun:cup": 1.0}}, "in the order of the heads"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_the_network(
    task: str, options: dict[str, Any], message: str, networks: dict[str, ActionNet]
) -> None:
    with pytest.raises(FarfieldError) as error:
        check_timeline_options(TimelineOptions(**options), networks[task])
    assert message in str(error.value)


def test_thresholds_of_timelines_allow_hysteresis_and_gaps() -> None:
    network = build_model("tiny", labels=["a", "b"], clip=CLIP)  # type: ignore[arg-type]
    network.timeline_operating_point = OperatingPoint("f1", {"a": 0.3, "b": None}, 3)
    options = TimelineOptions(hysteresis=0.5, max_gap_seconds={"a": 1.0})
    check_timeline_options(options, network)
    times = np.arange(7.0)
    cells = np.stack([[0.6, 0.51, 0.2, 0.2, 0.55, 0.1], [0.4, 0.49, 0.48, 0.1, 0.45, 0.9]], 1)
    found = timeline_segments(times, cells, network, options)
    assert [(each.label, each.start_seconds, each.end_seconds) for each in found] == [
        *(("a", 0, 2), ("a", 4, 5), ("b", 5, 6))  # b does not reach 0.5 in the third cell
    ]
    found = timeline_segments(times, cells, network, replace(options, max_gap_seconds={"a": 2.0}))
    assert [(each.label, each.start_seconds, each.end_seconds) for each in found] == [("a", 0, 5), ("b", 5, 6)]


@pytest.mark.slow
def test_each_option_reaches_the_segments_of_a_video(networks: dict[str, ActionNet], stripes: Path) -> None:
    model = networks["multilabel"]
    plain = predict(stripes, model, timeline=TimelineOptions(hop_seconds=0.1))
    assert plain.timeline is not None
    times, cells, own = plain.timeline.times, plain.timeline.probabilities, np.full(4, 0.5)
    assert plain.segments == find_segments_of_each_class(times, cells, LABELS, own)

    def found(**options: Any) -> Any:
        return predict(stripes, model, timeline=TimelineOptions(hop_seconds=0.1, **options)).segments

    least = {"dark": 3.0}
    assert {each.label for each in found(min_seconds=least)} == {"bright", "picture"}
    joined = [each for each in found(max_gap_seconds={"dark": 4.0}) if each.label == "dark"]
    assert [(each.start_seconds, each.end_seconds) for each in joined] == [(0.0, 7.0)]
    held = found(threshold=0.9, hysteresis=0.1)
    assert held == find_segments_of_each_class(times, cells, LABELS, np.full(4, 0.9), hysteresis=0.1)
    assert held != found(threshold=0.9)
    candidates = find_candidates(times, cells, own, num_levels=4, min_seconds=0.2)
    both = {"min_seconds": 0.2, "num_levels": 4}
    expected = suppress_overlaps(times, cells, LABELS, candidates, sigma=0.3)
    assert found(overlaps="soft_nms", soft_nms_sigma=0.3, **both) == expected
    assert len(expected) > len(plain.segments)
    assert found(overlaps="merge", **both) == merge_candidates(times, cells, LABELS, candidates, num_levels=4)
    kept = found(overlaps="soft_nms", soft_nms_sigma=0.3, min_score=0.4, **both)
    assert kept == [each for each in expected if each.score >= 0.4] != expected


def test_classes_that_are_not_named_have_zero() -> None:
    assert per_class({"b": 2.0}, ["a", "b", "c"]).tolist() == [0.0, 2.0, 0.0]
    assert per_class(1.5, ["a", "b"]).tolist() == [1.5, 1.5]


def test_the_segments_of_several_heads_take_options(networks: dict[str, ActionNet]) -> None:
    times = np.arange(5.0)
    cells = np.array([[0.9, 0.1, 0.9, 0.1], [0.6, 0.4, 0.9, 0.1], [0.1, 0.9, 0.9, 0.1], [0.9, 0.1, 0.9, 0.1]])
    network = networks["multi_head"]

    def found(**options: Any) -> list[tuple[str, float, float]]:
        segments = timeline_segments(times, cells, network, TimelineOptions(threshold=0.6, **options))
        return [(each.label, each.start_seconds, each.end_seconds) for each in segments]

    cup, door = "noun:cup|verb:close", "noun:door|verb:close"
    assert found() == [(cup, 0, 1), (door, 2, 3), (cup, 3, 4)]
    assert found(hysteresis=0.8) == [(cup, 0, 2), (door, 2, 3), (cup, 3, 4)]
    assert found(hysteresis=0.8, min_seconds={door: 1.5}) == [(cup, 0, 4)]
    assert found(min_seconds={cup: 1.5}) == [(door, 2, 4)]


def test_settings_of_earlier_folders_stay_the_same() -> None:
    plain = PredictOptions(timeline=TimelineOptions(window_seconds=0.6)).settings()["windows"]
    assert plain == {"min_seconds": 0.0, "smooth_seconds": 0.0, "threshold": 0.0, "window_seconds": 0.6}
    options = TimelineOptions(min_seconds={"a": 1.0}, hysteresis=0.5, overlaps="merge")
    own = PredictOptions(timeline=options).settings()["windows"]
    assert json.loads(json.dumps(own)) == {
        "min_seconds": {"a": 1.0},
        "smooth_seconds": 0.0,
        "threshold": 0.0,
        "hysteresis": 0.5,
        "overlaps": "merge",
    }


@pytest.mark.slow
def test_the_command_takes_the_options(
    checkpoint: Path,
    stripes: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["predict", stripes, "--checkpoint", checkpoint, "--timeline", "--hop_seconds", 0.25]
    least, gaps = {"dark": 2.5, "picture": 0.5}, {"bright": 1.0}
    words = ["--hysteresis", 0.6, "--overlaps", "soft_nms", "--num_levels", 5, "--soft_nms_sigma", 0.3]
    words += ["--min_score", 0.1, "--min_seconds", json.dumps(least), "--max_gap_seconds", "{bright: 1.0}"]
    out = tmp_path / "out"
    for _ in range(2):  # the second run reads what the first has written
        assert run_farfield(*command, *words, "--json", "--out", out) == 0
        [answer] = json.loads(capsys.readouterr().out)
        options = TimelineOptions(
            hop_seconds=0.25,
            hysteresis=0.6,
            overlaps="soft_nms",
            num_levels=5,
            soft_nms_sigma=0.3,
            min_score=0.1,
            min_seconds=least,
            max_gap_seconds=gaps,
        )
        expected = predict(stripes, checkpoint, timeline=options).to_dict()["segments"]
        assert len(answer["segments"]) == len(expected) > 0
        for one, other in zip(answer["segments"], expected, strict=True):
            assert one == pytest.approx(other, abs=1e-4)
        assert any(each["score"] != each["probability"] for each in answer["segments"])
    assert run_farfield(*command, "--json", "--out", out) == 2
    assert "predictions made with other settings" in capsys.readouterr().err
    for surplus, message in (
        (
            ["--min_seconds", "{darc: 1.0}"],
            "min_seconds is set for the label 'darc', which is not a class of the network.",
        ),
        (["--min_seconds", ".inf"], "min_seconds is inf; it must be 0 or more, and finite."),
        (
            ["--max_gap_seconds", "{dark: long}"],
            "max_gap_seconds is {'dark': 'long'}; it must be a number, or a mapping of names to numbers, such as "
            "{name: 1.0}.",
        ),
        (["--overlaps", "merge", "--soft_nms_sigma", 0.3], "soft_nms_sigma is 0.3, but overlaps is 'merge'"),
    ):
        assert run_farfield(*command, *surplus) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.out == ""
    plain = ["predict", stripes, "--checkpoint", checkpoint]
    assert run_farfield(*plain, "--overlaps", "merge") == 2
    assert "--overlaps only applies with --timeline. Add --timeline" in capsys.readouterr().err
    assert run_farfield(*plain, "--live", "--hysteresis", 0.5) == 2
    assert "--hysteresis only applies to alarms. Add --alarms" in capsys.readouterr().err
