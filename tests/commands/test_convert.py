"""`farfield convert` and `farfield summary` as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from checkpoints.recorded_network import pyslowfast_cfg
from checkpoints.test_converters import SOFTMAX, narrow
from farfield.checkpoints.checkpoint import load_network

Run = Callable[..., int]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("peer") / "I3D_NLN.pyth"
    cfg = pyslowfast_cfg("i3d", frames=8, **SOFTMAX)
    torch.save({"epoch": 3, "model_state": narrow("pyslowfast_I3D_NLN_8x8_R50"), "cfg": cfg}, path)
    return path


@pytest.mark.slow
def test_a_converted_checkpoint_predicts_at_once(
    theirs: Path, figures: Path, tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.txt").write_text("\n".join("abcdefg") + "\n")
    out = tmp_path / "made" / "ours.ckpt"
    assert run_farfield("convert", theirs, out, "--labels", tmp_path / "names.txt") == 0
    printed = capsys.readouterr().out
    for line in (
        "from PySlowFast",
        "i3d_r50 width=8, non_local {'pairwise': 'embedded_gaussian'} at {'res3': [1, 3], 'res4': [1, 3, 5]}",
        "7 classes",
        "window_softmax_mean, windows [[4, 2, 2]]",
        "8 frames at stride 8 at 30 frames per second, short videos clamped, 64 px in training",
        "10 clips x 3 crops of 256 px, short side 256 px, mean of the probabilities",
        "385 mapped, 0 missing, 0 unexpected, 0 of other shapes",
    ):
        assert line in printed
    video = next((figures / "videos").glob("*.mp4"))
    assert run_farfield("predict", video, "--checkpoint", out, "--num_clips", 1, "--num_crops", 1, "--json") == 0
    [prediction] = json.loads(capsys.readouterr().out)
    assert len(prediction["ranking"]) == 5
    assert {ranked["label"] for ranked in prediction["ranking"]} < set("abcdefg")


@pytest.mark.slow
def test_the_account_as_json_and_the_way_back(
    theirs: Path, tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_farfield("convert", theirs, tmp_path / "ours.ckpt", "--json") == 0
    account = json.loads(capsys.readouterr().out)
    state = narrow("pyslowfast_I3D_NLN_8x8_R50")
    assert {row["from"]: tuple(row["shape"]) for row in account["mapped"]} == {
        k: tuple(v.shape) for k, v in state.items()
    }
    assert account["model"] == load_network(tmp_path / "ours.ckpt").config
    assert run_farfield("convert", tmp_path / "ours.ckpt", tmp_path / "back.pyth", "--to", "slowfast") == 0
    back = torch.load(tmp_path / "back.pyth", weights_only=True)["model_state"]
    assert all(torch.equal(back[key], value) for key, value in state.items())
    assert run_farfield("convert", theirs, tmp_path / "keys.ckpt", "--all_keys") == 0
    assert "head.projection.weight -> head.fc.weight (7, 256)" in capsys.readouterr().out


@pytest.mark.slow
def test_what_goes_wrong_is_said_and_leaves_nothing(
    theirs: Path, tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.ckpt"
    kept.write_text("somebody's")
    (tmp_path / "few.txt").write_text("a\nb\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    out = tmp_path / "ours.ckpt"
    for words, message in (
        (["convert", theirs, kept], "exists already. Choose another name"),
        (["convert", tmp_path / "none.pyth", out], "there is no checkpoint at"),
        (["convert", theirs, out, "--labels", tmp_path / "few.txt"], "the number of labels is 2, but"),
        (["convert", theirs, out, "--labels", tmp_path / "bytes.txt"], "is not UTF-8 text"),
        (["convert", theirs, out, "--labels", tmp_path / "no.txt"], "there is no file of class names"),
        (["convert", theirs, out, "--to", "slowfast"], "is not a farfield checkpoint"),
        (
            ["convert", theirs, out, "--block_options", "{pairwise: gaussian}"],
            "file states pairwise: embedded_gaussian",
        ),
        (["convert", theirs, out, "--head", "gapfc"], "head is 'gapfc'. Known: gap_fc, window_mean"),
        (["convert", theirs, out, "--clip", "{num_frame: 8}"], "clip has no 'num_frame'. Known: num_frames"),
        (["convert", theirs, kept / "x.ckpt"], "x.ckpt cannot be written"),
        (["convert"], "the following arguments are required: input, out"),
        (["convert", theirs, out, "--backbone", "i3d_r5"], "backbone is 'i3d_r5', which does not exist"),
    ):
        assert run_farfield(*words) == 2, words
        captured = capsys.readouterr()
        assert message in captured.err
        assert "Traceback" not in captured.err
    assert kept.read_text() == "somebody's"
    assert not out.exists()
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_summary_as_table_and_json(
    theirs: Path, tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_farfield("summary", "i3d_r50", "--insert", "nl5") == 0
    printed = capsys.readouterr().out
    assert "res4[5] non_local" in printed
    assert "35,401,936" in printed
    assert "36.677 G" in printed
    assert "clip 3 x 8 x 224 x 224" in printed
    assert "published: top-1 74.0% on Kinetics-400 with 10 x 3 views (PySlowFast's model zoo)" in printed
    assert run_farfield("convert", theirs, tmp_path / "ours.ckpt") == 0
    capsys.readouterr()
    assert run_farfield("summary", tmp_path / "ours.ckpt", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["total"]["parameters"] == sum(p.numel() for p in load_network(tmp_path / "ours.ckpt").parameters())
    assert summary["clip"] == [8, 64, 64]
    assert run_farfield("summary", tmp_path / "ours.ckpt", "--num_classes", "5") == 2
    assert "ours.ckpt is a checkpoint, which has its own classes, but num_classes is 5" in capsys.readouterr().err
    assert run_farfield("summary", tmp_path / "ours.ckpt", "--insert", "nl5") == 2
    assert "only apply if it is the name of a backbone" in capsys.readouterr().err
    assert run_farfield("summary", "i3d_r5") == 2
    assert "neither a checkpoint nor a backbone" in capsys.readouterr().err


@pytest.mark.slow
def test_the_table_of_networks_in_the_docs_is_what_summary_prints(
    run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_farfield("summary", "all") == 0
    table = capsys.readouterr().out.strip()
    assert table in Path(__file__).parents[2].joinpath("docs/reference/networks.md").read_text()
