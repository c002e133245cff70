"""Log runs to Weights & Biases: metrics, tables, plots, clips and artifacts.

Metrics come from `lightning_module.py`, `gradient_norms.py`, `throughput.py` and `skipped_videos.py`. Tables, plots and
clips come from `diagnostics.py`. The config and the provenance come from `config.py`.

By default, a run without an account or without internet access is logged offline, and can be uploaded later.
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
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from farfield.errors import FarfieldError
from farfield.lightning_compat import process_rank
from farfield.training.diagnostics import Diagnostics
from farfield.video.writer import write_video

log = logging.getLogger("farfield")


@dataclass(frozen=True)
class WandbSettings:
    """Weights & Biases settings.

    Args:
        mode: "online", "offline" or "disabled". "auto" is online if there is an account (WANDB_API_KEY or `wandb
            login`) and the server can be reached, otherwise offline. The environment variable WANDB_MODE overrides this
            setting.
        project: project to log to.
        name: name of the run; None for the name of the run folder.
        artifacts: log manifests and checkpoints as artifacts.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "farfield"
    name: str | None = None
    artifacts: bool = True


def make_wandb_logger(settings: WandbSettings, run_dir: Path, config: dict[str, Any]) -> WandbLogger | None:
    """Start logging a run; a resumed run keeps its id. Return None if the mode is "disabled".

    Raises:
        FarfieldError: if mode is "online" and the server cannot be reached.
    """
    mode: str = os.environ.get("WANDB_MODE", settings.mode)
    mode = {"dryrun": "offline", "run": "online"}.get(mode, mode)  # older names; Lightning sets the first
    if mode == "disabled":
        return None
    reason = "as requested"
    if mode == "auto":
        reason = _why_offline()
        mode = "offline" if reason else "online"
    if process_rank() != 0:
        return WandbLogger(project=settings.project)  # logs nothing: only the first process does
    import wandb  # late: it takes half a second

    id_file = run_dir / "wandb_run_id"
    if not id_file.is_file():
        id_file.write_text(os.environ.get("WANDB_RUN_ID", uuid4().hex[:8]) + "\n")  # set by a sweep agent

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
        logger.experiment  # noqa: B018  # starts the run
    except wandb.errors.CommError as error:
        reason = str(error).splitlines()[0]
        raise FarfieldError(
            f"Weights & Biases cannot be reached: {reason}. Use --wandb.mode offline to log to the run folder only."
        ) from error
    if mode == "offline":
        parts = shlex.join(map(str, _unsynced_folders(Path(logger.experiment.dir).parent, logger.experiment.id)))
        log.info("Weights & Biases is offline: %s. To upload the run later: wandb sync %s", reason, parts)
    return logger


def _unsynced_folders(folder: Path, run_id: str) -> list[Path]:
    """List the offline folders of a run that are not uploaded yet, oldest first. Each resume adds a folder.

    wandb has no API for this. The folders are found by name, and uploaded folders by the .synced file that `wandb
    sync` leaves in them. Both names follow wandb's undocumented convention (as of 0.31).
    """
    parts = {*folder.parent.glob(f"offline-run-*-{run_id}"), folder}
    return sorted(part for part in parts if part == folder or not any(part.glob("*.wandb.synced")))


def sweep_folder(run_dir: Path) -> Path:
    """Return `run_dir`; for a run of a W&B sweep, the subfolder of `run_dir` that is named after the run's id."""
    run_id = os.environ.get("WANDB_RUN_ID")
    return run_dir / run_id if run_id and os.environ.get("WANDB_SWEEP_ID") else run_dir


def has_wandb_account() -> bool:
    """Return whether an API key is in the environment or in the netrc file, where `wandb login` writes it."""
    return bool(os.environ.get("WANDB_API_KEY")) or requests.utils.get_netrc_auth(_wandb_host()) is not None


def _why_offline() -> str:
    """Return the reason to log offline; an empty string if the run can be logged online."""
    if not has_wandb_account():
        return "no account was found"
    try:
        requests.head(_wandb_host(), timeout=5)  # any response means that it is reachable
    except requests.RequestException:
        return f"{_wandb_host()} cannot be reached"
    return ""


def _wandb_host() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def log_diagnostics(logger: WandbLogger, found: Diagnostics) -> None:
    """Log the tables, plots and clips from one validation run."""
    import wandb

    media: dict[str, Any] = {"trainer/global_step": found.step, "epoch": found.epoch}
    media["val/expected_calibration_error"] = found.expected_calibration_error
    for name, table in found.tables.items():
        media[f"val/{name}"] = wandb.Table(columns=list[str | int](table.columns), data=table.rows)
    for name, figure in found.pictures.items():
        media[f"val/{name}"] = wandb.Image(figure)
    with TemporaryDirectory() as folder:  # log() copies the files
        for name, clips in found.clips.items():
            videos = []
            for i, clip in enumerate(clips):
                path = Path(folder, f"{name}_{i}.mp4")
                write_video(path, clip.frames, fps=4)  # slow enough to see each of the few frames
                videos.append(wandb.Video(str(path), caption=clip.caption, format="mp4"))
            if videos:
                media[f"val/{name}"] = videos
        logger.experiment.log(media)


class WandbArtifacts(Callback):
    """Log manifests and checkpoints as artifacts; checkpoints get the aliases "best" and "last".

    Args:
        manifests: manifest file of each split, by the split's name.
        folder: folder of the checkpoints.
    """

    def __init__(self, manifests: dict[str, Path], folder: Path) -> None:
        self.manifests = manifests
        self.folder = folder

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for split, path in self.manifests.items():
            self._log(trainer, f"manifest-{split}", "dataset", path, [])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for alias in ("best", "last"):  # "last" second, so that it is also "latest"
            path = self.folder / f"{alias}.ckpt"
            if path.is_file():
                self._log(trainer, f"model-{trainer.logger.version}", "model", path, [alias])  # type: ignore[union-attr]

    def _log(self, trainer: Trainer, name: str, kind: str, path: Path, aliases: list[str]) -> None:
        if not trainer.is_global_zero or not isinstance(trainer.logger, WandbLogger):
            return
        import wandb

        artifact = wandb.Artifact(name, kind)
        # "mutable" copies the file: a resumed run may overwrite last.ckpt before an offline run is uploaded.
        artifact.add_file(str(path), policy="mutable", skip_cache=True)
        trainer.logger.experiment.log_artifact(artifact, aliases=aliases)
