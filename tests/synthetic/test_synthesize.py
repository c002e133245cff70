from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from farfield.data.manifest import read_manifest
from farfield.errors import FarfieldError
from farfield.synthetic import figures as figures_task
from farfield.synthetic import recall
from farfield.synthetic.synthesize import synthesize
from farfield.video.decoders import open_video


def test_frames_are_reproducible(figures: Path) -> None:
    """The hash was taken where the task was written; a change of it is a change of the data set."""
    kept = json.loads((figures / "synthesis.json").read_text())
    assert kept["sha256_of_frames"]["val"] == "5747752d18d029f8e05b3310ca2d6d1537d2be6f466584d0188c65f3d0d94536"


def test_splits_are_balanced_and_share_no_video(figures: Path) -> None:
    splits = {split: read_manifest(figures / f"{split}.csv") for split in ("train", "val", "test")}
    assert set(Counter(row.label for row in splits["train"]).values()) == {2}
    assert splits["test"].labels == figures_task.LABELS
    first = {}
    for split, manifest in splits.items():
        with open_video(manifest.path(0)) as video:
            first[split] = video.frames(np.array([20]))
    assert not np.array_equal(first["train"], first["val"])
    assert not np.array_equal(first["val"], first["test"])


def test_files_are_what_the_manifest_says(figures: Path) -> None:
    manifest = read_manifest(figures / "test.csv")
    row = manifest[3]
    with open_video(manifest.path(3)) as video:
        assert len(video.times) == row.num_frames
        assert video.frames(np.array([0])).shape[1:3] == (row.height, row.width)


@pytest.mark.parametrize("label", sorted(figures_task.MIRRORED_NAMES))
def test_a_reversed_action_is_its_time_reversed_class(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same draws, each frame of one shows the progress that is left to the other, in the same scene."""
    drawn: dict[str, list] = {}

    def draw(scene: object, action: object, progress: float, time: float) -> np.ndarray:
        drawn.setdefault(name, []).append((action, progress, time))
        return original(scene, action, progress, time)

    original = figures_task.Scene.draw
    monkeypatch.setattr(figures_task.Scene, "draw", draw)
    frames = {}
    for name in (label, figures_task.MIRROR[label]):
        frames[name] = list(figures_task.render(name, np.random.default_rng(7)))
    there, back = drawn[label], drawn[figures_task.MIRROR[label]]
    assert len(there) == figures_task.NUM_FRAMES
    assert [progress for _, progress, _ in there] == sorted(progress for _, progress, _ in there)
    assert (there[0][1], there[-1][1]) == (0, 1)
    for (action, progress, time), (mirrored, left, moment) in zip(there, back, strict=True):
        assert action is mirrored
        assert left == pytest.approx(1 - progress)
        assert time == moment
    assert not np.array_equal(frames[label][0], frames[figures_task.MIRROR[label]][0])


@pytest.mark.slow
def test_a_single_cue_is_not_informative() -> None:
    """Counted over many videos, each cue's colour is as frequent in both classes; together they tell."""
    counts: dict[tuple[str, int], Counter] = {}
    for label in recall.LABELS:
        for seed in range(120):
            frames = list(recall.render(label, np.random.default_rng([1, seed])))
            colours = []
            for cue in (0, -1):
                changed = np.abs(frames[cue].astype(int) - frames[16].astype(int)).sum(-1) > 200
                red, green, blue = frames[cue][changed].mean(0)
                colours.append((red > 128, green > 128, blue > 128))
                counts.setdefault((label, cue), Counter())[colours[-1]] += 1
            assert (colours[0] == colours[1]) == (label == "same")
    for cue in (0, -1):
        same, different = counts["same", cue], counts["different", cue]
        assert len(same) == len(different) == len(recall.COLOURS)
        assert all(abs(same[colour] - different[colour]) < 30 for colour in same)


def test_cues_are_early_and_late_and_in_opposite_corners() -> None:
    frames = np.stack(list(recall.render("same", np.random.default_rng(3)))).astype(int)
    shown = (np.abs(frames - frames[16]).sum(-1) > 200).reshape(recall.NUM_FRAMES, -1).any(1)
    assert shown.tolist() == [True] * 4 + [False] * 24 + [True] * 4

    def centre(frame: np.ndarray) -> np.ndarray:
        return np.argwhere(np.abs(frame - frames[16]).sum(-1) > 200).mean(0)

    assert (np.abs(centre(frames[0]) - centre(frames[-1])) > 24).all()


def test_the_same_call_keeps_the_data_set_and_another_is_refused(tmp_path: Path, figures: Path) -> None:
    before = (figures / "train.csv").stat().st_mtime_ns
    synthesize("figures", str(figures), num_train=20, num_val=10, num_test=10)
    assert (figures / "train.csv").stat().st_mtime_ns == before
    with pytest.raises(FarfieldError, match=r"data set: num_train was 20, now 30\. Choose another folder"):
        synthesize("figures", str(figures), num_train=30, num_val=10, num_test=10)
    (tmp_path / "train.csv").write_text("my own")
    with pytest.raises(FarfieldError, match="has files that do not belong"):
        synthesize("recall", str(tmp_path))
    with pytest.raises(FarfieldError, match="num_test to 10 or more"):
        synthesize("figures", str(tmp_path / "new"), num_val=3)
