"""The LightningModule. A table of contents: what is trained, the step, the optimiser, what a checkpoint holds."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from farfield.build import build_model
from farfield.checkpoints.checkpoint import checkpoint_metadata
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.scoring.aggregation import split_views
from farfield.training.execution import Execution, make_ready
from farfield.training.freezing import learning_rate_scales, prepare
from farfield.training.fsdp import shard
from farfield.training.optimisation import Optimisation, make_optimizer
from farfield.training.region_loss import region_logits, region_loss, supervises_regions
from farfield.training.resumed_schedule import ScheduleBefore, resumed_total_steps
from farfield.training.schedule import lr_factor, scaled

log = logging.getLogger("farfield")


class ClipBatch(Protocol):
    """What a step needs of a batch."""

    clips: Float[Tensor, "b*v 3 t h w"]
    labels: Int[Tensor, " b"]
    draw: Any
    """`draw.mix`, where clips were mixed: `partner` (place in the batch) and `share` (of a clip's own label)."""


class TrainingModule(LightningModule):
    """Trains, validates and tests a network.

    Args:
        network: what is trained; its keys in a checkpoint begin with "network.".
        optimisation: how.
        execution: how it is run.
        view_batch_size: views that go through the network at once in evaluation, which bounds memory; None for all.
    """

    def __init__(
        self,
        network: ActionNet,
        optimisation: Optimisation | None = None,
        *,
        execution: Execution | None = None,
        view_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.optimisation = optimisation or Optimisation()
        prepare(network, self.optimisation)
        # 3D convolutions and norms are faster so, and what the data gives is in this memory format already.
        self.network = network.to(memory_format=torch.channels_last_3d)
        has_region_loss = self.optimisation.region_loss_weight > 0 and supervises_regions(network)
        make_ready(network, execution or Execution(), has_region_loss=has_region_loss)
        self.view_batch_size = view_batch_size
        self.schedule_before: ScheduleBefore | None = None
        """Of the run that is resumed."""
        self._schedule: dict[str, Any] = {}
        classes = len(network.labels)
        # In checkpoints, so that an epoch's figures are of all its batches when it was entered again in the middle.
        self.train_loss, self.train_top1 = MeanMetric(), MulticlassAccuracy(classes, average="micro")
        self.train_loss.persistent(True)
        self.train_top1.persistent(True)
        self.val_accuracy = MetricCollection(
            {
                "top1": MulticlassAccuracy(classes, average="micro"),
                "top5": MulticlassAccuracy(classes, average="micro", top_k=min(5, classes)),
            },
            prefix="val/",
        )
        self.val_loss = MeanMetric(math.inf)  # a NaN counts as that; by default it is left out
        self.val_confusion_matrix: Tensor | None = None
        self.val_confusion = MulticlassConfusionMatrix(classes)
        self.val_scores: list[tuple[Tensor, Tensor, Tensor]] = []
        """(indices, labels, probabilities) of each batch of the last validation, of all processes."""
        self.test_scores: list[tuple[Tensor, Tensor, Tensor]] = []
        """(indices, labels, probabilities of each view) of each test batch."""

    def configure_model(self) -> None:
        mesh = self.device_mesh  # of strategies that shard
        if mesh is not None and not isinstance(self.network, FSDPModule):
            sync = getattr(self.trainer.strategy, "_layer_sync", None)  # DDP applies it by itself
            shard(self.network if sync is None else sync.apply(self.network), mesh["data_parallel"])

    def forward(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b classes"]:
        return self.network(clips)

    def on_train_start(self) -> None:
        """A checkpoint brings its own optimiser's settings along; when a run is resumed, those of the config count."""
        optimizer, scheduler = self.trainer.optimizers[0], self.trainer.lr_scheduler_configs[0].scheduler
        assert isinstance(scheduler, LambdaLR)
        for group, settings, factor in zip(
            optimizer.param_groups, self._group_settings, scheduler.lr_lambdas, strict=True
        ):
            group.update(settings, lr=settings["initial_lr"] * factor(scheduler.last_epoch))
        scheduler.base_lrs = [settings["initial_lr"] for settings in self._group_settings]

    def on_train_batch_start(self, batch: ClipBatch, batch_idx: int) -> None:
        if batch_idx == 0:  # a checkpoint written at an epoch's end still holds that epoch's sums
            self.train_loss.reset()
            self.train_top1.reset()
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.zero_grad()  # Lightning does so only after the way forth, which would keep the old gradients in memory

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        with region_logits(self.network) as regions:
            logits = self(batch.clips)
        loss = mixed_cross_entropy(logits, batch, self.optimisation.label_smoothing)
        if regions and self.optimisation.region_loss_weight:
            auxiliary = region_loss(regions, batch.labels)
            self.log(
                "train/region_loss",
                auxiliary,
                on_step=False,
                on_epoch=True,
                batch_size=len(batch.labels),
                sync_dist=True,
            )
            loss = loss + self.optimisation.region_loss_weight * auxiliary
        self.train_loss.update(loss.detach(), weight=len(batch.labels))
        self.train_top1.update(logits.detach(), batch.labels)
        self.last_loss, self.last_lr = loss.detach(), self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log_dict({"train/loss_step": loss, "lr": self.last_lr}, prog_bar=True)
        epoch = {"train/loss": self.train_loss, "train/top1": self.train_top1}
        self.log_dict(epoch, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.val_scores = []

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        probabilities = self.score(batch).mean(1)
        if len(batch.labels) == 0:  # none of the batch's videos could be read
            return probabilities
        self.val_scores.append((batch.indices.cpu(), batch.labels.cpu(), probabilities.cpu()))
        self.val_accuracy.update(probabilities, batch.labels)
        self.val_confusion.update(probabilities, batch.labels)
        loss = F.nll_loss(probabilities.clamp_min(1e-12).log(), batch.labels)
        self.val_loss.update(loss, weight=len(batch.labels))
        return probabilities

    def on_validation_epoch_end(self) -> None:
        confusion = self.val_confusion.compute()
        if not confusion.any() and not self.trainer.sanity_checking:
            raise FarfieldError(
                "no video of the validation can be read; skipped_videos.csv in the run's folder says why. Are the "
                "paths in data.val right?"
            )
        per_class = confusion.sum(1)
        accuracies = confusion.diagonal()[per_class > 0] / per_class[per_class > 0]
        loss = self.val_loss.compute()
        figures = {
            **self.val_accuracy.compute(),
            "val/loss": loss,
            "val/mean_class_accuracy": accuracies.mean().nan_to_num(),
        }
        self.log_dict(figures, prog_bar=True, sync_dist=True)  # all processes have the same; Lightning is told so
        self.val_accuracy.reset()
        self.val_loss.reset()
        self.val_confusion_matrix = confusion
        self.val_confusion.reset()
        if self.trainer.world_size > 1:
            self.val_scores = gather(self.val_scores)

    def on_test_epoch_start(self) -> None:
        self.test_scores = []

    def test_step(self, batch: Any, batch_idx: int) -> None:
        scored = (batch.indices, batch.labels, self.score(batch))
        self.test_scores.append(tuple(part.cpu() for part in scored))  # type: ignore[arg-type]

    def on_test_epoch_end(self) -> None:
        if self.trainer.world_size > 1:  # each process has scored its share of the videos
            self.test_scores = gather(self.test_scores)

    def score(self, batch: ClipBatch) -> Float[Tensor, "b views classes"]:
        """Class probabilities of each view of the videos in a batch; their mean is the video's."""
        videos = len(batch.labels)
        if videos == 0:
            return torch.empty(0, 1, len(self.network.labels), device=self.device)
        pieces = batch.clips.split(self.view_batch_size or len(batch.clips))
        return split_views(torch.cat([self(piece) for piece in pieces]), videos)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps_per_epoch, total_steps = optimizer_steps(self.trainer)
        if total_steps is None and self.optimisation.schedule == "cosine":
            raise FarfieldError(
                "optimisation.schedule is 'cosine', which ends with the run, and the run has no end. Give "
                "trainer.max_epochs or trainer.max_steps, or take schedule: steps."
            )
        settings = scaled(self.optimisation, clips_per_step(self.trainer))
        run_steps = total_steps
        if self.schedule_before is not None and total_steps is not None:
            total_steps = resumed_total_steps(
                self.schedule_before, settings, steps_per_epoch=steps_per_epoch, total_steps=total_steps
            )
        self._schedule = {"steps_per_epoch": steps_per_epoch, "total_steps": total_steps, "run_steps": run_steps}
        factor = partial(lr_factor, settings=settings, steps_per_epoch=steps_per_epoch, total_steps=total_steps or 0)
        scales = None if settings.layer_decay == 1 else learning_rate_scales(self.network, settings.layer_decay)
        optimizer = make_optimizer(self.network, settings, scales)
        scheduler = LambdaLR(optimizer, factor)
        self._group_settings = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        settings = {"optimisation": asdict(self.optimisation), "schedule": self._schedule}
        checkpoint["farfield"] = {**checkpoint_metadata(self.network), **settings}
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            checkpoint["farfield"]["data"] = data.provenance()


def gather(mine: list[Any]) -> list[Any]:
    """What all processes have, in the order of their ranks."""
    theirs: list[list[Any]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(theirs, mine)
    return [each for of_rank in theirs for each in of_rank]


def mixed_cross_entropy(logits: Float[Tensor, "b classes"], batch: ClipBatch, label_smoothing: float) -> Tensor:
    """Cross entropy; of mixed clips, with both labels in proportion (MixUp, CutMix)."""
    mix = None if batch.draw is None else batch.draw.mix
    own = F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing, reduction="none")
    if mix is None:
        return own.mean()
    partners = batch.labels[mix.partner]
    other = F.cross_entropy(logits, partners, label_smoothing=label_smoothing, reduction="none")
    return torch.lerp(other, own, mix.share).mean()


def optimizer_steps(trainer: Trainer) -> tuple[float, int | None]:
    """Returns the optimiser's steps in an epoch and in the whole run; None for one that has no end.

    `trainer.estimated_stepping_batches` would tell, but starts the loader's workers to do so, before a resumed run
    has read where in the epoch it stopped.
    """
    batches = trainer.datamodule.batches_per_epoch()  # type: ignore[attr-defined]  # set by fit(datamodule=)
    per_epoch = -(-batches // trainer.accumulate_grad_batches)
    by_epochs = per_epoch * trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
    by_steps = trainer.max_steps if trainer.max_steps > 0 else None
    total = min((count for count in (by_epochs, by_steps) if count is not None), default=None)
    return per_epoch, total


def clips_per_step(trainer: Trainer) -> int:
    """The clips that an optimiser's step sees, over all processes and accumulated batches."""
    of_process: int = trainer.datamodule.batch_size  # type: ignore[attr-defined]  # set by fit(datamodule=)
    clips = of_process * trainer.world_size * trainer.accumulate_grad_batches
    log.info(
        "a step takes %d clips: batch size %d x processes %d x accumulated batches %d",
        clips,
        of_process,
        trainer.world_size,
        trainer.accumulate_grad_batches,
    )
    return clips


def build_training_module(
    labels: list[str],
    *,
    optimisation: Optimisation = Optimisation(),  # noqa: B008  # frozen
    execution: Execution = Execution(),  # noqa: B008  # frozen
    **network: Any,
) -> TrainingModule:
    """Build a network and wrap it for training. Further options are those of `build_model`.

    Args:
        labels: class names; they come from the training manifest.
        optimisation: learning rate, schedule and regularisation.
        execution: settings that change speed and memory only.
        network: jsonargparse reads the call below, and offers the arguments of `build_model` that it does not set.
    """
    built = build_model(labels=labels, num_classes=None, head_windows=None, **network)
    return TrainingModule(built, optimisation, execution=execution)
