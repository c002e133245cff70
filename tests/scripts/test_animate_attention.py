"""scripts/animate_attention.py: clips play, and arrows of the block that looks farthest grow to their whole length."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import animate_attention as script
import numpy as np
import pytest
from PIL import Image

from farfield import build_model
from farfield.checkpoints.checkpoint import save_model
from farfield.interpretability.explanation import Explanation, explain_video
from farfield.interpretability.strongest_connections import Connection
from farfield.models.network import ActionNet
from farfield.synthetic.synthesize import synthesize

CLIP = {"num_frames": 8, "crop_px": 32, "sampling": "segments", "num_clips": 1, "num_crops": 1}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = synthesize("recall", tmp_path_factory.mktemp("recall"), num_train=2, num_val=2, num_test=2, progress=False)
    return next((folder / "videos").glob("test_*"))


@pytest.fixture(scope="module")
def network() -> ActionNet:
    return build_model("tiny", labels=["different", "same"], insert={"res3": [1], "res4": [1]}, clip=CLIP)


@pytest.fixture(scope="module")
def explanation(clip: Path, network: ActionNet) -> Explanation:
    return explain_video(clip, network)


def test_frames_of_the_box_and_of_the_arrow_are_shown(explanation: Explanation) -> None:
    for block in explanation.blocks:
        shown = script.columns_of(explanation, block)
        assert len(shown) == script.COLUMNS
        assert {int(block.shown.query[0] * 8), int(block.connections[0].t * 8)} <= set(shown)


def test_an_arrow_grows_from_the_box(explanation: Explanation) -> None:
    t, h, w = explanation.blocks[0].shown.query
    block = replace(explanation.blocks[0], connections=[Connection(0.06 if t > 0.5 else 0.94, 1 - h, w, 1.0)])
    shown = script.columns_of(explanation, block)
    red = [
        (np.abs(script.draw(explanation, block, shown, 7, grown) - np.array([224, 32, 16.0])).max(-1) < 20).sum()
        for grown in (0.0, 0.5, 1.0)
    ]
    assert red[0] < red[1] < red[2]


@pytest.mark.slow
def test_the_script_writes_an_animation(
    clip: Path, network: ActionNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(network, tmp_path / "a.ckpt")
    out = tmp_path / "a.webp"
    monkeypatch.setattr("sys.argv", ["animate", str(clip), "--checkpoint", str(tmp_path / "a.ckpt"), "--out", str(out)])
    script.main()
    with Image.open(out) as picture:
        assert picture.size == (script.WIDTH_PX, script.HEIGHT_PX)
        assert picture.n_frames >= script.COLUMNS + script.GROWTH_STEPS
