"""scripts/reproduce_kinetics.py on generated videos in Kinetics' layout, with a checkpoint of PyTorchVideo's."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TextIO

import pytest
import reproduce_kinetics
import torch
from pytorchvideo.models.hub import x3d_xs

from farfield.cli import main
from farfield.data.manifest import read_manifest
from farfield.errors import FarfieldError
from farfield.evaluation.metrics import wilson
from farfield.kinetics_labels import kinetics400_labels
from farfield.models.published_results import PUBLISHED

CLIPS = [
    ("aaaaaaaaaaa", "archery", "val"),
    ("ccccccccccc", "massaging person's head", "val"),
    ("ddddddddddd", "bowling", "val"),  # not in the folder
    ("eeeeeeeeeee", "bowling", "train"),
]


@pytest.fixture
def collection(tmp_path: Path, make_video: Callable[..., Path]) -> tuple[Path, Path]:
    """Folder of two of three listed validation videos and one training video, and the CSV of all four."""
    videos, annotations = tmp_path / "videos", tmp_path / "kinetics_val.csv"
    (videos / "part_0").mkdir(parents=True)
    with annotations.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "youtube_id", "time_start", "time_end", "split", "is_cc"])
        for name, label, split in CLIPS:
            writer.writerow([label, name, 7, 17, split, 0])
            if name[0] != "d":
                shutil.copy(make_video(60), videos / "part_0" / f"{name}_000007_000017.mp4")
    return videos, annotations


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """X3D-XS as PyTorchVideo saves it, whose largest probability is always that of archery."""
    network = x3d_xs(pretrained=False)
    with torch.no_grad():
        network.blocks[-1].proj.bias[kinetics400_labels().index("archery")] = 100.0
    path = tmp_path / "X3D_XS.pyth"
    torch.save({"model_state": network.state_dict()}, path)
    return path


def run_here(command: list[str], stdout: TextIO) -> subprocess.CompletedProcess[str]:
    """Run `python -m farfield ...` in this process: another imports PyTorch for seconds."""
    assert command[:3] == [sys.executable, "-m", "farfield"]
    with redirect_stdout(stdout):
        return subprocess.CompletedProcess(command, main(command[3:]))


@pytest.mark.slow
def test_measures_resumes_and_reports(
    collection: tuple[Path, Path],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(reproduce_kinetics.subprocess, "run", run_here)
    videos, annotations = collection
    words = [str(videos), "--annotations", str(annotations), "--out", str(tmp_path / "out"), "--accelerator", "cpu"]
    words += ["--weights", f"x3d_xs={weights}", "--num_workers", "1", "--networks", "x3d_xs"]
    assert reproduce_kinetics.main([*words, "--json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)
    expected = wilson(1, 2)
    assert row["top1"] == pytest.approx(50)
    assert row["interval"] == pytest.approx([100 * expected.low, 100 * expected.high])
    assert (row["videos"], row["missing"], row["views"], row["published"]) == (2, 1, "10 x 3", 69.12)
    report = json.loads((tmp_path / "out/x3d_xs/test/report.json").read_text())
    assert (report["num_clips"], report["num_crops"]) == (10, 3)

    shutil.rmtree(tmp_path / "out/x3d_xs/test")  # a second run tests nothing again
    assert reproduce_kinetics.main([*words, "i3d_r50+nl5"]) == 1
    printed = capfd.readouterr()
    assert not (tmp_path / "out/x3d_xs/test").exists()
    assert "| `x3d_xs` | 10 x 3 | 50.00% | 9.45 to 90.55 | 69.12% | -19.12 | 2 | 1 |" in printed.out
    assert "| `i3d_r50+nl5` | 10 x 3 | not measured | | 74.00% |" in printed.out
    assert "Give their file: --weights i3d_r50+nl5=FILE." in printed.err
    assert (tmp_path / "out/table.md").read_text() == printed.out

    assert reproduce_kinetics.main(
        [*words, "--networks", "x3d_s", "--weights", f"x3d_s={tmp_path / 'kinetics_val.csv'}"]
    )
    assert "kinetics_val.csv" in capfd.readouterr().err
    assert reproduce_kinetics.main([str(videos), "--out", str(tmp_path / "out")]) == 2
    assert "holds results of other videos. Give another --out." in capfd.readouterr().err


def test_all_networks_have_a_source_of_weights_or_ask_for_a_file() -> None:
    zoos = [reproduce_kinetics.zoo_of(backbone) for backbone, insert in PUBLISHED if insert is None]
    assert (zoos.count("pytorchvideo"), zoos.count("torchvision")) == (12, 9)
    with pytest.raises(FarfieldError, match=r"--weights i3d_r50\+nl5=FILE"):
        reproduce_kinetics.zoo_of("i3d_r50+nl5")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--networks", "slow_r5"],
            "no published accuracy of 'slow_r5'. Known: c2d_r50, i3d_r50, i3d_r50+nl5",
        ),
        (["--weights", "x3d_xs=nowhere.pyth"], "there is no file 'nowhere.pyth' of weights of x3d_xs"),
        (["--num_videos", "0"], "--num_videos is 0; it must be at least 1."),
    ],
)
def test_mistakes_are_named(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        reproduce_kinetics.parse(["videos", "--out", "out", *words])
    assert message in capsys.readouterr().err


def test_random_videos_are_the_same_for_a_seed_and_labels_are_checked(tmp_path: Path) -> None:
    labels = kinetics400_labels()[:9]
    (tmp_path / "videos.csv").write_text(
        "path,label\n" + "".join(f"{i}.mp4,{label}\n" for i, label in enumerate(labels))
    )
    chosen = reproduce_kinetics.choose_videos(tmp_path, 4, seed=3)
    first = chosen.read_text()
    assert len(first.splitlines()) == 5
    assert reproduce_kinetics.choose_videos(tmp_path, 4, seed=3).read_text() == first
    assert reproduce_kinetics.choose_videos(tmp_path, 9, seed=3) == tmp_path / "videos.csv"
    (tmp_path / "videos.csv").write_text("path,label\na.mp4,arcery\n")
    with pytest.raises(FarfieldError, match=r"'arcery' is not a class of Kinetics-400.*archery"):
        reproduce_kinetics.choose_videos(tmp_path, None, seed=0)


def test_underscores_in_folder_names_are_spaces(tmp_path: Path) -> None:
    """MMAction2's rename_classnames.sh writes them, and keeps apostrophes and parentheses."""
    names = ["archery", "air drumming", "massaging person's head", "skiing (not slalom or crosscountry)"]
    rows = [f"../k400/{name.replace(' ', '_')}/{i}.mp4,{name.replace(' ', '_')}\n" for i, name in enumerate(names)]
    (tmp_path / "videos.csv").write_text("path,label\n" + "".join(rows))
    found = read_manifest(reproduce_kinetics.choose_videos(tmp_path, None, seed=0))
    assert [row.label for row in found] == names
    assert [row.path for row in found] == [row.split(",")[0] for row in rows]
    (tmp_path / "videos.csv").write_text("path,label\na.mp4,air_drummin\n")
    with pytest.raises(FarfieldError, match=r"'air_drummin' is not a class of Kinetics-400.*'air drumming'"):
        reproduce_kinetics.choose_videos(tmp_path, None, seed=0)
