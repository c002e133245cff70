"""Files that an earlier version wrote still load, and give the answers of that version. See earlier/README.md."""

from __future__ import annotations

import csv
import json
import lzma
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.numpy import load_file

from farfield.cli import main

pytestmark = pytest.mark.slow

KEPT = Path(__file__).parent / "earlier"
EXPECTED: dict[str, Any] = json.loads((KEPT / "expected.json").read_text())
MADE_IN = "/data/earlier"
"""The folder in which the files were made."""
WITHOUT_REPORT = ("--report.every_n_epochs", "0")
"""For runs whose report nothing reads: drawing it takes longer than they train."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files as they were when they were made; tests write elsewhere."""
    folder = tmp_path_factory.mktemp("unpacked") / "earlier"
    shutil.copytree(KEPT, folder)
    for packed in sorted(folder.rglob("*.xz")):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    for video in (folder / "videos").iterdir():
        os.utime(video, (EXPECTED["modified_seconds"],) * 2)
    return folder


@pytest.fixture
def earlier(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the current folder."""
    monkeypatch.chdir(unpacked)
    return unpacked


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command that must succeed; returns the JSON that it prints."""

    def run(*arguments: object) -> Any:
        capsys.readouterr()
        assert main([*map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def probabilities(answer: dict[str, Any]) -> dict[str, float]:
    return {ranked["label"]: ranked["probability"] for ranked in answer["ranking"]}


@pytest.mark.parametrize(
    ("network", "answer"),
    [
        ("checkpoint.ckpt", "checkpoint.ckpt"),
        ("hub", "checkpoint.ckpt"),
        ("exported/network.onnx", "checkpoint.ckpt"),
        ("exported/network.xml", "checkpoint.ckpt"),
        ("exported/network.pt2", "checkpoint.ckpt"),
        ("run/checkpoints/last.ckpt", "run"),
        ("run_averaged/checkpoints/best.ckpt", "run_averaged"),
    ],
)
def test_networks_predict(network: str, answer: str, earlier: Path, printed: Callable[..., Any]) -> None:
    if network.endswith(".pt2") and _release(torch.__version__) < _release(EXPECTED["torch"]):
        pytest.skip(f"torch {torch.__version__} need not read what torch {EXPECTED['torch']} exported")
    [found] = printed("predict", EXPECTED["video"], "--checkpoint", network, "--device", "cpu")
    assert probabilities(found) == pytest.approx(EXPECTED["probabilities"][answer], abs=1e-5)


def _release(version: str) -> list[int]:
    return [int(number) for number in version.split("+")[0].split(".")[:2]]


@pytest.mark.parametrize("manifest", ["segments.csv", "subset.csv"])
def test_manifests_are_scored(manifest: str, earlier: Path, tmp_path: Path, printed: Callable[..., Any]) -> None:
    videos = ("--data.manifest", manifest, "--data.num_workers", 0, "--accelerator", "cpu")
    report = printed("test", "--checkpoint", "checkpoint.ckpt", *videos, "--out", tmp_path / "test")
    expected = EXPECTED["test"][manifest]
    loss = report["calibration"]["as_trained"]["negative_log_likelihood"]
    assert loss == pytest.approx(expected["negative_log_likelihood"], abs=1e-5)
    assert report["top1"]["value"] == pytest.approx(expected["top1"])
    for name in ("videos", "manifest_hash", "missing_videos"):
        assert report[name] == expected[name]


def test_scores_are_compared(earlier: Path, printed: Callable[..., Any]) -> None:
    compared = printed("compare", "test", "test")
    assert compared["videos"] == 3
    assert compared["top1"]["a"] == compared["top1"]["b"] == pytest.approx(EXPECTED["test"]["segments.csv"]["top1"])


@pytest.mark.parametrize("run", ["run", "run_averaged"])
def test_runs_are_resumed(run: str, earlier: Path, tmp_path: Path) -> None:
    expected = EXPECTED["resumed"][run]
    folder = shutil.copytree(run, tmp_path / run)
    before = metrics(folder)
    more = ["--resume", "true", "--trainer.max_epochs", str(int(expected["epoch"]) + 1)]
    more += ["--model.optimisation.schedule_length", "extend"]
    more += WITHOUT_REPORT if run == "run_averaged" else ()
    assert main(["fit", "--config", f"{folder}/config.yaml", "--run_dir", str(folder), *more]) == 0
    *kept, added = metrics(folder)
    assert kept == [dict.fromkeys(added, "") | row for row in before]  # there are more columns now
    for name, value in expected.items():  # the losses need the weights, the optimiser's state and the random state
        assert float(added[name]) == pytest.approx(value, abs=1e-3), name
    assert main(["predict", EXPECTED["video"], "--checkpoint", f"{folder}/checkpoints/last.ckpt"]) == 0


def test_a_resumed_run_keeps_a_better_epoch(earlier: Path, tmp_path: Path) -> None:
    folder = shutil.copytree("run", tmp_path / "run")
    before = metrics(folder)
    more = ["--resume", "true", "--trainer.max_epochs", "3", "--model.optimisation.schedule_length", "extend"]
    too_high = ["--model.optimisation.lr", "5"]
    assert (
        main(["fit", "--config", f"{folder}/config.yaml", "--run_dir", str(folder), *more, *too_high, *WITHOUT_REPORT])
        == 0
    )
    assert float(metrics(folder)[-1]["val/top1"]) < float(before[-1]["val/top1"])  # so that it must not be the best
    assert (folder / "checkpoints/best.ckpt").read_bytes() == (earlier / "run/checkpoints/best.ckpt").read_bytes()


def test_a_run_is_not_resumed_on_other_data(earlier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree("run", tmp_path / "run")
    other = ["--resume", "true", "--trainer.max_epochs", "3", "--data.batch_size", "6"]
    assert main(["fit", "--config", f"{folder}/config.yaml", "--run_dir", str(folder), *other]) == 2
    assert (
        "data settings differ from those of the run to resume: batches_per_epoch was 3, now 2; batch_size was 4, now 6"
        in capsys.readouterr().err
    )


def test_configs_give_the_same_run(earlier: Path, tmp_path: Path) -> None:
    assert main(["fit", "--config", "fit.yaml", "--run_dir", str(tmp_path / "new"), *WITHOUT_REPORT]) == 0
    found, expected = metrics(tmp_path / "new"), metrics(earlier / "run")
    assert len(found) == len(expected) == 2
    for now, then in zip(found, expected, strict=True):
        for name in ("epoch", "step", "lr", "train/loss", "val/loss"):
            assert float(now[name]) == pytest.approx(float(then[name]), abs=1e-3), name


def test_a_runs_config_has_the_options_that_the_run_was_started_with(
    earlier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    understood = []
    for config in ("fit.yaml", "run/config.yaml"):
        with pytest.raises(SystemExit, match=r"^0$"):  # as the parser ends after it has printed
            main(["fit", "--config", config, "--print_config"])
        understood.append(yaml.safe_load(capsys.readouterr().out))
    assert understood[0] == understood[1]
    assert understood[0]["model"]["optimisation"]["lr"] == 0.05  # no default


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("folder", "options"),
    [
        ("predictions", ["--write", "safetensors,csv"]),
        ("timeline", ["--timeline", "true", "--window_seconds", 0.6, "--write", "srt"]),
    ],
)
def test_results_are_gone_on_with(
    folder: str, options: list[object], earlier: Path, tmp_path: Path, printed: Callable[..., Any]
) -> None:
    out = shutil.copytree(folder, tmp_path / folder)
    journal = out / "predictions.jsonl"
    then = [json.loads(line) for line in journal.read_text().splitlines()]
    changed = json.loads(json.dumps(then))
    for answer in changed:
        answer["ranking"][0]["probability"] = 0.875  # which nothing would compute
    journal.write_text("".join(json.dumps(answer) + "\n" for answer in changed))
    asked = ("predict", "val.csv", "--checkpoint", "checkpoint.ckpt", "--device", "cpu", "--out", out, *options)
    for found, answer in zip(printed(*asked), changed, strict=True):
        for ranked in found["ranking"]:
            assert ranked.pop("above_threshold") is None  # newer than these files
        for segment in found["segments"] or ():
            assert segment.pop("score") == segment["probability"]  # newer than these files
        assert {name: found[name] for name in answer if name not in ("name", "file")} == {
            name: value for name, value in answer.items() if name not in ("name", "file")
        }
    if folder == "predictions":
        features, before = load_file(out / "features.safetensors"), load_file(earlier / folder / "features.safetensors")
        assert {name: each.tolist() for name, each in features.items()} == {
            name: each.tolist() for name, each in before.items()
        }

    video = earlier / EXPECTED["video"]
    try:
        os.utime(video, (EXPECTED["modified_seconds"] + 1,) * 2)
        first, *others = printed(*asked)
    finally:
        os.utime(video, (EXPECTED["modified_seconds"],) * 2)
    assert probabilities(first) == pytest.approx(probabilities(then[0]), abs=1e-5)
    assert {probabilities(each)[each["ranking"][0]["label"]] for each in others} == {0.875}


def test_a_store_is_gone_on_with(earlier: Path, tmp_path: Path, printed: Callable[..., Any]) -> None:
    store = shutil.copytree("store", tmp_path / "store")
    record = store / "store.json"
    record.write_text(record.read_text().replace(MADE_IN, str(earlier.resolve())))
    made = printed("data", "prepare", "segments.csv", store, "--num_workers", 1)
    assert (made["videos"], made["already_there"], made["failed"]) == (3, 3, 0)
    assert (store / "manifest.csv").read_text() == (earlier / "store" / "manifest.csv").read_text()


def test_manifests_are_verified(earlier: Path, tmp_path: Path, printed: Callable[..., Any]) -> None:
    manifests = ("train.csv", "val.csv")
    found = printed("data", "verify", *manifests, "--out", tmp_path / "verify", "--num_workers", 1, "--sample", 2)
    assert (found["videos"], found["undecodable"], found["resolutions"]) == (15, [], {"42 x 32": 15})
