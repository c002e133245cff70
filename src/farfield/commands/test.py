"""`farfield validate` and `farfield test`: score a checkpoint on a manifest."""

from __future__ import annotations

import json as json_format
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar

from farfield.allocator import keep_freed_memory
from farfield.checkpoints.checkpoint import load_network
from farfield.checkpoints.content_hash import network_hash
from farfield.commands.console import as_mistakes, quiet_libraries
from farfield.data.datamodule import TestDataModule
from farfield.data.manifest import Manifest, read_manifest
from farfield.errors import FarfieldError
from farfield.evaluation.calibration import fit_temperature
from farfield.evaluation.scores_file import Scores
from farfield.evaluation.test_report import EvaluationResult, write_report
from farfield.models.class_subset import restrict_labels as restrict
from farfield.models.summary import summarise
from farfield.training.callbacks import Failures
from farfield.training.lightning_module import TrainingModule
from farfield.training.mixed_precision import check_precision

log = logging.getLogger("farfield")


@dataclass(frozen=True)
class TestData:
    """The videos to score.

    Args:
        manifest: CSV of the videos.
        root: folder that its paths are relative to; None for the manifest's own.
        num_workers: processes that decode; None for the number of cores, but at most 8.
        batch_size: videos in a batch.
    """

    __test__ = False  # no test of pytest's

    manifest: str
    root: str | None = None
    num_workers: int | None = None
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.num_workers or 0) < 0:
            raise FarfieldError("data.batch_size must be at least 1, data.num_workers at least 0 or null.")


def test(
    checkpoint: str,
    data: TestData,
    *,
    num_clips: int | None = None,
    num_crops: int | None = None,
    out: str | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    precision: str = "32-true",
    view_batch_size: int | None = 16,
    restrict_labels: bool = False,
    calibrate_on: str | None = None,
    json: bool = False,
) -> int:
    """Scores a checkpoint on the videos of a manifest, views averaged, and writes a report.

    The network, its labels, sampling and normalisation come from the checkpoint. Every video is opened and decoded
    once for all of its views.

    Args:
        checkpoint: a .ckpt file.
        data: the videos to score.
        num_clips: clips spread over each video; null for the checkpoint's own setting.
        num_crops: crops of each clip; null for the checkpoint's own setting.
        out: folder for report.json, report.md, predictions.csv, the scores of all views and the confusion matrix
            (scores.npz, also for `farfield compare`) and pictures; null for `test` in the run's.
        accelerator: where to run, as Lightning's Trainer takes it: auto, cpu, gpu.
        devices: how many of them, each with a process of its own and a share of the videos.
        precision: of the network, as Lightning's Trainer takes it: 32-true, bf16-mixed, 16-mixed.
        view_batch_size: views that go through the network at once; null for a whole batch's.
        restrict_labels: score among the manifest's classes only, which are some of the network's: a subset of
            Kinetics with a network of all of its classes.
        calibrate_on: manifest of the validation videos: their scores choose a temperature, with which probabilities
            are reported (Guo et al., ICML 2017). No ranking changes.
        json: print the report as JSON.
    """
    quiet_libraries()
    if view_batch_size is not None and view_batch_size < 1:
        raise FarfieldError(f"view_batch_size is {view_batch_size}; it must be at least 1, or null.")
    network = load_network(checkpoint)
    manifest = read_manifest(data.manifest, root=data.root)
    held_out = None if calibrate_on is None else read_manifest(calibrate_on, root=data.root)
    restricted: dict[str, Any] = {}
    if restrict_labels:
        restricted = {"scored_among": f"{len(manifest.labels)} of the network's {len(network.labels)} classes"}
        network = restrict(network, manifest.labels)
    changes = {"num_clips": num_clips, "num_crops": num_crops}
    clip = network.clip.replace(**{name: count for name, count in changes.items() if count is not None})  # checks them
    views = {"num_clips": clip.num_clips, "num_crops": clip.num_crops}
    cost = summarise(network, side_px=clip.test_side_px).multiply_adds / 1e9

    def videos_of(which: Manifest) -> TestDataModule:
        return TestDataModule(
            which, network.labels, clip, **views, batch_size=data.batch_size, num_workers=data.num_workers
        )

    module = TrainingModule(network, view_batch_size=view_batch_size)
    failures = Failures()
    with as_mistakes(ValueError):
        trainer = Trainer(
            accelerator=accelerator,
            devices=devices,
            strategy="ddp" if devices > 1 else "auto",
            use_distributed_sampler=False,  # the data module's loader gives each process its share
            precision=precision,  # type: ignore[arg-type]  # checked by Lightning
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=[failures, RichProgressBar(console_kwargs={"stderr": True})],  # standard output is for results
        )
    check_precision(trainer)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()

    def score(which: Manifest, name: str) -> Scores:
        trainer.test(module, datamodule=videos_of(which), verbose=False)
        if not any(len(indices) for indices, _, _ in module.test_scores):
            path, reason = failures.found[0]
            raise FarfieldError(f"none of the {len(which)} videos of {name} can be read. The first: {path}: {reason}.")
        scored = [part for part in module.test_scores if len(part[0])]
        indices, targets, probabilities = (torch.cat(parts) for parts in zip(*scored, strict=True))
        rows = indices.tolist()
        paths = [_canonical(which.path(row)) for row in rows]
        times = [(which[row].start_seconds, which[row].end_seconds) for row in rows]
        segments = torch.tensor([[math.nan if time is None else time for time in each] for each in times]).double()
        return Scores(list(network.labels), paths, targets, probabilities, None if segments.isnan().all() else segments)

    temperature = None
    if held_out is not None:
        calibrating = score(held_out, str(calibrate_on))
        for path, reason in failures.found if trainer.is_global_zero else []:
            log.warning("left out of the calibration: %s: %s", path, reason)
        temperature = fit_temperature(calibrating.probabilities, calibrating.targets)
    scores = score(manifest, data.manifest)
    if not trainer.is_global_zero:
        return 0
    result = EvaluationResult(scores, failures.found, temperature, cost)
    about = {
        "checkpoint": checkpoint,
        "weights": network_hash(checkpoint),
        "manifest": data.manifest,
        **({} if data.root is None else {"root": data.root}),
        "manifest_hash": manifest.content_hash(),
        "missing_videos": manifest.provenance()["missing"],
        "backbone": network.config["backbone"],
        "inserted": network.config["insert"],
        **restricted,
        **({} if held_out is None else {"calibrated_on": calibrate_on, "temperature": round(temperature or 1.0, 4)}),
        **views,
        "precision": precision,
    }
    folder = Path(out) if out else _run_folder(checkpoint) / "test"
    report = write_report(result, folder, about)
    print(json_format.dumps(report, indent=2) if json else _summary(report, folder))
    return 0


def validate(checkpoint: str, data: TestData, *, accelerator: str = "auto", json: bool = False) -> int:
    """Scores a checkpoint as after a training epoch: one central view per video. `test` uses all views.

    Args:
        checkpoint: a .ckpt file.
        data: the videos to score.
        accelerator: where to run, as Lightning's Trainer takes it: auto, cpu, gpu.
        json: print the report as JSON.
    """
    out = str(_run_folder(checkpoint) / "validate")
    return test(checkpoint, data, num_clips=1, num_crops=1, out=out, accelerator=accelerator, json=json)


def _canonical(video: Path) -> str:
    """The same from wherever the manifest is named; a link keeps its own name, as its target may be a hash."""
    return str(video.parent.resolve() / video.name)


def _run_folder(checkpoint: str) -> Path:
    folder = Path(checkpoint).parent
    return folder.parent if folder.name == "checkpoints" else folder


def _summary(report: dict[str, Any], folder: Path) -> str:
    lines = [f"{report['videos']} videos, {report['num_clips']} clips x {report['num_crops']} crops each"]
    if "scored_among" in report:
        lines.append(f"scored among {report['scored_among']}")
    for name, shown in (("top1", "top-1"), ("top5", "top-5"), ("mean_class_accuracy", "mean class accuracy")):
        e = report[name]
        interval = f"95% interval {100 * e['low']:.1f} to {100 * e['high']:.1f}"
        lines.append(f"{shown:<20} {100 * e['value']:6.2f}%   {interval}")
    calibrated = report["calibration"]
    errors = [
        100 * calibrated[name]["expected_error"] for name in ("as_trained", "with_temperature") if name in calibrated
    ]
    lines.append(f"{'calibration error':<20} {' -> '.join(f'{error:6.2f}%' for error in errors)}")
    if calibrated["temperature"] is not None:
        lines[-1] += f"   with temperature {calibrated['temperature']:.3f}"
    failures = report["undecodable_videos"]
    if failures:
        lines.append(f"{len(failures)} videos could not be decoded:")
        lines += [f"  {failure['path']}: {failure['reason']}" for failure in failures]
    return "\n".join([*lines, f"report: {folder / 'report.md'}"])
