from __future__ import annotations

import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import farfield
from farfield import build_model
from farfield.checkpoints.checkpoint import save_model
from farfield.cli import COMMANDS

Run = Callable[..., int]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from farfield.synthetic.figures import LABELS

    path = tmp_path_factory.mktemp("run") / "checkpoints" / "best.ckpt"
    path.parent.mkdir()
    model = build_model("tiny", labels=LABELS, clip={"num_frames": 4, "crop_px": 24, "num_clips": 3, "num_crops": 2})
    save_model(model, path)
    return path


def test_overview_names_every_command(run_farfield: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_farfield("--help") == 0
    overview = capsys.readouterr().out
    assert all(name in overview for name in COMMANDS)
    assert run_farfield() == 2
    capsys.readouterr()
    assert run_farfield("data", "--help") == 0
    listed = re.findall(r"^  (data \w+|\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert listed == [name for name in COMMANDS if name.startswith("data ")]


def test_version_names_the_code_and_what_it_runs_on(run_farfield: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_farfield("--version") == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first.split()[:2] == ["farfield", farfield.__version__]
    assert f"Python {platform.python_version()}" in others
    assert {f"{name} {version(name)}" for name in ("torch", "av", "decord2", "lightning")} <= set(others)
    assert not any(line.startswith(("farfield", "pytest", "mkdocs")) for line in others)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, run_farfield: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_farfield(*name.split(), "--help")
    assert stopped.value.code == 0
    assert "usage: farfield" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predikt"], "there is no command 'predikt'.*Did you mean 'predict'"),
        (["data"], "there is no command 'data'.*data index"),
        (["data", "indx"], "there is no command 'data indx'.*Did you mean 'data index'"),
        (["predict", "a.mp4"], "checkpoint"),
        (["predict", "a.mp4", "--chekpoint", "b"], "no option chekpoint.*Did you mean 'checkpoint'"),
        (["predict", "a.mp4", "--checkpoint", "nowhere.ckpt"], "there is no checkpoint at nowhere.ckpt"),
        (["predict", "a.mp4", "--checkpoint", "x", "--top_k", "many"], "top_k"),
        (["predict", "a.mp4", "--k", "3"], r"no option k\. Did you mean 'top_k'"),
        (
            ["export", "--checkpoint", "a.ckpt", "a.onnx"],
            r"export: checkpoint is a positional argument, not an option\.",
        ),
        (
            ["predict", "-a.mp4", "--checkpoint", "x"],
            r"^farfield predict: -a\.mp4 is not an option\. If it is a file, write \./-a",
        ),
        (
            ["predict", "b.mp4", "--a.mp4", "--checkpoint", "x"],
            r"write \./--a\.mp4, or put all options first, then --, then the files",
        ),
        (
            ["predict", "b.mp4", "--checkpoint", "-x.ckpt"],
            r"-x\.ckpt is not an option\. If it is a file, write \./-x\.ckpt\. See",
        ),
        (
            ["predict", "--", "-a.mp4", "--checkpoint", "x"],
            r"--checkpoint comes after --, .*Put options before --, and files after it",
        ),
        (["predict", "a.mp4", "--checkpoint", "x", "b.mp4"], r"b\.mp4 is unexpected\. Put all files together"),
        (["data", "index", "--", "-videos", "m.csv"], r"root is \./-videos, which is not a folder"),
        (
            ["data", "index", "videos", "-m.csv"],
            r"-m\.csv is not an option\. If it is a file, write \./-m\.csv, or put all options",
        ),
        (["explain", "-a.mp4", "--checkpoint", "x"], r"-a\.mp4 is not an option"),
        (["fit", "--lr", "0.1"], r"fit: there is no option lr\. Did you mean 'model\.optimisation\.lr'\?$"),
        (["fit", "--model.lr", "0.1"], r"no option model\.lr\. Did you mean 'model\.optimisation\.lr'\?$"),
        (["fit", "--epochs", "3"], r"no option epochs\. Did you mean 'trainer\.max_epochs'\?$"),
        (["fit", "--data.clp", "{}"], r"no option data\.clp\. Did you mean 'data\.clip'\?$"),
        (["fit", "--xyzzy", "3"], r"no option xyzzy\. See --help\.$"),
        (["fit"], r"backbone is missing\. Give --config, or --model\.backbone, --data\.train and --run_dir\.$"),
        (["fit", "--print_config"], r"model\.backbone is missing\. Give --config, or"),
        (["test", "--checkpoint", "nowhere.ckpt", "--data.manifest", "m.csv"], "there is no checkpoint at"),
        (["test", "--checkpoint", "x", "--data.manifests", "m.csv"], "no option data.manifests.*Did you mean"),
        (["data", "synthesize", "figurs", "out"], "figurs"),
        (["data", "index", "nowhere", "m.csv"], "root is nowhere, which is not a folder"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_farfield(*words) == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.err), captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


@pytest.mark.slow
def test_test_writes_a_report_beside_the_checkpoint(
    checkpoint: Path, figures: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--checkpoint", checkpoint, "--data.manifest", figures / "test.csv", "--data.num_workers", 1]
    assert run_farfield("test", *options, "--view_batch_size", 4) == 0
    out = capsys.readouterr().out
    assert "10 videos, 3 clips x 2 crops each" in out
    report = json.loads((checkpoint.parent.parent / "test/report.json").read_text())
    assert report["videos"] == 10
    with np.load(checkpoint.parents[1] / "test/scores.npz") as arrays:
        assert arrays[report["arrays"]["confusion_matrix"]].sum() == 10
    assert run_farfield("validate", *options, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["num_clips"], printed["num_crops"]) == (1, 1)
    assert (checkpoint.parent.parent / "validate/report.md").is_file()


@pytest.mark.slow
def test_test_counts_and_names_what_it_cannot_decode(
    checkpoint: Path,
    figures: Path,
    bad_files: dict[str, Path],
    tmp_path: Path,
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = (figures / "test.csv").read_text().splitlines()
    bad = [f"{path},bow" + "," * (rows[0].count(",") - 1) for path in bad_files.values()]
    (tmp_path / "m.csv").write_text("\n".join([*rows, *bad]) + "\n")
    options = ["--checkpoint", checkpoint, "--data.manifest", tmp_path / "m.csv", "--out", tmp_path / "out"]
    assert run_farfield("test", *options, "--data.root", figures, "--data.batch_size", 4) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["videos"] == 10
    assert {entry["path"] for entry in report["undecodable_videos"]} == {str(p) for p in bad_files.values()}
    (tmp_path / "bad.csv").write_text("\n".join([rows[0], *bad]) + "\n")
    options[3] = tmp_path / "bad.csv"
    assert run_farfield("test", *options, "--data.root", figures) == 2
    assert "none of the videos in" in capsys.readouterr().err


def test_scores_name_a_video_as_the_manifest_does(
    checkpoint: Path, figures: Path, tmp_path: Path, run_farfield: Run
) -> None:
    """And not by the target of a link, which in some stores is a hash."""
    path, label, *_ = (figures / "test.csv").read_text().splitlines()[1].split(",")
    shutil.copy(figures / path, tmp_path / "0af3")
    (tmp_path / "named.mp4").symlink_to("0af3")
    (tmp_path / "m.csv").write_text(f"path,label\nnamed.mp4,{label}\n")
    options = ["--checkpoint", checkpoint, "--data.manifest", tmp_path / "m.csv", "--data.num_workers", 0]
    assert run_farfield("test", *options, "--out", tmp_path / "out") == 0
    row = (tmp_path / "out/predictions.csv").read_text().splitlines()[1]
    assert row.startswith(f"{tmp_path.resolve() / 'named.mp4'},{label},")


@pytest.mark.slow
def test_data_commands(tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]) -> None:
    counts = ["--num_train", 2, "--num_val", 2, "--num_test", 2]
    assert run_farfield("data", "synthesize", "recall", tmp_path / "r", *counts) == 0
    (tmp_path / "tree/same").mkdir(parents=True)
    (tmp_path / "r/videos/test_00001_same.mp4").rename(tmp_path / "tree/same/a.mp4")
    assert run_farfield("data", "index", tmp_path / "tree", tmp_path / "tree/m.csv") == 0
    assert "m.csv: 1 videos of 1 classes" in capsys.readouterr().out
    assert (tmp_path / "tree/m.csv").read_text().splitlines()[1] == "same/a.mp4,same,32,16,64,64,2"
    (tmp_path / "tree/same/b.mp4").write_text("no video")
    assert run_farfield("data", "index", tmp_path / "tree", tmp_path / "tree/m.csv") == 1  # made anew, without it
    assert "videos and segments left out: 1" in capsys.readouterr().err
    kinetics = tmp_path / "train.csv"
    kinetics.write_text("label,youtube_id,time_start,time_end,split\n")
    assert run_farfield("data", "index", tmp_path / "tree", kinetics) == 2
    assert "exists and is not a manifest: its first line is 'label,youtube_id" in capsys.readouterr().err
    assert kinetics.read_text() == "label,youtube_id,time_start,time_end,split\n"


def test_whoever_reads_may_go() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "farfield.cli", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.slow
def test_names_that_are_no_utf_8(
    checkpoint: Path,
    make_video: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_farfield: Run,
) -> None:
    """Standard input and output are strict, as Python opens them in a locale with UTF-8."""
    (tmp_path / "in").mkdir()
    name = os.fsencode(tmp_path / "in") + b"/caf\xe9.mp4"
    shutil.copy(make_video(60), name)
    given, printed = io.BytesIO(name), io.BytesIO()
    for stream, content in (("stdin", given), ("stdout", printed)):
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(content, "utf-8", "strict"))
    words = ["predict", "-", "--checkpoint", checkpoint]
    words += ["--timeline", "--out", tmp_path / "out", "--write", "csv,srt,parquet"]
    assert run_farfield(*words) == 0
    assert printed.getvalue().startswith(name)
    assert name in (tmp_path / "out/predictions.csv").read_bytes()
    assert (tmp_path / "out/caf.srt").is_file()


@pytest.mark.slow
def test_files_whose_names_begin_with_a_dash(
    checkpoint: Path,
    make_video: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As YouTube's names do, and HMDB51's."""
    monkeypatch.chdir(tmp_path)
    for name in ("-clip.mp4", "--json", "-class/--a.mp4"):
        Path(name).parent.mkdir(exist_ok=True)
        shutil.copy(make_video(60), name)
    words = ["predict", "--checkpoint", checkpoint, "--json"]
    for files in (["--", "-clip.mp4", "--json", "-class"], ["./-clip.mp4", "./--json", "./-class"]):
        assert run_farfield(*words, *files) == 0
        answered = [os.path.normpath(answer["path"]) for answer in json.loads(capsys.readouterr().out)]
        assert answered == ["-clip.mp4", "--json", "-class/--a.mp4"]
    assert run_farfield("data", "index", "--", ".", "-m.csv") == 0
    assert Path("-m.csv").read_text().splitlines()[1].startswith("-class/--a.mp4,-class,60,")
    assert run_farfield("explain", "--checkpoint", checkpoint, "--out", "seen", "--", "-clip.mp4") == 0
    assert run_farfield("data", "verify", "--sample", 1, "--", "-m.csv") == 0
    assert run_farfield("data", "prepare", "--", "-m.csv", "-store") == 0


def test_none_is_null(run_farfield: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "--run_dir", "x", "--data.train", "x.csv", "--model.backbone", "tiny", "--print_config"]
    for more in (["--data.val", "None"], ["--data.val=None"]):  # else a file of that name
        with pytest.raises(SystemExit):
            run_farfield(*words, *more)
        assert "  val: null\n" in capsys.readouterr().out
