"""A callback that copies a run's folder while the run goes on: what a run that is killed there leaves."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

from lightning.pytorch import Callback, Trainer

Place = tuple[str, int]
"""Hook of a callback, and number of optimiser steps."""


class CopyRunFolder(Callback):
    """Copy the run folder at each of `places`, into the folder `to`.

    Args:
        run_dir: folder of the run.
        to: folder of the copies.
        places: hook and step of each copy, by the copy's name.
    """

    def __init__(self, run_dir: str, to: str, places: dict[str, Place]) -> None:
        for hook in {hook for hook, _ in places.values()}:
            copies = {step: Path(to, name) for name, (at, step) in places.items() if at == hook}
            setattr(self, hook, partial(self._copy, Path(run_dir), copies))

    @staticmethod
    def _copy(run_dir: Path, copies: dict[int, Path], trainer: Trainer, *_args: object, **_kwargs: object) -> None:
        copy = copies.get(trainer.global_step)
        if copy is not None and trainer.is_global_zero and not copy.exists():
            shutil.copytree(run_dir, copy)


def copy_option(run_dir: Path, to: Path, places: dict[str, Place]) -> str:
    """Return the option of `farfield fit` that adds a `CopyRunFolder`."""
    settings = {"run_dir": str(run_dir), "to": str(to), "places": places}
    callback = {"class_path": f"{__name__}.CopyRunFolder", "init_args": settings}
    return f"--trainer.callbacks={json.dumps([callback])}"
