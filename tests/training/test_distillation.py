"""Distillation as a user runs it: teachers of all kinds, stored scores, resuming, and mistakes."""

from __future__ import annotations

import copy
import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import farfield
import hugging_face
from farfield import build_model, evaluate
from farfield.checkpoints.checkpoint import load_network, save_model
from farfield.checkpoints.content_hash import network_hash
from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Draw, Mix
from farfield.data.datamodule import VideoDataModule
from farfield.data.datasets import Batch
from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.scoring.load import load_model
from farfield.task import Task, class_probabilities
from farfield.training.config import TrainingRun, make_run
from farfield.training.distillation import Distillation, soft_losses
from farfield.training.lightning_module import TrainingModule
from farfield.training.teacher import NetworkTeacher, teacher_clip
from farfield.training.teacher_scores import StoredTeacher, segment_key
from farfield.training.train import train_run
from training.run_copies import copy_option

CLIP: dict[str, Any] = {"num_frames": 4, "crop_px": 24, "num_clips": 1, "num_crops": 1}


def network(labels: list[str], *, task: Task = "single_label", seed: int = 0, **clip: Any) -> ActionNet:
    torch.manual_seed(seed)
    made = build_model(
        "tiny", labels=labels, task=task, backbone_options={"depth": 1, "width": 0.25}, clip={**CLIP, **clip}
    )
    torch.nn.init.normal_(made.head.fc.weight, std=0.2)
    return made.eval()


def options(figures: Path, run_dir: Path, *more: str) -> list[str]:
    return [
        f"--run_dir={run_dir}",
        "--model.backbone=tiny",
        "--model.backbone_options={depth: 1, width: 0.25}",
        "--model.clip.crop_px=24",
        "--model.clip.num_frames=4",
        f"--data.train={figures / 'train.csv'}",
        "--data.batch_size=6",
        "--data.num_workers=0",
        "--trainer.max_epochs=2",
        "--trainer.log_every_n_steps=1",
        "--report.every_n_epochs=0",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        *more,
    ]


def losses(run_dir: Path) -> list[float]:
    with (run_dir / "steps.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def labels(figures: Path) -> list[str]:
    return read_manifest(figures / "train.csv").labels


@pytest.fixture(scope="module")
def teacher(figures: Path, labels: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of other frames, size and normalisation, whose classes are in another order."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.ckpt"
    save_model(network(labels[::-1], num_frames=7, crop_px=32, mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.25)), path)
    return path


@pytest.fixture(scope="module")
def unlabelled(figures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lists") / "unlabelled.csv"
    paths = [str(figures / record.path) for record in read_manifest(figures / "val.csv")]
    path.write_text("\n".join(["path", *paths]) + "\n")
    return path


def state(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_run_with_a_teacher_and_unlabelled_videos(
    figures: Path, teacher: Path, unlabelled: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    """The student's checkpoint is an ordinary one that says who taught it, and its config makes the same run again."""
    taught = (f"--model.teacher={teacher}", f"--data.unlabelled={unlabelled}", "--data.augmentation.mixup=0.3")
    averaged = ("--model.optimisation.ema_decay=0.9", "--trainer.precision=bf16-mixed")
    once = "--trainer.max_epochs=1"
    assert run_farfield("fit", *options(figures, tmp_path / "a", *taught, *averaged, once)) == 0
    assert len(losses(tmp_path / "a")) == 5  # 20 + 10 videos in batches of 6
    content = torch.load(tmp_path / "a/checkpoints/last.ckpt", weights_only=True)
    assert content["farfield"]["distillation"] == {
        "teacher": str(teacher),
        "teacher_hash": network_hash(teacher),
        "teacher_weight": 0.9,
        "temperature": 2.0,
    }
    assert content["farfield"]["data"]["unlabelled"]["videos"] == 10
    assert not [name for name in content["state_dict"] if "teacher" in name]
    weights = load_network(tmp_path / "a/checkpoints/last.ckpt").state_dict()
    assert len(content["optimizer_states"][0]["state"]) <= len(weights)
    assert run_farfield("fit", f"--config={tmp_path / 'a/config.yaml'}", f"--run_dir={tmp_path / 'b'}") == 0
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


@pytest.mark.slow
def test_without_weight_the_teacher_changes_nothing(
    figures: Path, labels: list[str], tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    """To the last bit: the student's clips, order and loss are those of a run without a teacher."""
    save_model(network(labels), tmp_path / "same_size.ckpt")
    ignored = (f"--model.teacher={tmp_path / 'same_size.ckpt'}", "--model.teacher_weight=0")
    once = "--trainer.max_epochs=1"
    assert run_farfield("fit", *options(figures, tmp_path / "plain", once)) == 0
    assert run_farfield("fit", *options(figures, tmp_path / "taught", once, *ignored)) == 0
    assert losses(tmp_path / "plain") == losses(tmp_path / "taught")
    plain, taught = state(tmp_path / "plain"), state(tmp_path / "taught")
    assert plain.keys() == taught.keys()
    assert all(torch.equal(plain[name], taught[name]) for name in plain)


@pytest.mark.slow
def test_run_resumes_with_the_same_curve(
    figures: Path, teacher: Path, labels: list[str], unlabelled: Path, tmp_path: Path
) -> None:
    """Stopped within the second epoch, with unlabelled videos of which each epoch has some."""

    def run(name: str, *more: str) -> TrainingRun:
        given = (f"--data.unlabelled={unlabelled}", "--data.unlabelled_share=0.3", "--checkpoint_every_n_steps=1")
        taught = (f"--model.teacher={teacher}", "--data.augmentation.cutmix=1")
        return make_run(options(figures, tmp_path / name, *taught, *given, *more))

    train_run(run("whole", copy_option(tmp_path / "whole", tmp_path, {"stopped": ("on_train_batch_start", 6)})))
    whole = losses(tmp_path / "whole")
    assert len(whole) == 2 * 4  # 20 labelled and 9 unlabelled samples in batches of 6
    assert len(losses(tmp_path / "stopped")) == 6
    train_run(run("stopped", "--resume=true"))
    assert losses(tmp_path / "stopped") == pytest.approx(whole, rel=1e-5)
    save_model(network(labels, seed=9), tmp_path / "other.ckpt")
    with pytest.raises(FarfieldError, match=r"was trained with another teacher: .*; the teacher is now .*other\.ckpt"):
        train_run(run("whole", "--resume=true", f"--model.teacher={tmp_path / 'other.ckpt'}"))
    with pytest.raises(FarfieldError, match=r"unlabelled_share was 0\.3, now 0\.5"):
        train_run(run("whole", "--resume=true", "--data.unlabelled_share=0.5", "--trainer.max_epochs=3"))


def batch_for(clips: torch.Tensor, draw: Draw | None = None, indices: list[int] | None = None) -> Batch:
    rows = torch.arange(len(clips)) if indices is None else torch.tensor(indices)
    return Batch(clips, torch.zeros(len(clips), dtype=torch.int64), rows, draw, [], clips)


def test_teachers_classes_are_reordered_and_restricted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a teacher with more classes, the student learns the probabilities given that it is one of its own."""
    model = network(["a", "b", "c", "d"])
    save_model(model, tmp_path / "t.ckpt")
    caplog.set_level("INFO")
    found = NetworkTeacher(str(tmp_path / "t.ckpt"), ["d", "b"], "single_label")
    assert "has 4 classes, and the student has 2 of them" in caplog.text
    clips = torch.randn(3, 3, 4, 24, 24)
    scores, weights = found.scores(batch_for(clips))
    assert weights is None
    p = model(clips).softmax(1)[:, [3, 1]]
    torch.testing.assert_close(scores.softmax(1), p / p.sum(1, keepdim=True), rtol=1e-4, atol=1e-6)


def test_teacher_is_frozen_and_no_part_of_the_student(tmp_path: Path) -> None:
    save_model(network(["a", "b"]), tmp_path / "t.ckpt")
    student = network(["b", "a"], seed=1)
    module = TrainingModule(student, distillation=Distillation(str(tmp_path / "t.ckpt")))
    plain = TrainingModule(network(["b", "a"], seed=1))
    assert module.state_dict().keys() == plain.state_dict().keys()
    assert len(list(module.parameters())) == len(list(plain.parameters()))
    distiller = module.distiller
    assert distiller is not None
    assert isinstance(distiller.teacher, NetworkTeacher)
    assert copy.deepcopy(module).distiller is distiller  # the averaged weights have no copy of it
    module.train()
    assert not distiller.teacher.network.training  # type: ignore[attr-defined]
    clips = torch.randn(2, 3, 4, 24, 24)
    distiller.soft_loss(student.train()(clips), batch_for(clips)).backward()
    assert all(p.grad is None for p in distiller.teacher.network.parameters())  # type: ignore[attr-defined]
    assert all(p.grad is not None for p in student.parameters())
    assert TrainingModule(network(["a", "b"])).distiller is None


def test_teacher_runs_under_the_students_autocast(tmp_path: Path) -> None:
    save_model(network(["a", "b"]), tmp_path / "t.ckpt")
    found = NetworkTeacher(str(tmp_path / "t.ckpt"), ["a", "b"], "single_label")
    with torch.autocast("cpu", torch.bfloat16):
        assert found.scores(batch_for(torch.randn(2, 3, 4, 24, 24)))[0].dtype == torch.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "onnx_frames", "xml_int8", "pt2"])
def test_exported_teachers(kind: str, figures: Path, labels: list[str], tmp_path: Path) -> None:
    model = network(labels, test_crop_px=32)
    path = tmp_path / ("exported" if kind == "folder" else f"t.{kind.partition('_')[0]}")
    more: dict[str, Any] = {"clips": str(figures / "val.csv"), "tolerance": 1.0} if kind == "xml_int8" else {}
    save_model(model, tmp_path / "t.ckpt")
    farfield.export(
        str(tmp_path / "t.ckpt"),
        str(path),
        to_folder=kind == "folder",
        int8=kind == "xml_int8",
        include_preprocessing=kind == "onnx_frames",
        progress=False,
        **more,
    )
    spec = teacher_clip(str(path))
    assert spec is not None
    assert (spec["num_frames"], spec["test_crop_px"]) == (4, 32)
    found = NetworkTeacher(str(path), labels, "single_label")
    assert found.provenance["teacher_hash"] == network_hash(path)
    clips = (torch.rand(3, 3, 4, 32, 32) * 255).round() / 255
    clips = (clips - 0.45) / 0.225
    student = torch.zeros(3, 10, requires_grad=True)
    scores, _ = found.scores(batch_for(clips))
    soft_losses(student, scores, "single_label", temperature=2).sum().backward()  # autograd takes them
    close = 0.3 if kind == "xml_int8" else 1e-3
    torch.testing.assert_close(scores.softmax(1), model(clips).softmax(1).detach(), rtol=0, atol=close)


@pytest.mark.slow
@pytest.mark.dependency
def test_hugging_face_teacher(tmp_path: Path) -> None:
    """Its classes are chosen by name, and its scores are those of `transformers`."""
    model = hugging_face.make_model("videomae")
    folder = str(hugging_face.save(model, tmp_path / "videomae"))
    found = NetworkTeacher(folder, ["jump", "run"], "single_label")
    assert found.provenance == {"teacher": folder, "teacher_hash": network_hash(folder)}
    assert (found.clip.num_frames, found.clip.test_side_px) == (4, 48)
    clips = torch.randn(2, 3, 4, 48, 48)
    scores, weights = found.scores(batch_for(clips))
    assert weights is None
    torch.testing.assert_close(scores, hugging_face.their_scores(model, clips)[:, [1, 0]], rtol=1e-3, atol=1e-3)


def scores_file(model: ActionNet, manifest: Path, out: Path) -> Path:
    evaluate(model, manifest, out=out, num_workers=0, accelerator="cpu", progress=False)
    return out / "scores.npz"


@pytest.mark.slow
@pytest.mark.parametrize("task", ["single_label", "multilabel", "multi_head"])
def test_stored_scores_of_both_commands_agree(
    task: Task, figures: Path, tmp_path: Path, run_farfield: Callable[..., int], labels: list[str]
) -> None:
    """`farfield test` and `farfield predict` store the same mean over the teacher's clips."""
    names = labels if task != "multi_head" else ["noun:a", "noun:b", "verb:x", "verb:y", "verb:z"]
    records = list(read_manifest(figures / "val.csv"))[:3]
    rows = [
        VideoRecord(str(figures / record.path), "noun:b|verb:x" if task == "multi_head" else record.label)
        for record in records
    ]
    rows.append(VideoRecord(rows[0].path, rows[0].label, 0.4, 1.2))
    write_manifest(tmp_path / "all.csv", rows)
    save_model(network(names, task=task, num_clips=3), tmp_path / "t.ckpt")
    stored = scores_file(load_model(tmp_path / "t.ckpt", for_training=True), tmp_path / "all.csv", tmp_path / "test")
    words = ["predict", tmp_path / "all.csv", "--checkpoint", tmp_path / "t.ckpt", "--out", tmp_path / "p"]
    assert run_farfield(*words, "--top_k=10", "--device=cpu") == 0
    teachers = [StoredTeacher(str(path), names, task) for path in (stored, tmp_path / "p/predictions.jsonl")]
    run = make_run(
        [
            *options(figures, tmp_path / "run", f"--model.task={task}", "--data.augmentation.flip=false"),
            f"--data.train={tmp_path / 'all.csv'}",
            f"--data.labels={json.dumps(names)}",
        ]
    )
    for each in teachers:
        each.find_videos(run.datamodule)
    a, b = (each.table for each in teachers)
    assert a is not None
    assert b is not None
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert not torch.equal(a[0], a[3])  # a segment has its own scores
    scores, weights = teachers[0].scores(batch_for(torch.zeros(2, 1), indices=[3, 1]))
    torch.testing.assert_close(class_probabilities(scores, task), a[[3, 1]])
    assert weights.tolist() == [1, 1]


def test_stored_scores_follow_flips_and_mixing(tmp_path: Path) -> None:
    """A mirrored clip has the scores of the mirrored classes, and a mixed one the mixture."""
    file = tmp_path / "predictions.jsonl"
    chances = {"left": 0.7, "right": 0.2, "stay": 0.1}
    lines = [
        {"path": str(tmp_path / "a.mp4"), "ranking": [{"label": k, "probability": v} for k, v in chances.items()]},
        {"path": str(tmp_path / "b.mp4"), "ranking": [{"label": k, "probability": 1 / 3} for k in chances]},
        {"path": str(tmp_path / "gone.mp4"), "ranking": [], "error": "no such file"},
    ]
    file.write_text("".join(json.dumps(each) + "\n" for each in lines))
    write_manifest(tmp_path / "m.csv", [VideoRecord(name, "stay") for name in ("a.mp4", "b.mp4", "gone.mp4")])
    found = StoredTeacher(str(file), ["stay", "left", "right"], "single_label")
    data = VideoDataModule(
        str(tmp_path / "m.csv"), clip=ClipSpec(**CLIP), labels=["stay", "left", "right"], batch_size=1
    )
    found.find_videos(data)
    mix = Mix(torch.tensor([1, 0, 1, 2]), torch.tensor([1.0, 0.6, 0.9, 0.8]), torch.zeros(4, 4, dtype=torch.int64))
    draw = Draw(flip=torch.tensor([True, False, True, False]), mix=mix)
    scores, weights = found.scores(batch_for(torch.zeros(4, 1), draw, [0, 1, 2, 1]))
    third = np.full(3, 1 / 3)
    mirrored = np.array([0.1, 0.2, 0.7])
    np.testing.assert_allclose(scores.softmax(1)[0], mirrored, rtol=1e-5)
    np.testing.assert_allclose(scores.softmax(1)[1], 0.6 * third + 0.4 * mirrored, rtol=1e-5)
    assert weights.tolist() == [1, 1, 0, 0]  # of a video that the teacher could not read, nothing is learnt
    assert scores.isfinite().all()


@pytest.mark.slow
def test_run_with_stored_scores(
    figures: Path, teacher: Path, unlabelled: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    listed = [figures / "train.csv", unlabelled.with_name("labelled_too.csv")]
    write_manifest(
        listed[1], [VideoRecord(str(figures / record.path), "") for record in read_manifest(figures / "val.csv")]
    )
    words = ["predict", *listed, "--checkpoint", teacher, "--out", tmp_path / "p", "--top_k=10", "--device=cpu"]
    assert run_farfield(*words) == 0
    stored = f"--model.teacher_scores={tmp_path / 'p/predictions.jsonl'}"
    run = (f"--data.unlabelled={unlabelled}", "--data.augmentation.mixup=0.2", "--trainer.max_epochs=1", stored)
    assert run_farfield("fit", *options(figures, tmp_path / "run", *run)) == 0
    content = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert content["farfield"]["distillation"]["teacher"].endswith("predictions.jsonl")


def refused(*words: str) -> str:
    with pytest.raises(FarfieldError) as found:
        make_run(list(words))
    return str(found.value)


@pytest.mark.slow
def test_mistakes(figures: Path, labels: list[str], unlabelled: Path, tmp_path: Path) -> None:
    def refusal(*more: str) -> str:
        message = refused(*options(figures, tmp_path / "run", *more))
        assert not (tmp_path / "run").exists()
        return message

    assert "model.teacher is gone.ckpt, which does not exist. Give a checkpoint" in refusal("--model.teacher=gone.ckpt")
    save_model(network(["bow", "walk"]), tmp_path / "few.ckpt")
    few = refusal(f"--model.teacher={tmp_path / 'few.ckpt'}")
    assert "few.ckpt lacks 9 of the student's 10 classes, such as" in few
    save_model(network(labels, task="multilabel"), tmp_path / "several.ckpt")
    several = refusal(f"--model.teacher={tmp_path / 'several.ckpt'}")
    assert "has task 'multilabel', but the student's task is 'single_label'" in several
    alone = refusal(f"--data.unlabelled={unlabelled}")
    assert "data.unlabelled is set, but training on videos without labels needs a teacher" in alone
    save_model(network(labels), tmp_path / "fits.ckpt")
    good = f"--model.teacher={tmp_path / 'fits.ckpt'}"
    assert "model.teacher and model.teacher_scores are both set" in refusal(good, "--model.teacher_scores=s.npz")
    assert "model.teacher_weight is 1.5; it must be from 0 to 1" in refusal(good, "--model.teacher_weight=1.5")
    assert "model.temperature is 0.0; it must be a number above 0" in refusal(good, "--model.temperature=0")
    assert "need a teacher, but none is given" in refusal("--model.temperature=4")
    assert "s.npz does not exist" in refusal("--model.teacher_scores=s.npz")
    assert "s.jsonl, which does not exist" in refusal("--model.teacher_scores=s.jsonl")
    (tmp_path / "damaged.ckpt").write_bytes(b"no checkpoint")
    assert "cannot be read as a checkpoint" in refusal(f"--model.teacher={tmp_path / 'damaged.ckpt'}")


@pytest.mark.slow
def test_mistakes_in_stored_scores(figures: Path, labels: list[str], tmp_path: Path) -> None:
    def refusal(*lines: object) -> str:
        file = tmp_path / "predictions.jsonl"
        file.write_text("".join(json.dumps(each) + "\n" for each in lines))
        return refused(*options(figures, tmp_path / "run", f"--model.teacher_scores={file}"))

    def line(name: str, chances: dict[str, float]) -> dict[str, Any]:
        ranking = [{"label": label, "probability": chance} for label, chance in chances.items()]
        return {"path": str(figures / name), "ranking": ranking}

    even = dict.fromkeys(labels, 0.1)
    assert "lacks the scores of 20 of 20 training videos, such as" in refusal(line("videos/other.mp4", even))
    assert "has only the most probable classes" in refusal(line("a.mp4", dict.fromkeys(labels[:4], 0.1)))
    different = refusal(line("a.mp4", even), line("b.mp4", dict.fromkeys(labels[1:], 0.1)))
    assert "does not have the same classes for every video: " in different
    assert f"b.mp4 lacks {labels[0]!r}, unlike the videos before it. Run farfield predict --out with" in different
    few = [dict.fromkeys(labels[:4], 0.2), {**dict.fromkeys(labels[1:4], 0.2), "other": 0.2}]
    assert f"b.mp4 lacks {labels[0]!r}, unlike" in refusal(line("a.mp4", few[0]), line("b.mp4", few[1]))
    more = {**even, "added": 0.0}
    assert "b.mp4 has 'added', unlike the videos before it." in refusal(line("a.mp4", even), line("b.mp4", more))
    assert "cannot be read as predictions.jsonl" in refusal([1, 2])
    assert "cannot be read as predictions.jsonl" in refusal({"ranking": []})
    assert "has no scores. Run farfield predict" in refusal({"path": "a.mp4", "ranking": [], "error": "gone"})
    other = {**even, labels[0]: 0.102, labels[1]: 0.098}
    twice = refusal(line("a.mp4", even), line("b.mp4", even), line("../figures/a.mp4", other))
    assert re.search(r"has two different scores for \S+a\.mp4\. Give a file that one run", twice)
    assert "the probability of 'bow' is nan; it must be from 0 to 1" in refusal(line("a.mp4", even | {"bow": math.nan}))


def test_stored_scores_of_a_video_that_is_listed_twice(tmp_path: Path) -> None:
    """Equal scores count once, and a failure does not replace scores. Videos are found in any order."""
    lines = [
        {"path": str(tmp_path / name), "ranking": [{"label": k, "probability": p} for k, p in chances.items()]}
        for name, chances in [
            ("gone.mp4", {}), ("a.mp4", {"x": 0.7, "y": 0.3}), ("a.mp4", {"y": 0.3, "x": 0.7}), ("a.mp4", {}),
            ("b.mp4", {}), ("b.mp4", {"x": 0.2, "y": 0.8}),
        ]
    ]  # fmt: skip
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    write_manifest(tmp_path / "m.csv", [VideoRecord(name, "x") for name in ("b.mp4", "gone.mp4", "a.mp4")])
    found = StoredTeacher(str(tmp_path / "p.jsonl"), ["y", "x"], "single_label")
    found.find_videos(VideoDataModule(str(tmp_path / "m.csv"), clip=ClipSpec(**CLIP), labels=["y", "x"]))
    assert found.table is not None
    np.testing.assert_allclose(found.table, [[0.8, 0.2], [np.nan, np.nan], [0.3, 0.7]], rtol=1e-6)


def test_segments_of_long_videos_are_found_in_a_file_of_float32_times() -> None:
    """Times at 29.97 frames per second lie anywhere between two milliseconds."""
    path = Path("/videos/a.mp4")
    for frame in range(0, 300_000, 997):  # almost three hours
        start, end = frame / 29.97, (frame + 40) / 29.97
        stored = float(np.float32(start)), float(np.float32(end))
        assert segment_key(path, start, end) == segment_key(path, *stored)
    assert segment_key(path, 1.001, None) != segment_key(path, 1.002, None)
    assert segment_key(path, None, math.nan) == (str(path), 0, math.inf)
