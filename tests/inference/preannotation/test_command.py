"""`farfield predict --write TOOL`, and `farfield data index` of what it wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farfield import build_model
from farfield.checkpoints.checkpoint import save_model
from farfield.data.manifest import read_manifest

LABELS = ["jump", "run & <fall>", "wave"]

Run = Callable[..., int]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("checkpoint") / "a.ckpt"
    save_model(build_model("tiny", labels=LABELS, clip={"num_frames": 4, "crop_px": 24}), path)
    return path


@pytest.mark.slow
def test_predictions_are_written_for_each_tool_and_indexed(
    checkpoint: Path, make_video: Callable[..., Path], tmp_path: Path, run_farfield: Run
) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    for name, frames in (("a.mp4", 60), ("b.mp4", 40)):
        shutil.copy(make_video(frames), videos / name)
    command = ["predict", videos, "--checkpoint", checkpoint, "--out", out, "--timeline", "--hop_seconds", 0.4]
    assert run_farfield(*command) == 0
    assert (
        run_farfield(*command, "--write", "labelstudio,cvat,fiftyone,eaf") == 0
    )  # of predictions that were made before
    lines = map(json.loads, (out / "predictions.jsonl").read_text().splitlines())
    expected = {Path(line["path"]).name: line["segments"] for line in lines}
    for tool, saved in (("cvat", out / "cvat"), ("fiftyone", out / "fiftyone/labels.json"), ("eaf", out / "eaf")):
        index = tmp_path / f"{tool}.csv"
        words = ["data", "index", videos, index, "--format", tool, "--annotations", saved]
        assert run_farfield(*words, *([] if tool == "eaf" else ["--fps", 25])) == 0
        for name, segments in expected.items():
            rows = [row for row in read_manifest(index) if Path(row.path).name == name]
            assert [row.label for row in rows] == [each["label"] for each in segments]
            assert [row.start_seconds for row in rows] == pytest.approx(
                [each["start_seconds"] for each in segments], abs=0.021
            )
    tasks = json.loads((out / "labelstudio/tasks.json").read_text())
    assert [len(task["predictions"][0]["result"]) for task in tasks] == [
        len(expected[name]) for name in ("a.mp4", "b.mp4")
    ]
    assert [entry["name"] for entry in json.loads((out / "cvat/labels.json").read_text())] == LABELS


def test_tools_need_a_timeline(
    checkpoint: Path, tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", tmp_path, "--checkpoint", checkpoint, "--out", tmp_path / "out", "--write", "eaf"]
    assert run_farfield(*command) != 0
    assert "eaf files need the times of actions, which only a timeline has" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
