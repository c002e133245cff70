"""`farfield explain` through the real command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farfield import build_model, predict
from farfield.checkpoints.checkpoint import save_model
from farfield.models.network import ActionNet
from farfield.video.decoders import open_video
from layers.blocks import awake

LABELS = ["<b>bow</b>", "stand $up$", "walk & wave"]
CLIP = {"num_frames": 4, "crop_px": 32, "frame_stride": 3, "num_clips": 3, "num_crops": 2}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    model = build_model("tiny", labels=LABELS, insert={"res3": [1], "res4": [0]}, clip=CLIP)
    for stage, index in (("res3", 1), ("res4", 0)):
        awake(model.backbone.blocks(stage)[index].inserted)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.head.fc.weight, std=0.3)
    path = tmp_path_factory.mktemp("checkpoint") / "a.ckpt"
    save_model(model, path)
    return path


def save(path: Path, **options: Any) -> Path:
    torch.manual_seed(5)
    model: ActionNet = build_model(labels=LABELS, clip=CLIP, **options)
    save_model(model, path)
    return path


@pytest.fixture(scope="module")
def explained(
    checkpoint: Path,
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("out") / "deep" / "explained"
    video = make_video(60, name="a & <i>b</i>/60.mp4")
    assert run_farfield("explain", video, "--checkpoint", checkpoint, "--out", out, "--connections", 7) == 0
    return out


@pytest.mark.slow
def test_it_writes_what_it_says(explained: Path, checkpoint: Path) -> None:
    content = json.loads((explained / "explanation.json").read_text())
    assert content["files"] == [
        "attention.png",
        "grad_cam.png",
        "evidence.png",
        "windows.png",
        "attention_res3-1.mp4",
        "attention_res4-0.mp4",
        "grad_cam.mp4",
        "explanation.html",
        "explanation.json",
    ]
    assert sorted(path.name for path in explained.iterdir()) == sorted(content["files"])
    assert [path.name for path in explained.parent.iterdir()] == ["explained"]  # nothing half done is left
    for name in ("attention_res3-1.mp4", "grad_cam.mp4"):
        with open_video(explained / name) as video:
            assert len(video.times) == 4
            assert video.times[-1] == pytest.approx(3 * 3 / 25, abs=0.02)  # as long as the clip


def test_the_numbers_are_those_of_the_network(explained: Path, checkpoint: Path) -> None:
    from farfield.checkpoints.checkpoint import load_network

    content = json.loads((explained / "explanation.json").read_text())
    expected = predict(content["path"], load_network(checkpoint))
    assert [each["label"] for each in content["ranking"]] == [each.label for each in expected.ranking]
    assert [each["probability"] for each in content["ranking"]] == pytest.approx(
        [each.probability for each in expected.ranking], abs=1e-4
    )
    windows = content["windows"]
    assert [w["start_seconds"] for w in windows] == pytest.approx([0, 1, 2], abs=0.03)
    assert [w["end_seconds"] - w["start_seconds"] for w in windows] == pytest.approx([0.42] * 3, abs=1e-3)
    assert np.mean([w["probability"] for w in windows]) == pytest.approx(content["ranking"][0]["probability"], abs=1e-5)
    assert sum(w["contribution"] for w in windows) == pytest.approx(0, abs=1e-9)
    view = content["view"]
    assert (view["width_px"], view["height_px"], view["num_crops"]) == (32, 32, 2)
    assert view["start_seconds"] == pytest.approx(windows[view["clip"]]["start_seconds"])
    assert view["probability"] >= max(w["probability"] for w in windows) - 1e-6
    assert len(content["evidence"]["moments_seconds"]) == 4
    for block in content["blocks"]:
        weights = [c["weight"] for c in block["connections"]]
        assert 1 < len(weights) <= 7
        assert weights == sorted(weights, reverse=True)
        assert 0 < block["of_query"]["entropy_share"] <= 1.0001
        assert block["uniform"]["entropy_share"] == pytest.approx(1)
        assert view["start_seconds"] <= block["query"]["t_seconds"] <= view["end_seconds"]


def test_the_page_needs_nothing_else_and_escapes_names(explained: Path) -> None:
    page = (explained / "explanation.html").read_text()
    assert "&lt;b&gt;bow&lt;/b&gt;" in page
    assert "a &amp; &lt;i&gt;b&lt;/i&gt;/60.mp4" in page
    assert "<b>bow" not in page
    assert "<i>" not in page
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 7
    assert all(source.startswith(("data:image/png;base64,", "data:video/mp4;base64,")) for source in sources)


@pytest.mark.slow
def test_a_position_is_asked_for_in_seconds_and_pixels(
    checkpoint: Path,
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("--out", tmp_path / "out", "--time", 1.24, "--point", "9,25", "--label", LABELS[2], "--json")
    words = (*words, "--stage", "res4", "--num_crops", 1)
    assert run_farfield("explain", make_video(60), "--checkpoint", checkpoint, *words) == 0
    content = json.loads(capsys.readouterr().out)
    assert content == json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert content["view"]["clip"] == 1  # 1.00 s to 1.36 s
    assert content["view"]["frame_seconds"] == pytest.approx([0.96, 1.08, 1.2, 1.32], abs=0.05)
    assert content["label"] == LABELS[2]
    assert [(cam["stage"], cam["label"]) for cam in content["grad_cam"]] == [("res4", LABELS[2])]
    res3, res4 = (block["query"] for block in content["blocks"])
    nearest = min(content["view"]["frame_seconds"], key=lambda at: abs(at - 1.24))
    assert res3 == {"t_seconds": nearest, "y_px": 12.0, "x_px": 28.0}  # cells of 8 px: rows 8 to 15, columns 24 to 31
    assert res4 == {"t_seconds": nearest, "y_px": 8.0, "x_px": 24.0}  # cells of 16 px


@pytest.mark.slow
def test_a_table_is_printed_and_what_was_there_before_is_replaced(
    tmp_path: Path,
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, video = tmp_path / "out", make_video(60)
    dual = save(tmp_path / "dual.ckpt", backbone="tiny", insert={"res3": [1]}, block="dual_attention")
    plain = save(tmp_path / "plain.ckpt", backbone="tiny")
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert run_farfield("explain", video, "--checkpoint", dual, "--out", out) == 0
    assert {path.name for path in out.iterdir()} >= {"mine.txt", "attention_res3-1.mp4", "part_res3-1.png"}
    shown = capsys.readouterr().out
    assert "res3[1] returns its input unchanged, as at initialisation: its attention has no effect." in shown
    rows = [line.split() for line in shown.splitlines() if line.startswith("res3[1]  ")]
    assert [row[1:3] for row in rows] == [["the", "position"], ["mean", rows[1][2]], ["if", "uniform"]]
    assert "channel attention" in (out / "explanation.html").read_text()
    assert run_farfield("explain", video, "--checkpoint", plain, "--out", out) == 0
    shown = capsys.readouterr().out
    assert "this network has no inserted blocks, so there is no attention to show." in shown
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("mine.txt", "grad_cam.png", "grad_cam.mp4", "evidence.png", "windows.png"),
        *("explanation.html", "explanation.json"),
    }
    assert json.loads((out / "explanation.json").read_text())["blocks"] == []


@pytest.mark.slow
def test_a_short_video_is_repeated(
    checkpoint: Path,
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert run_farfield("explain", make_video(7), "--checkpoint", checkpoint, "--out", out, "--num_clips", 1) == 0
    assert "the video is shorter than a clip, so it was looped; repeated frames have" in capsys.readouterr().out
    seconds = json.loads((out / "explanation.json").read_text())["view"]["frame_seconds"]
    assert seconds == pytest.approx([0, 0.12, 0.24, 0.36], abs=0.01)
    assert run_farfield("explain", make_video(1), "--checkpoint", checkpoint, "--out", out, "--time", 0) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--stage", "res9"), "there is no stage 'res9'. Known: res2, res3, res4, res5. Did you mean"),
        (("--label", "walk"), "label is 'walk', which is not a class of the network. Known: <b>bow</b>,"),
        (("--label", "None"), "label is 'None', which is not a class of the network. Known: <b>bow</b>,"),
        (("--label=None", "--top_k=3"), "label is 'None', which is not a class of the network. Known: <b>bow</b>,"),
        (("--point", "5"), "point is '5'; give Y,X in pixels of the crop that the network sees, for example 40,112."),
        (("--point", "nan,3"), "point is 'nan,3'; give Y,X in pixels"),
        (("--point", "3,32"), "point is 3,32; the network's input is 32 x 32 px. Give y,x in pixels of the "),
        (("--time", "9"), "time is 9 s, but no view of this video contains it; the nearest view is from 2.00 s to 2.4"),
        (("--time", "-1"), "time is -1 s, but no view of this video contains it; the nearest view is from 0.00 s"),
        (
            ("--time", "0.8"),
            "time is 0.8 s, but no view of this video contains it; the nearest view is from 1.00 s to 1.42 s.",
        ),
        (("--connections", "0"), "connections is 0; it must be at least 1. The non-local paper shows 20."),
        (("--top_k", "0"), "top_k is 0; it must be at least 1."),
        (("--num_clips", "0"), "clip.num_clips is 0; it must be at least 1."),
        (("--device", "tpu9"), "device is 'tpu9'"),
        (("--pont", "3,3"), "there is no option pont."),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    checkpoint: Path,
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, str],
    message: str,
) -> None:
    out = tmp_path / "out"
    assert run_farfield("explain", make_video(60), "--checkpoint", checkpoint, "--out", out, *words) == 2
    captured = capsys.readouterr()
    assert f"farfield explain: {message}" in captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_serve_are_named(
    checkpoint: Path,
    make_video: Callable[..., Path],
    bad_files: dict[str, Path],
    run_farfield: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    for name, reason in (("empty", "the file is empty"), ("missing", "there is no such file")):
        assert run_farfield("explain", bad_files[name], "--checkpoint", checkpoint, "--out", out) == 1
        assert f"farfield explain: {bad_files[name]}: {reason}" in capsys.readouterr().err
    assert not out.exists()
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for place in (taken, taken / "below"):
        assert run_farfield("explain", make_video(60), "--checkpoint", checkpoint, "--out", place) == 2
        assert f"out is {place}, but {taken} is a file. Give a folder." in capsys.readouterr().err
    assert taken.read_text() == "mine"
    exported = tmp_path / "a.onnx"
    exported.write_bytes(b"onnx")
    assert run_farfield("explain", make_video(60), "--checkpoint", exported, "--out", out) == 2
    assert f"{exported} is an exported network, which returns only scores." in capsys.readouterr().err


@pytest.mark.slow
def test_nothing_is_left_where_writing_fails(
    checkpoint: Path,
    make_video: Callable[..., Path],
    run_farfield: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("farfield.interpretability.explanation_files.write_video", full)
    out = tmp_path / "out"
    assert run_farfield("explain", make_video(60), "--checkpoint", checkpoint, "--out", out) == 2
    assert f"out is {out}, which cannot be written: No space left on device." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
