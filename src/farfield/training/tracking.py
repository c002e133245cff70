"""Weights & Biases: the logger, and the media that go with the figures.

Without an account, runs are written offline and can be synced later; nothing in training needs the network.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import requests
import torch
import wandb
from jaxtyping import Float, UInt8
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError
from farfield.evaluation import plot_confusion
from farfield.training.module import ActionRecognizer
from farfield.video_file import write_video

log = logging.getLogger("farfield")


@dataclass(frozen=True)
class WandbSettings:
    """How a run is tracked.

    Args:
        mode: "online", "offline" or "disabled"; "auto" is online with an account (WANDB_API_KEY or `wandb login`),
            else offline. The environment variable WANDB_MODE has the last word.
        project: project to log to.
        name: the run's name; None for the name of its folder.
        num_clips: predicted validation clips to show after each validation.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "farfield"
    name: str | None = None
    num_clips: int = 4


def make_wandb_logger(settings: WandbSettings, run_dir: Path, config: dict[str, Any]) -> WandbLogger | None:
    """Starts tracking; a run that is resumed goes on under the same id. None where tracking is disabled."""
    mode: str = os.environ.get("WANDB_MODE", settings.mode)
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
        id_file.write_text(uuid4().hex[:8] + "\n")

    logger = WandbLogger(
        project=settings.project,
        name=settings.name or run_dir.name,
        save_dir=run_dir,
        id=id_file.read_text().strip(),
        offline=mode in ("offline", "dryrun"),
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
        folder = Path(logger.experiment.dir).parent
        log.info("Weights & Biases is offline: %s. To upload the run later: wandb sync %s", reason, folder)
    return logger


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


class WandbMedia(Callback):
    """Logs the confusion matrix and a few predicted clips after each validation."""

    def __init__(self, num_clips: int) -> None:
        self.num_clips = num_clips
        self._shown: tuple[Any, Tensor] | None = None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shown = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._shown is None and len(batch.labels) and not trainer.sanity_checking:
            self._shown = batch, outputs.detach()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or not isinstance(trainer.logger, WandbLogger) or self._shown is None:
            return
        assert isinstance(pl_module, ActionRecognizer)
        assert pl_module.val_confusion_matrix is not None
        network = pl_module.network
        figure = plot_confusion(pl_module.val_confusion_matrix.cpu(), network.labels)
        media: dict[str, Any] = {"val/confusion_matrix": wandb.Image(figure)}
        batch, probabilities = self._shown
        frames = shown_frames(batch.clips[: self.num_clips], network.clip)
        with TemporaryDirectory() as folder:  # log() copies the files
            clips = []
            for i, (clip, label) in enumerate(zip(frames, batch.labels.tolist(), strict=False)):
                best = int(probabilities[i].argmax())
                certainty = f"{float(probabilities[i, best]):.0%}"
                path = Path(folder, f"clip_{i}.mp4")
                write_video(path, clip, fps=4)  # slow, so that each of the few frames is seen
                caption = f"{network.labels[label]}, taken for {network.labels[best]} ({certainty})"
                clips.append(wandb.Video(str(path), caption=caption, format="mp4"))
            media["val/predicted_clips"] = clips
            trainer.logger.experiment.log(media | {"trainer/global_step": trainer.global_step})


def shown_frames(clips: Float[Tensor, "b c t h w"], spec: ClipSpec) -> UInt8[np.ndarray, "b t h w c"]:
    """A network's input as pictures again."""
    pixels = clips.float().cpu().permute(0, 2, 3, 4, 1) * torch.tensor(spec.std) + torch.tensor(spec.mean)
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8).numpy()
