"""Helpers of scripts that train many networks: a run in separate processes, and intervals over several runs."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from scipy.stats import t as student

from farfield.cli import main
from farfield.curation.groups import read_with_groups
from farfield.data.manifest import Manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.evaluation.metrics import Estimate, wilson
from farfield.parallel import end_with_parent, worker_context

ON_CPU: dict[str, Any] = {
    "data.num_workers": 0,
    "data.memory_gb": 2,  # nothing is decoded twice
    "trainer.accelerator": "cpu",
    "trainer.enable_progress_bar": False,
    "trainer.enable_model_summary": False,
    "wandb.mode": "disabled",
    "report.every_n_epochs": 0,
}
"""Options of a small run on the CPU that shows and tracks nothing."""


def read_groups(
    source: str | Path, root: str | None, pattern: str | None
) -> tuple[Manifest, dict[str, list[VideoRecord]]]:
    """Read a manifest; return it, and the videos of each group with absolute paths.

    Raises:
        FarfieldError: for a video without a group, or a pattern that finds nothing in a name.
    """
    manifest = read_with_groups(source, pattern, root)
    groups: dict[str, list[VideoRecord]] = defaultdict(list)
    for row, record in enumerate(manifest):
        if record.group is None:
            raise FarfieldError(f"{record.path} has no group. Give --group, or fill the column `group`.")
        groups[record.group].append(replace(record, path=str(manifest.path(row).absolute())))
    return manifest, groups


def fit_and_test(folder: Path, options: Mapping[str, Any], manifest: Path, *, extra: Sequence[str] = ()) -> None:
    """Run `farfield fit` and `farfield test` in a process of their own with one thread, and log to folder/log.txt.

    A run that was stopped resumes from its last epoch.

    Args:
        folder: folder of the run.
        options: options of `fit`, by name.
        manifest: videos to test the last checkpoint on, with the checkpoint's own views.
        extra: more arguments of `fit`, placed first, so that `options` override them.

    Raises:
        RuntimeError: if a command fails.
    """
    test = ["test", "--checkpoint", folder / "checkpoints" / "last.ckpt", "--data.manifest", manifest]
    test += ["--accelerator=cpu", "--data.num_workers=0", "--data.batch_size=16"]
    run_commands([fit_command(folder, options, extra=extra), test], folder / "log.txt")


def fit_command(folder: Path, options: Mapping[str, Any], *, extra: Sequence[str] = ()) -> list[Any]:
    """Return the words of a `farfield fit` into a folder, which resumes if it was stopped, see `fit_and_test`."""
    options = {**options, "run_dir": folder, "resume": True}
    return ["fit", *extra, *(f"--{name}={_yaml(value)}" for name, value in options.items())]


def run_commands(commands: Sequence[Sequence[Any]], log: Path, *, num_threads: int = 1) -> None:
    """Run commands of farfield in a process of their own until one fails; their output goes to a file.

    Raises:
        RuntimeError: if a command fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [[str(word) for word in command] for command in commands]
    process = worker_context("farfield.training.config").Process(target=_run, args=(words, log, num_threads))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"a run failed with status {process.exitcode}; see {log}")


def _run(commands: list[list[str]], log: Path, num_threads: int) -> None:
    """Run commands until one fails; their output goes to a file. Ends with the script, also if that is killed."""
    end_with_parent()
    with log.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    torch.set_num_threads(num_threads)
    for words in commands:
        if status := main(words):
            sys.exit(status)


def _yaml(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list | bool) else str(value)


def read_report(folder: Path) -> dict[str, Any] | None:
    """Read the test report of a run; None if there is none yet."""
    report = folder / "test" / "report.json"
    return json.loads(report.read_text()) if report.is_file() else None


def estimate(values: Sequence[float], videos: int) -> Estimate:
    """Compute the mean of several runs' accuracies on `videos` videos each, with its 95% interval.

    The interval is Student's t over the runs, but never narrower than Wilson's over all their videos: equal results of
    three runs do not make the test set larger.
    """
    mean, count = statistics.fmean(values), len(values)
    sampled = wilson(mean * videos * count, videos * count)
    if count < 2:
        return sampled
    half = float(student.ppf(0.975, count - 1)) * statistics.stdev(values) / count**0.5
    return Estimate(mean, max(min(mean - half, sampled.low), 0.0), min(max(mean + half, sampled.high), 1.0))
