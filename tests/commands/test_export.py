"""`farfield export` as a user runs it: a file that predicts by itself, a folder for publishing, and what goes wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

from exporters.exported_once import exported_once
from exporters.networks import awake
from farfield.checkpoints import checkpoint as checkpoint_file
from farfield.checkpoints.checkpoint import NETWORK_PREFIX, checkpoint_metadata, load_network, save_model
from farfield.checkpoints.content_hash import network_hash
from farfield.reports.model_card import model_card

Run = Callable[..., int]
LABELS = ["lie_down", "get_up", "bow", "wave", "sit_down"]
HOSTILE = "a | b <script>alert(1)</script> `x` [y](http://z.com) **c** __d__ # www.e.com"


@pytest.fixture(scope="module", autouse=True)
def _exported_once() -> Iterator[None]:
    """Read each checkpoint once, so that its network is traced once for all formats."""
    with exported_once(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_file, "plain_network", cache(checkpoint_file.plain_network))
        yield


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder: a checkpoint that knows its videos, and the report of its test."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    (folder / "checkpoints").mkdir(parents=True)
    network = awake(labels=LABELS)
    state = {NETWORK_PREFIX + name: value for name, value in network.state_dict().items()}
    about = {
        **checkpoint_metadata(network),
        "data": {"train": {"manifest": "x/train.csv", "hash": "ab12", "videos": 7, "classes": 5}},
    }
    torch.save({"farfield": about, "state_dict": state}, folder / "checkpoints" / "best.ckpt")
    save_model(network, folder / "checkpoints" / "last.ckpt")
    (folder / "test").mkdir()
    figure = {"value": 0.8125, "low": 0.5, "high": 0.9}
    report = {
        "checkpoint": "runs/mine/checkpoints/best.ckpt",
        "weights": network_hash(folder / "checkpoints" / "best.ckpt"),
        "manifest": "x/my test.csv",
        "manifest_hash": "cd34",
        "backbone": "tiny",
        "inserted": {"res3": [0]},
        "num_clips": 2,
        "num_crops": 1,
        "videos": 16,
        **dict.fromkeys(("top1", "top5", "mean_class_accuracy"), figure),
        "classes": [{"label": label} for label in LABELS],
    }
    (folder / "test" / "report.json").write_text(json.dumps(report))
    return folder


@pytest.fixture(scope="module")
def checkpoint(run_folder: Path) -> Path:
    return run_folder / "checkpoints" / "best.ckpt"


@pytest.mark.slow
def test_an_exported_file_predicts_by_itself(
    checkpoint: Path,
    tmp_path: Path,
    make_video: Callable[..., Path],
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    video = make_video(30)
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "bad.mp4").write_text("no video")
    video = shutil.copy(video, folder / "good.mp4")
    assert run_farfield("export", checkpoint, tmp_path / "new" / "a.onnx", "--clips", folder, "--json") == 0
    said = capsys.readouterr()
    assert f"farfield: left out: {folder / 'bad.mp4'}: " in said.err
    report = json.loads(said.out)
    assert report["input"] == "float32 b 3 t 32 32"
    assert "different_decisions" not in report  # of multilabel networks
    assert set(report["compared"][0]) == {"clips", "frames", "probabilities", "logits"}
    assert report["bytes"] == (tmp_path / "new" / "a.onnx").stat().st_size
    assert report["compared"][-1]["clips"] == str(video)
    assert report["largest_difference"]["logits"] == max(each["logits"] for each in report["compared"]) < 1e-4
    assert (report["tolerance"], report["opset"], report["int8"], report["notes"]) == (1e-4, 18, None, [])
    answers = []
    for path in (checkpoint, tmp_path / "new" / "a.onnx"):
        assert run_farfield("predict", video, "--checkpoint", path, "--json") == 0
        [answer] = json.loads(capsys.readouterr().out)
        answers.append({ranked["label"]: ranked["probability"] for ranked in answer["ranking"]})
    assert answers[0].keys() == set(LABELS)
    assert answers[1] == pytest.approx(answers[0], abs=1e-4)
    assert run_farfield("export", checkpoint, tmp_path / "new" / "a.onnx") == 2
    assert "a.onnx exists already. Choose another name, or remove it first." in capsys.readouterr().err


@pytest.mark.slow
def test_a_stated_number_of_clips_is_compared_on(
    checkpoint: Path,
    tmp_path: Path,
    make_video: Callable[..., Path],
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "notes.txt").write_text("none")
    for number in range(70):
        shutil.copy(make_video(30), folder / f"{number:02}.mp4")
    (folder / "34.mp4").write_text("no video")  # the middle one of three
    words = ("export", checkpoint, "--clips", folder)
    assert run_farfield(*words, tmp_path / "a.pt2", "--num_compare_clips", 3, "--json") == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert (report["compared_clips"], report["given_clips"]) == (2, 70)
    compared = [Path(each["clips"]).name for each in report["compared"]]
    assert [name for name in compared if name.endswith(".mp4")] == ["00.mp4", "69.mp4"]
    assert f"left out: {folder / '34.mp4'}: " in captured.err
    assert "left out: 1 file without a video suffix (.txt 1)\n" in captured.err
    assert run_farfield(*words, tmp_path / "b.pt2") == 0
    number = int(re.search(r"\n +with (\d+) of the 70 given clips\n", capsys.readouterr().out)[1])
    assert number in (63, 64)  # 64 are chosen; the unreadable one may be among them


@pytest.mark.slow
def test_eight_bits_with_a_manifest(
    checkpoint: Path,
    make_video: Callable[..., Path],
    tmp_path: Path,
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from farfield.data.manifest import write_manifest
    from farfield.data.video_record import VideoRecord

    rows = [VideoRecord(str(make_video(30)), "bow"), VideoRecord(str(make_video(40)), "wave")]
    write_manifest(tmp_path / "some.csv", rows)
    out = tmp_path / "a.xml"
    words = ("--int8", "--clips", tmp_path / "some.csv", "--num_calibration_clips", 1, "--include_preprocessing")
    assert run_farfield("export", checkpoint, out, *words) == 0
    captured = capsys.readouterr()
    printed = captured.out
    assert printed.startswith(f"{out}: {out.stat().st_size + out.with_suffix('.bin').stat().st_size:,} bytes")
    assert re.search(
        rf"8 bits +on {len(rows)} videos, compared with the unquantised network: the same class for \d+\.0%; proba",
        printed,
    )
    assert re.search(r"top-1 +\d+\.0% before quantisation, \d+\.0% in 8 bits, on one central clip per video", printed)
    assert "uint8 RGB frames, normalised inside" in printed
    assert "Statistics" not in printed  # NNCF's progress is no result


def test_a_published_folder(
    checkpoint: Path, tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "hub" / "my-network"
    assert run_farfield("export", checkpoint, out, "--to_folder", "--json") == 0
    about = json.loads(capsys.readouterr().out)
    assert about["files"].keys() == {"model.safetensors", "config.json", "labels.txt", "README.md"}
    assert about["report"].endswith("mine/test/report.json")
    ours, theirs = load_network(checkpoint), load_network(out)
    assert ours.config == theirs.config
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    assert oct(out.stat().st_mode & 0o777) == oct((tmp_path / "hub").stat().st_mode & 0o777)
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "video-classification"
    assert front["library_name"] == "farfield"
    [result] = front["model-index"][0]["results"]
    assert result["dataset"]["name"] == "my test.csv"
    assert result["metrics"][0] == {"type": "accuracy", "name": "top-1", "value": 81.25}
    for line in (
        "| parameters | 366,837 |",
        "7 videos of 5 classes, listed in `train.csv`, content hash `ab12`.",
        "| top-1 | 81.25% | 50.00% to 90.00% |",
        "On 16 videos, 2 clips x 1 crops each, manifest hash `cd34`. Measured with",
        "farfield test --checkpoint runs/mine/checkpoints/best.ckpt --data.manifest 'x/my test.csv' --num_clips 2 "
        "--num_crops 1",
        'model = load_model("my-network")  # model.labels, model.clip',
        "lie_down, get_up, bow, wave, sit_down",
    ):
        assert line in card


def test_accuracy_among_fewer_classes_is_said_to_be_that(
    checkpoint: Path, run_folder: Path, tmp_path: Path, run_farfield: Run
) -> None:
    report = json.loads((run_folder / "test" / "report.json").read_text())
    few = {**report, "scored_among": "3 of the network's 5 classes", "root": "my videos", "precision": "bf16-mixed"}
    (tmp_path / "few.json").write_text(json.dumps(few))
    out = tmp_path / "a"
    assert run_farfield("export", checkpoint, out, "--to_folder", "--report", tmp_path / "few.json") == 0
    card = (out / "README.md").read_text()
    assert "model-index" not in card
    assert "Scored among 3 of the network" in card
    assert "--data.root 'my videos' --num_clips 2 --num_crops 1 --precision bf16-mixed --restrict_labels" in card


def test_the_command_of_the_test_has_the_settings_that_change_its_numbers(
    checkpoint: Path, run_folder: Path, tmp_path: Path, run_farfield: Run
) -> None:
    report = json.loads((run_folder / "test" / "report.json").read_text())
    other = {**report, "whole_videos": True, "views_aggregation": "max"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    out = tmp_path / "a"
    assert run_farfield("export", checkpoint, out, "--to_folder", "--report", tmp_path / "other.json") == 0
    card = (out / "README.md").read_text()
    assert "--data.whole_videos true --num_clips 2 --num_crops 1 --views_aggregation max\n" in card


@pytest.mark.slow
def test_nothing_is_invented(checkpoint: Path, tmp_path: Path, run_farfield: Run) -> None:
    """The report is of best.ckpt, and last.ckpt does not say what it was trained on."""
    assert run_farfield("export", checkpoint.with_name("last.ckpt"), tmp_path / "a", "--to_folder") == 0
    card = (tmp_path / "a" / "README.md").read_text()
    assert "Not measured: no test report came with the checkpoint." in card
    assert "81.25" not in card
    assert "Training data" not in card
    assert "license" not in card
    assert "model-index" not in card
    trained_on = tmp_path / "run/checkpoints/best.ckpt"  # under the name of the report's, and other weights
    trained_on.parent.mkdir(parents=True)
    shutil.copy(checkpoint.with_name("last.ckpt"), trained_on)
    shutil.copytree(checkpoint.parents[1] / "test", tmp_path / "run/test")
    assert run_farfield("export", trained_on, tmp_path / "c", "--to_folder") == 0
    assert "81.25" not in (tmp_path / "c" / "README.md").read_text()
    assert run_farfield("export", tmp_path / "a", tmp_path / "b", "--to_folder") == 0  # a folder's own network, again
    assert (tmp_path / "b" / "model.safetensors").read_bytes() == (tmp_path / "a" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_report_that_nobody_asked_for_stops_nothing(
    checkpoint: Path, tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "run/checkpoints/best.ckpt"
    own.parent.mkdir(parents=True)
    shutil.copy(checkpoint, own)
    (tmp_path / "run/test").mkdir()
    report = tmp_path / "run/test/report.json"
    for i, damaged in enumerate(("{", '{"top1": 0.5, "videos": 7}', "\xff")):
        report.write_text(damaged, encoding="latin-1")
        out = tmp_path / f"out{i}"
        assert run_farfield("export", own, out, "--to_folder") == 0
        assert (
            f"report beside the checkpoint is ignored: {report} is not a report of `farfield" in capsys.readouterr().err
        )
        card = (out / "README.md").read_text()
        assert "Not measured: no test report came with the checkpoint." in card
        assert "pip install farfield" not in card  # whoever registers that name would have it run


def test_labels_and_names_are_shown_and_do_nothing() -> None:
    network = awake(labels=[HOSTILE, "- b", "1. c"])
    sure = {"value": 1, "low": 0, "high": 1}
    report = {
        "checkpoint": "a\n```\n# hi",
        "manifest": "$(reboot)",
        "videos": 1,
        **dict.fromkeys(("top1", "top5", "mean_class_accuracy"), sure),
    }
    data = {"train": {"manifest": "`<i>`", "hash": "`"}}
    front = model_card(network, 'x"\n# y', data=data, report=report).split("\n---")[0].removeprefix("---")
    assert yaml.safe_load(front)["model-index"][0]["name"] == 'x"\n# y'
    card = model_card(network, 'x"\n# y', data=data, report={**report, "scored_among": "<b>"})
    body = card.split("---", 2)[2]
    for hostile in ("<script", "<b>", "](http", "**c**", "__d__", "www.e", "\n- b", "\n1. c", "\n# y", "\n# hi"):
        assert hostile not in body
    assert body.count("```") == 6
    assert "'$(reboot)'" in body
    assert "`` `<i>` ``, content hash `` ` ``." in body  # code spans, which show it


def test_options_are_looked_at_before_clips_are(
    checkpoint: Path, tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "bad.mp4").write_text("no video")
    (tmp_path / "kept.onnx").write_text("somebody's")
    for words, message in (
        (("a.onxx",), "has no suffix of an export format"),
        (("kept.onnx",), "kept.onnx exists already"),
        (("a.onnx", "--int8"), "int8 is for OpenVINO"),
        (("a.onnx", "--tolerance", -1), "tolerance is -1.0; it must be at least 0"),
        (("a.xml", "--int8", "--num_calibration_clips", 0), "num_calibration_clips is 0; it must be at least 1"),
        (("a.xml", "--num_compare_clips", 0), "num_compare_clips is 0; it must be at least 1"),
    ):
        assert run_farfield("export", checkpoint, tmp_path / words[0], *words[1:], "--clips", clips) == 2, words
        said = capsys.readouterr().err
        assert message in said
        assert "bad.mp4" not in said


@pytest.mark.slow
def test_what_goes_wrong_is_said_and_leaves_nothing(
    checkpoint: Path, run_folder: Path, tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    report = json.loads((run_folder / "test" / "report.json").read_text())
    (kept / "other.json").write_text(json.dumps({**report, "backbone": "c2d_r50"}))
    (kept / "fewer.json").write_text(json.dumps({**report, "classes": report["classes"][:3]}))
    (kept / "earlier.json").write_text(json.dumps({**report, "weights": "0123"}))
    (kept / "none.json").write_text("[]")
    (kept / "null.json").write_text(json.dumps({**report, "classes": None}))
    out = tmp_path / "a"
    folder = (checkpoint, out, "--to_folder")
    for words, message in (
        (
            (checkpoint, out),
            "has no suffix of an export format: .onnx, .xml, .pt2. Give one of these. To write a folder",
        ),
        ((tmp_path / "no.ckpt", tmp_path / "a.onnx"), "there is no checkpoint at"),
        ((checkpoint, kept, "--to_folder"), "kept exists already. Choose another name"),
        ((*folder, "--int8"), "to_folder writes the network unchanged"),
        (
            (*folder, "--report", kept / "other.json"),
            "is the report of another network: backbone = c2d_r50 in the report, but tiny in the checkpoint",
        ),
        ((*folder, "--report", kept / "fewer.json"), "is the report of another network: classes = ['lie_down'"),
        (
            (*folder, "--report", kept / "earlier.json"),
            "is the report of another network: weights = 0123 in the report, but ",
        ),
        ((*folder, "--report", kept / "none.json"), "is not a report of `farfield test`"),
        ((*folder, "--report", kept / "null.json"), "is not a report of `farfield test`"),
        ((*folder, "--report", kept / "no.json"), "there is no test report at"),
        (
            (checkpoint, kept / "none.json" / "a", "--to_folder"),
            "a cannot be written: File exists. Give another path.",
        ),
        ((checkpoint, tmp_path / "a.pt2", "--report", kept / "other.json"), "Set 'to_folder', or leave out 'report'"),
        ((checkpoint, tmp_path / "a.xml", "--int8"), "Give clips"),
        ((checkpoint, tmp_path / "a.pt2", "--clips", kept), "holds no videos"),
    ):
        assert run_farfield("export", *words) == 2, words
        captured = capsys.readouterr()
        assert message in captured.err
        assert "Traceback" not in captured.err
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]
    assert {each.name for each in kept.iterdir()} == {
        "other.json",
        "earlier.json",
        "fewer.json",
        "none.json",
        "null.json",
    }
