"""The commands of docs/guides/three_splits.md, run on small videos in the form of UCF101 and HMDB51."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import av
import numpy as np
import pytest

from farfield.data.manifest import read_manifest
from farfield.data.video_record import VideoRecord
from farfield.recipes import find_recipe

DOCS = Path(__file__).parents[1] / "docs" / "guides" / "three_splits.md"
SMALL = {
    "fit": [
        *("--model.backbone=tiny", "--model.weights=null", "--model.clip.num_frames=4", "--model.clip.frame_stride=1"),
        *("--model.clip.crop_px=24", "--model.clip.test_crop_px=24", "--model.clip.num_clips=2"),
        *("--model.clip.num_crops=1", "--model.backbone_options={depth: 1}"),
        *("--data.num_workers=0", "--data.batch_size=4", "--trainer.max_epochs=1", "--trainer.precision=32-true"),
        *("--trainer.check_val_every_n_epoch=1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"),
        *("--trainer.enable_model_summary=false", "--report.every_n_epochs=0"),
    ],
    "test": ["--data.num_workers=0", "--data.batch_size=8", "--accelerator=cpu"],
}
METRICS = ("top1", "top5", "mean_class_accuracy")
Run = Callable[..., int]


def write_avi(path: Path, rng: np.random.Generator) -> None:
    """Write 9 frames of 32 x 40 pixels as MPEG-4 in AVI, as the videos of both data sets are stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 40, "yuv420p"
        for _ in range(9):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (32, 40, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_ucf101(folder: Path) -> None:
    """Three classes, six source videos each, of two clips; each split tests two of the source videos."""
    rng = np.random.default_rng(1)
    classes = {"Archery": "Archery", "Bowling": "Bowling", "HandstandPushups": "HandStandPushups"}
    (folder / "ucfTrainTestlist").mkdir()
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    _write_lines(folder / "ucfTrainTestlist/classInd.txt", [f"{number} {name}" for name, number in numbers.items()])
    clips = [
        (name, group, f"{name}/v_{in_file}_g{group:02}_c{clip:02}.avi")
        for name, in_file in classes.items()
        for group in range(1, 7)
        for clip in (1, 2)
    ]
    for *_, path in clips:
        write_avi(folder / "UCF-101" / path, rng)
    for k in (1, 2, 3):
        tested = (2 * k - 1, 2 * k)
        train = [f"{path} {numbers[name]}" for name, group, path in clips if group not in tested]
        _write_lines(folder / f"ucfTrainTestlist/trainlist0{k}.txt", train)
        test = [path for _, group, path in clips if group in tested]
        _write_lines(folder / f"ucfTrainTestlist/testlist0{k}.txt", test)


def write_hmdb51(folder: Path) -> None:
    """Three classes with two clips of each of seven films; a film is tested in two splits, and unused in one."""
    rng = np.random.default_rng(2)
    (folder / "testTrainMulti_7030_splits").mkdir()
    for name in ("golf", "ride_bike", "sit"):
        clips = [(film, f"Film_#{film}!_{name}_f_cm_np1_fr_med_{clip}.avi") for film in range(7) for clip in (0, 1)]
        for _, path in clips:
            write_avi(folder / "hmdb51_org" / name / path, rng)
        for k in (1, 2, 3):
            codes = {k: 2, k + 1: 2, k + 2: 0}
            lines = [f"{path} {codes.get(film, 1)} " for film, path in clips]
            _write_lines(folder / f"testTrainMulti_7030_splits/{name}_test_split{k}.txt", lines)


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())


def block_of(name: str, text: str) -> list[str]:
    """Return the lines of the shell loop that trains with a recipe, without indentation and comments."""
    loops = re.findall(r"for k in 1 2 3; do\n.*?done\n[^\n]*", re.sub(r"(?m)^#", "", text), re.DOTALL)
    (found,) = (loop for loop in loops if f"--config {name} " in loop)
    return [re.sub(r"\s+#.*", "", line).strip() for line in found.replace("\\\n", " ").splitlines()]


def documented_commands(name: str) -> Iterator[list[str]]:
    """Yield the words of each farfield command, in the order in which a shell runs the loop."""
    first, variables, *body, done, last = block_of(name, DOCS.read_text())
    assert (first, done) == ("for k in 1 2 3; do", "done")
    for k in "123":
        values = {"k": k} | {
            key: value.replace("$k", k) for key, value in (word.split("=") for word in shlex.split(variables))
        }
        for line in body:
            yield shlex.split(re.sub(r"\$(\w+)", lambda found, values=values: values[found[1]], line))
    yield shlex.split(last)


def rows(path: Path) -> dict[Path, VideoRecord]:
    """Return the rows of a manifest by the videos' absolute paths."""
    manifest = read_manifest(path)
    return {manifest.path(row).resolve(): record for row, record in enumerate(manifest)}


def groups(manifest: dict[Path, VideoRecord]) -> set[str | None]:
    return {record.group for record in manifest.values()}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "write"), [("ucf101", write_ucf101), ("hmdb51", write_hmdb51)])
def test_documented_commands_lead_from_the_lists_to_a_comparison(
    name: str,
    write: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    for word, *words in documented_commands(name):
        assert word == "farfield"
        small = [] if words[1] == "splits" else SMALL.get(words[0], [])
        assert run_farfield(*words, *small) == 0, words
    _check_manifests(name, tmp_path / "data" / name)

    runs = tmp_path / "runs" / name
    reports = [json.loads((runs / f"split_{k}" / "test" / "report.json").read_text()) for k in (1, 2, 3)]
    content = json.loads((runs / "splits.json").read_text())
    for metric in METRICS:
        figures = [each[metric]["value"] for each in content["splits"]]
        assert figures == pytest.approx([report[metric]["value"] for report in reports])
        assert content["mean"][metric]["value"] == pytest.approx(fmean(figures))
        assert content["mean"][metric]["low"] < content["mean"][metric]["high"]
    assert [each["videos"] for each in content["splits"]] == [12, 12, 12]
    assert content["resampled"] == "groups"
    tested = [rows(tmp_path / "data" / name / f"split_{k}" / "test.csv") for k in (1, 2, 3)]
    assert content["units"] == len(set().union(*map(groups, tested))) == {"ucf101": 18, "hmdb51": 4}[name]
    assert content["videos"] == len(set().union(*tested)) == {"ucf101": 36, "hmdb51": 24}[name]

    if name == "hmdb51":  # where a film is tested in two splits; the commands are the same for both
        _check_comparison(name, runs, content, run_farfield, capsys)


def _check_comparison(
    name: str, runs: Path, content: dict[str, Any], run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compare with the same networks on one view, as with another method."""
    one_view = runs / "one_view"
    others = []
    for k in (1, 2, 3):
        others.append(one_view / f"split_{k}")
        checkpoint = runs / f"split_{k}" / "checkpoints" / "best.ckpt"
        words = ["--checkpoint", checkpoint, "--data.manifest", f"data/{name}/split_{k}/test.csv", "--num_clips", "1"]
        assert run_farfield("test", *words, "--num_crops", "1", "--out", others[-1], *SMALL["test"]) == 0
    assert run_farfield("test", "splits", *others, "--out", one_view) == 0
    capsys.readouterr()
    assert run_farfield("compare", one_view, runs, "--json", "--draws", "211") == 0
    compared = json.loads(capsys.readouterr().out)
    assert [each["left_out"] for each in compared["splits"]] == [0, 0, 0]
    assert (compared["units"], compared["resampled"]) == (content["units"], "groups")
    other = json.loads((one_view / "splits.json").read_text())
    for metric in METRICS:
        for place in (0, 1, 2):
            pair = [each["splits"][place][metric]["value"] for each in (other, content)]
            found = compared["splits"][place][metric]
            assert [found["a"], found["b"]] == pytest.approx(pair)
        assert compared["mean"][metric]["b"] == pytest.approx(content["mean"][metric]["value"])


def _check_manifests(name: str, data: Path) -> None:
    """Validation videos are a part of the training list, and no group is in two of the manifests."""
    for k in (1, 2, 3):
        official, train, val, test = (
            rows(data / f"split_{k}" / f"{each}.csv") for each in ("official_train", "train", "val", "test")
        )
        assert train.keys() | val.keys() == official.keys()
        assert len(train) + len(val) == len(official) == {"ucf101": 24, "hmdb51": 24}[name]
        assert not groups(train) & groups(val)
        assert not groups(official) & groups(test)
        labels = {record.label for record in test.values()}
        assert len(labels) == 3
        assert {record.label for record in val.values()} == {record.label for record in train.values()} == labels


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_recipes_and_docs_have_the_same_commands(name: str) -> None:
    header = "".join(line for line in find_recipe(name).text.splitlines(keepends=True) if line.startswith("#"))
    in_header, in_docs = (
        [" ".join(line.split()) for line in block_of(name, text)] for text in (header, DOCS.read_text())
    )
    assert in_header == in_docs
