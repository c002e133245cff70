"""The command line on folders of `transformers`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.checkpoints.hugging_face_folder import is_hugging_face
from farfield.commands.test import _run_folder
from hugging_face import make_model, save

pytestmark = [pytest.mark.dependency, pytest.mark.slow]

Run = Callable[..., int]


def labels_of(manifest: Path) -> list[str]:
    with manifest.open() as file:
        return sorted({row["label"] for row in csv.DictReader(file)})


def test_a_folder_is_tested_explained_and_exported(
    figures: Path,
    tmp_path: Path,
    run_farfield: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is written beside the folder: a folder owner would hide the models owner/... of huggingface.co."""
    monkeypatch.chdir(tmp_path)
    folder = save(make_model("vivit", labels=labels_of(figures / "test.csv")), tmp_path / "owner" / "model")
    (tmp_path / "owner").rename(tmp_path / "elsewhere")
    folder = tmp_path / "elsewhere" / "model"
    options = ("--data.manifest", figures / "test.csv", "--num_clips", 1, "--num_crops", 1)
    assert run_farfield("test", "--checkpoint", folder, *options) == 0
    assert json.loads((tmp_path / "runs/model/test/report.json").read_text())["videos"] == 10
    assert sorted(each.name for each in (tmp_path / "elsewhere").iterdir()) == ["model"]
    assert is_hugging_face("owner/model")
    video = next((figures / "videos").glob("test_*.mp4"))
    assert run_farfield("explain", video, "--checkpoint", folder, "--out", tmp_path / "explained") == 0
    assert (tmp_path / "explained/grad_cam.png").is_file()
    assert "one vector for the whole clip" in capsys.readouterr().out
    assert run_farfield("export", folder, tmp_path / "a.onnx") == 0
    assert run_farfield("export", folder, tmp_path / "published", "--to_folder", "true") == 0
    assert not is_hugging_face(tmp_path / "published")
    capsys.readouterr()
    answers = []
    for checkpoint in (folder, tmp_path / "published", tmp_path / "a.onnx"):
        assert run_farfield("predict", video, "--checkpoint", checkpoint, "--json", "--num_clips", 1) == 0
        answers.append(
            {each["label"]: each["probability"] for each in json.loads(capsys.readouterr().out)[0]["ranking"]}
        )
    assert answers[0] == answers[1]
    assert answers[2] == pytest.approx(answers[0], rel=1e-3)


def test_results_of_the_current_folder_have_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "vivit"}')
    monkeypatch.chdir(folder)
    assert _run_folder(".") == _run_folder("../model/") == Path("runs/model")
