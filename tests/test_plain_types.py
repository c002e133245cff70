"""NumPy's numbers among the options: what is saved holds Python's own types, and is read again."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farfield import build_model, evaluate, load_model, save_model
from farfield.evaluation.timeline_run import TimelineRun
from farfield.inference.predict import PredictOptions
from farfield.plain_types import plain
from farfield.timelines.options import TimelineOptions


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.5), 0.5),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        ({"a": (np.int8(1), [np.float16(2)])}, {"a": [1, [2.0]]}),
        ({np.int64(1): None, "a": 1}, {1: None, "a": 1}),
        (True, True),
        (Fraction(1, 3), Fraction(1, 3)),
        (np.datetime64(1, "ns"), np.datetime64(1, "ns")),
    ],
)
def test_numbers_become_pythons(value: Any, wanted: Any) -> None:
    found = plain(value)
    assert (found, type(found)) == (wanted, type(wanted))


@pytest.mark.parametrize(
    "options",
    [
        {"clip": {"num_frames": np.int64(4)}},
        {"clip": {"target_fps": np.float32(15)}},
        {"clip": {"mean": np.array([0.4, 0.4, 0.4])}},
        {"dropout": np.float64(0.1)},
        {"insert": {"res3": [np.int64(1)]}},
        {"insert": {"res3": [1]}, "block_options": {"inner_channels": np.int64(4)}},
        {"insert": {"top": np.int64(1)}},
        {"backbone_options": {"width": np.int64(8)}},
        {"head": "attentive", "head_options": {"depth": np.int64(1), "num_heads": np.int64(2)}},
    ],
)
def test_a_network_of_numpys_numbers_is_saved_and_loaded(options: dict[str, Any], tmp_path: Path) -> None:
    network = build_model("tiny", num_classes=np.int64(2), **options)
    save_model(network, tmp_path / "a.ckpt")
    loaded = load_model(tmp_path / "a.ckpt", for_training=True)
    assert loaded.config == network.config
    assert loaded.clip == network.clip
    json.dumps([loaded.config, loaded.clip.to_dict()])


def test_settings_and_reports_are_written(figures: Path, tmp_path: Path) -> None:
    options = PredictOptions(np.int64(2), num_crops=np.int64(1), timeline=TimelineOptions(np.float32(0.5)))
    json.dumps(options.settings())
    assert type(TimelineRun(TimelineOptions(), num_crops=np.int64(1)).num_crops) is int
    network = build_model("tiny", labels=read_labels(figures), clip={"num_frames": 4, "crop_px": 32})
    evaluate(
        network,
        figures / "test.csv",
        num_clips=np.int64(1),
        num_crops=np.int64(1),
        num_workers=0,
        out=tmp_path / "test",
        progress=False,
    )
    about = json.loads((tmp_path / "test/report.json").read_text())
    assert (about["num_clips"], about["num_crops"]) == (1, 1)


def read_labels(figures: Path) -> list[str]:
    from farfield.data.manifest import read_manifest

    return read_manifest(figures / "test.csv").labels
