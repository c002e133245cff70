"""scripts/measure_recall_attention.py: the cues must lie where it says, or its figure means nothing."""

from __future__ import annotations

import json
from pathlib import Path

import measure_recall_attention as script
import numpy as np
import pytest
import torch

from farfield import build_model
from farfield.checkpoints.checkpoint import save_model
from farfield.clip_spec import ClipSpec
from farfield.interpretability.attention_maps import AttentionMap

CLIP = {"num_frames": 16, "crop_px": 32, "sampling": "segments", "num_clips": 1, "num_crops": 1}


@pytest.mark.parametrize("index", range(6))
def test_cues_lie_where_the_frames_differ_from_the_background(index: int) -> None:
    spec = ClipSpec(num_frames=16, crop_px=64, sampling="segments", short_side_px=72)
    clip, cues, label = script.render_clip(index, 0, spec)
    assert label == ["different", "same"][index % 2]
    frames = clip[0, 0].numpy().astype(float)
    background = frames[4:12].mean(0)
    for cue, shown in zip(cues, ([0, 1], [14, 15]), strict=True):
        assert cue.frames == shown
        differs = np.abs(frames[shown].mean(0) - background).max(-1) > 60
        rows, columns = np.nonzero(differs)
        middle = (rows.min() + rows.max() + 1) / 128, (columns.min() + columns.max() + 1) / 128
        assert cue.place == pytest.approx(middle, abs=0.04)


def test_near_is_within_one_cell_in_frames_that_show_it() -> None:
    attention = AttentionMap("a", (0.1, 0.1, 0.1), torch.zeros(16, 4, 8), 0.0)
    found = script.near(attention, script.Cue((0.8, 0.3), [14, 15]), 16)
    t, h, w = (set(axis.tolist()) for axis in np.nonzero(found))
    assert t == {13, 14, 15}
    assert h == {3, 2}  # middles 0.875 and 0.625, at most 0.25 away
    assert w == {2, 1}  # middles 0.3125 and 0.1875; 0.4375 is more than 0.125 away
    assert found.sum() == 12


@pytest.mark.slow
def test_the_script_measures_an_untrained_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.ckpt"
    save_model(build_model("tiny", labels=["different", "same"], insert={"res4": [1]}, clip=CLIP), path)
    monkeypatch.setattr("sys.argv", ["measure", str(path), "--clips", "3", "--json"])
    assert script.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["block"], row["query"]) for row in found["looks"]] == [
        ("res4[1]", "late to early"),
        ("res4[1]", "early to late"),
    ]
    for row in found["looks"]:
        assert row["most"]["value"] == 0  # attention is all but uniform
        assert row["entropy_share"] > 0.99
        assert row["share"] == pytest.approx(row["chance"], abs=0.08)
    monkeypatch.setattr("sys.argv", ["measure", str(path), "--clips", "0"])
    assert script.main() == 2
    assert "--clips is 0; it must be at least 1." in capsys.readouterr().err
