"""Weights & Biases: the logger, and the media that go with the figures.

Without an account, runs are written offline and can be synced later; nothing in training needs the network.
"""

from __future__ import annotations

import logging
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from uuid import uuid4

import requests
import wandb
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from farfield.errors import FarfieldError
from farfield.training.diagnostics import Diagnostics
from farfield.video.writer import write_video

log = logging.getLogger("farfield")


@dataclass(frozen=True)
class WandbSettings:
    """How a run is tracked.

    Args:
        mode: "online", "offline" or "disabled"; "auto" is online with an account (WANDB_API_KEY or `wandb login`),
            else offline. The environment variable WANDB_MODE has the last word.
        project: project to log to.
        name: the run's name; None for the name of its folder.
        artifacts: keep manifests and checkpoints as artifacts.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "farfield"
    name: str | None = None
    artifacts: bool = True


def make_wandb_logger(settings: WandbSettings, run_dir: Path, config: dict[str, Any]) -> WandbLogger | None:
    """Starts tracking; a run that is resumed goes on under the same id. None where tracking is disabled."""
    mode: str = os.environ.get("WANDB_MODE", settings.mode)
    mode = {"dryrun": "offline", "run": "online"}.get(mode, mode)  # older names; Lightning sets the first
    if mode == "disabled":
        return None
    reason = "as asked"
    if mode == "auto":
        reason = _why_offline()
        mode = "offline" if reason else "online"
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined]  # set by Lightning
        return WandbLogger(project=settings.project)  # a stand-in: only the first process tracks
    id_file = run_dir / "wandb_run_id"
    if not id_file.is_file():
        id_file.write_text(os.environ.get("WANDB_RUN_ID", uuid4().hex[:8]) + "\n")  # an agent has chosen it already

    logger = WandbLogger(
        project=settings.project,
        name=settings.name or run_dir.name,
        save_dir=run_dir,
        id=id_file.read_text().strip(),
        offline=mode == "offline",
        resume="allow" if mode == "online" else None,
        config=config,
    )
    try:
        logger.experiment  # noqa: B018  # begins the run
    except wandb.errors.CommError as error:
        reason = str(error).splitlines()[0]
        raise FarfieldError(
            f"Weights & Biases cannot be reached: {reason}. Keep the run here with --wandb.mode offline."
        ) from error
    if mode == "offline":
        parts = shlex.join(map(str, _to_upload(Path(logger.experiment.dir).parent, logger.experiment.id)))
        log.info("Weights & Biases is offline: %s. To upload the run later: wandb sync %s", reason, parts)
    return logger


def _to_upload(folder: Path, run_id: str) -> list[Path]:
    """The folders of a run in order: one more each time it was resumed; without those that are uploaded."""
    parts = {*folder.parent.glob(f"offline-run-*-{run_id}"), folder}
    return sorted(part for part in parts if part == folder or not any(part.glob("*.wandb.synced")))


def sweep_folder(run_dir: Path) -> Path:
    """The run's own folder where an agent of a W&B sweep has started it, one below `run_dir`; else `run_dir`."""
    run_id = os.environ.get("WANDB_RUN_ID")
    return run_dir / run_id if run_id and os.environ.get("WANDB_SWEEP_ID") else run_dir


def has_wandb_account() -> bool:
    """Whether there is a key in the environment or in the netrc file, where `wandb login` puts it."""
    return bool(os.environ.get("WANDB_API_KEY")) or requests.utils.get_netrc_auth(_wandb_host()) is not None


def _why_offline() -> str:
    """Why a run has to be kept offline; empty where it can go online."""
    if not has_wandb_account():
        return "no account was found"
    try:
        requests.head(_wandb_host(), timeout=5)  # any answer will do
    except requests.RequestException:
        return f"{_wandb_host()} cannot be reached"
    return ""


def _wandb_host() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def log_diagnostics(logger: WandbLogger, found: Diagnostics) -> None:
    """Sends a validation's tables, pictures and clips to a run."""
    media: dict[str, Any] = {"trainer/global_step": found.step, "epoch": found.epoch}
    media["val/expected_calibration_error"] = found.calibration.expected_error
    for name, table in found.tables.items():
        media[f"val/{name}"] = wandb.Table(columns=list[str | int](table.columns), data=table.rows)
    for name, figure in found.pictures.items():
        media[f"val/{name}"] = wandb.Image(figure)
    with TemporaryDirectory() as folder:  # log() copies the files
        for name, clips in found.clips.items():
            videos = []
            for i, clip in enumerate(clips):
                path = Path(folder, f"{name}_{i}.mp4")
                write_video(path, clip.frames, fps=4)  # slow, so that each of the few frames is seen
                videos.append(wandb.Video(str(path), caption=clip.caption, format="mp4"))
            if videos:
                media[f"val/{name}"] = videos
        logger.experiment.log(media)


class WandbArtifacts(Callback):
    """Keeps manifests and checkpoints of a run as artifacts: the latter with the aliases "best" and "last".

    Args:
        manifests: name of a split to its file.
        folder: of the checkpoints.
    """

    def __init__(self, manifests: dict[str, Path], folder: Path) -> None:
        self.manifests = manifests
        self.folder = folder

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for split, path in self.manifests.items():
            self._log(trainer, f"manifest-{split}", "dataset", path, [])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for alias in ("best", "last"):  # the last to be kept is the latest, too
            path = self.folder / f"{alias}.ckpt"
            if path.is_file():
                self._log(trainer, f"model-{trainer.logger.version}", "model", path, [alias])  # type: ignore[union-attr]

    def _log(self, trainer: Trainer, name: str, kind: str, path: Path, aliases: list[str]) -> None:
        if not trainer.is_global_zero or not isinstance(trainer.logger, WandbLogger):
            return
        artifact = wandb.Artifact(name, kind)
        # "mutable" copies the file: a run that is resumed writes last.ckpt anew before an offline one is synced.
        artifact.add_file(str(path), policy="mutable", skip_cache=True)
        trainer.logger.experiment.log_artifact(artifact, aliases=aliases)
